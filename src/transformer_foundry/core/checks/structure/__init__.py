"""Checks of how a model is built: its layers, settings, registered and initial weights, state dict, drawn blocks."""

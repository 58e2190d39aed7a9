"""Checks of how a model is built: configuration, registered parameters, state dict, drawn blocks."""

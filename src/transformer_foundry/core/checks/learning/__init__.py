"""Checks of what a model needs to learn: gradients, residual stream, activations, one batch."""

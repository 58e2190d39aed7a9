"""Checks of what a model needs to learn: gradients, initialization, residual stream, activations, one batch."""

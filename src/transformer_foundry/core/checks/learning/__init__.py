"""Checks of whether a model can learn: gradients, initialization, residual stream, one batch."""

"""Checks of what a model does with its inputs: shapes, token ids, padding, batch, labels."""

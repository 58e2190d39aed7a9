"""Transformer Foundry: from a transformer drawn in Transformer Builder to a trained, published model."""

__version__ = "0.1.0"

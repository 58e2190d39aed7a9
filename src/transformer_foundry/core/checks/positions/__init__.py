"""Checks of positions: causality, order, position embeddings, receptive field."""

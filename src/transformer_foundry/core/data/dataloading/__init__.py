"""Batches of tokens: the order of rows, and collation. Start at ``batches``."""

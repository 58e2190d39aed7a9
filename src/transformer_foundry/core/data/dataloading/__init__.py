"""Batches of tokens: the order of rows, masking, collation."""

"""Architectures of transformers, each with what it needs and how weights get their names in it."""

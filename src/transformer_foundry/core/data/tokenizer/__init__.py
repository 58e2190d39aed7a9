"""Tokenizers: train one, load one, special tokens."""

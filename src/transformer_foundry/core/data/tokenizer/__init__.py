"""Tokenizers: load one, train one, special tokens. Start at ``tokenizer``."""

"""Infer a model's contract from config, signature and behaviour. Begin with ``infer_contract``."""

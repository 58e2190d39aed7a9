"""Readers of text: built-in corpora, local files, the Hub. Begin with ``read``."""

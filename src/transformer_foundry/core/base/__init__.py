"""Base of core, which imports nothing else of it: errors, options, secrets, texts, nested mappings, lazy imports."""

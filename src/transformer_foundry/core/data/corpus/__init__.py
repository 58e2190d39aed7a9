"""Documents before tokenization: text quality, near-duplicates, assignment to splits. Start at ``corpus``."""

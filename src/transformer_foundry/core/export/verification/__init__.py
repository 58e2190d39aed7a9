"""Prove that an exported file equals the model, in a process of its own."""

"""Sequences of commands, and an independent reader that checks every statement about what they have made.

``truth`` reads checkpoints, metrics, tokens and manifests with the standard library; ``claims`` compares what report,
results, card, registry and lists say; ``commands`` runs the project; ``test_command_sequences`` is the table.
"""

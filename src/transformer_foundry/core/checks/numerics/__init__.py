"""Checks of numbers: finite logits, determinism, devices, mixed precision, sensitivity."""

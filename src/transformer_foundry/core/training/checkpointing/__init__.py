"""Checkpoints: capture the state, write it in the background, verify it, find the newest, resume."""

"""Monitoring of a run: metrics, bad steps, step timing and time budget, validation, and when each is due."""

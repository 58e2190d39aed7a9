"""Experiment tracking with Weights & Biases, online and offline."""

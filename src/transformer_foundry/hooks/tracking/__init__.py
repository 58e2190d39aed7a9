"""Tracking with Weights & Biases, online and offline: begin with ``wandb_callback``."""

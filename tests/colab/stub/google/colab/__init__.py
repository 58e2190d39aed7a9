"""Stands for Colab's own module: its secrets and its Drive, with the refusals that Colab knows."""

"""What to train next: samplers, pruners, and the search that pauses trials."""

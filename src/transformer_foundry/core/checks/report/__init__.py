"""The verdict: findings, their causes, the figure, and the gate before training."""

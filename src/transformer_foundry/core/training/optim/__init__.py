"""Optimizers, the learning rate (to add a schedule: ``schedules``), the moving average of weights."""

"""Optimizers, learning-rate schedules (to add one: ``lr_schedule._FALLS``), the moving average of weights."""

"""Choose what to train next: Optuna's samplers and pruners, and the strategy that pauses trials (``pause_resume``)."""

"""Many trainings: hyper-parameter search (``tuning``) and models side by side (``comparison``)."""

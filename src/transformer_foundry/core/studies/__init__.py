"""Studies of many trainings: search of hyper-parameters (``tuning``) and comparison of models (``comparison``)."""

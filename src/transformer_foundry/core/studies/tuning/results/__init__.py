"""Results of a search: its trials, the best parameters, their confirmation, figures."""

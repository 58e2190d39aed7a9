"""What a search found: trials, best parameters, confirmation, figures."""

"""Build the package of a model: weights, formats, card, and the programs that serve it."""

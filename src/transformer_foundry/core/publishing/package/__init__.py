"""The package of a model: weights, formats, card, code that serves it."""

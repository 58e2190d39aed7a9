"""Checks of attention: splitting of heads, softmax, scaling, entropy."""

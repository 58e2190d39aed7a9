"""Start from weights that exist: find them, match them, transfer them."""

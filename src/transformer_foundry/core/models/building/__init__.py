"""Build the model that an export describes: import its code, find its class, call its constructor."""

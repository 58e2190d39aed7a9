"""Code for transformers (``auto_map``): these files are copied into packages and import nothing of this project."""

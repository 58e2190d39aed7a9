"""What all of core uses and what uses nothing of it: errors, options, secrets, lazy imports."""

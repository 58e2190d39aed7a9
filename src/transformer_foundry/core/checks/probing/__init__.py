"""Tools that checks use to run, trace and locate: begin with ``model_under_test``."""

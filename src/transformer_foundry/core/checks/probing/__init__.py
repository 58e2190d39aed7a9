"""Tools that checks use to run and trace a model and to locate a cause; begin with ``model_under_test``."""

"""Native architectures: whether a drawn model is one that transformers has, proved, with its weights under its names.

Begin with ``recognize.recognize``; ``trace`` and ``walk`` describe a model, ``families`` propose, ``proof`` decides.
"""

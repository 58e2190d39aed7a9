"""Measurements: ratios in one run against a named reference; nothing here asserts a time.

``make bench`` runs them all; one alone: ``python -m tests.benchmarks.engine_speed``.
"""

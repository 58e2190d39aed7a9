"""Findings, root causes, the report as text, json and figure, and the gate before training."""

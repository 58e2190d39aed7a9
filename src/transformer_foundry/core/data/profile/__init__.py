"""The profile of prepared data: statistics, baselines, drift, findings, figures. Start at ``profile``."""

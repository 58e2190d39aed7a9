"""What is known of Colab: the packages that it has, a stub of its own module, an environment without anything else."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
PYTHONS = ("3.12", "3.13")
"""Versions of Python whose published package lists are kept here."""


def colab_packages(python: str) -> dict[str, str]:
    """Return name -> version of what Colab has installed."""
    lines = (FOLDER / f"python-{python}.txt").read_text().split()
    return dict(line.split("==", 1) for line in lines)

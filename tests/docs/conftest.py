"""The modules that make pages lie beside the documentation, where mkdocs finds them."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "docs" / "tooling"))

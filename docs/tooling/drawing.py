"""Draw the pipelines beside the documentation: ``python docs/tooling/drawing.py site/pipelines``."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["draw"]

PROJECT = Path(__file__).resolve().parents[2]
BUILT = PROJECT / "build"  # where kedro-viz writes, which cannot be chosen


def draw(target: Path) -> str:
    """Let kedro-viz write its static site, with the figures and tables that there are, and say what came of it."""
    if importlib.util.find_spec("kedro_viz") is None:
        return "kedro-viz is not installed: the documentation has no drawing of the pipelines."
    if BUILT.exists():
        sys.exit(f"{BUILT} exists. kedro-viz writes its site there: move or delete that folder.")
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    if result.returncode or not (BUILT / "index.html").exists():
        sys.exit(f"kedro-viz could not draw the pipelines:\n{result.stdout}{result.stderr}")
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(BUILT, target)
    return f"The pipelines are drawn in {target}."


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))

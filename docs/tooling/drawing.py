"""Draw the pipelines beside the documentation: ``python docs/tooling/drawing.py site/pipelines``."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["draw"]

_BUILT = "build"  # kedro-viz writes there, seen from where it runs; Kedro finds its project in a folder above


def draw(target: Path) -> str:
    """Let kedro-viz write its static site, with the figures and tables that there are, and say what came of it."""
    if importlib.util.find_spec("kedro_viz") is None:
        return "kedro-viz is not installed: the documentation has no drawing of the pipelines."
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    result = subprocess.run(command, cwd=target.parent, capture_output=True, text=True, check=False)
    built = target.parent / _BUILT
    if result.returncode or not (built / "index.html").exists():
        sys.exit(f"kedro-viz could not draw the pipelines:\n{result.stdout}{result.stderr}")
    built.rename(target)
    return f"The pipelines are drawn in {target}."


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))

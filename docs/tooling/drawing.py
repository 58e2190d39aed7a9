"""Draw the pipelines beside the documentation: ``python docs/tooling/drawing.py site/pipelines``."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["draw"]

PROJECT = Path(__file__).resolve().parents[2]


def draw(target: Path) -> str:
    """Let kedro-viz write its static site, with the figures and tables that there are, and say what came of it."""
    if importlib.util.find_spec("kedro_viz") is None:
        return "kedro-viz is not installed: the documentation has no drawing of the pipelines."
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    # kedro-viz writes into build/ of the working directory, where pip may have left something of its own.
    with tempfile.TemporaryDirectory() as place:
        for name in ("conf", "data", "pyproject.toml"):
            (Path(place) / name).symlink_to(PROJECT / name)
        # Kedro refuses a link to a source folder outside.
        shutil.copytree(
            PROJECT / "src", Path(place) / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
        result = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        built = Path(place) / "build"
        if result.returncode or not (built / "index.html").exists():
            sys.exit(f"kedro-viz could not draw the pipelines:\n{result.stdout}{result.stderr}")
        _forget([Path(place).resolve(), PROJECT], built / "api")
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(built, target)
    return f"The pipelines are drawn in {target}."


def _forget(roots: list[Path], folder: Path) -> None:
    """Make paths below ``roots`` relative in the files of ``folder``: where they lie here is nobody's business."""
    for file in (path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for root in roots:
            content = content.replace(f"{root}/".encode(), b"")
        file.write_bytes(content)


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))

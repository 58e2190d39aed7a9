"""Build the diagram of the pipelines for the documentation: ``python docs/tooling/drawing.py site/pipelines``."""

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
    """Build the static kedro-viz site with the existing figures and tables; return a message with the result."""
    if importlib.util.find_spec("kedro_viz") is None:
        return "warning: kedro-viz is not installed; the documentation is built without the diagram of the pipelines."
    command = [sys.executable, "-m", "kedro", "viz", "build", "--include-previews"]
    # kedro-viz writes to build/ in the working directory, which pip may have used.
    with tempfile.TemporaryDirectory() as place:
        for name in ("conf", "data", "pyproject.toml"):
            (Path(place) / name).symlink_to(PROJECT / name)
        # Kedro refuses a link to a source folder outside the project.
        shutil.copytree(
            PROJECT / "src", Path(place) / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
        result = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        built = Path(place) / "build"
        if result.returncode or not (built / "index.html").exists():
            sys.exit(f"error: kedro-viz could not build the diagram of the pipelines:\n{result.stdout}{result.stderr}")
        _forget([Path(place).resolve(), PROJECT], built / "api")
        shutil.rmtree(target, ignore_errors=True)
        shutil.move(built, target)
    return f"The diagram of the pipelines is in {target}."


def _forget(roots: list[Path], folder: Path) -> None:
    """Make paths below ``roots`` relative in the files of ``folder``, so that no local path is published."""
    for file in (path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        for root in roots:
            content = content.replace(f"{root}/".encode(), b"")
        file.write_bytes(content)


if __name__ == "__main__":
    print(draw(Path(sys.argv[1])))

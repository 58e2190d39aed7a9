"""Colab for tests: its package list, a stub of its module, an environment without other packages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PYTHONS = ("3.12", "3.13")
"""Versions of Python whose published package lists are kept here."""


def colab_packages(python: str) -> dict[str, str]:
    """Return name -> version of what Colab has installed."""
    lines = (FOLDER / f"python-{python}.txt").read_text().split()
    return dict(line.split("==", 1) for line in lines)


_NO_NETWORK = re.compile(
    "NewConnectionError|NameResolution|Timeout|timed out|ProxyError|SSLError|ProtocolError|Connection (reset|aborted)"
    "|Max retries|IncompleteRead|5[0-9][0-9] Server Error"
)
"""What pip says of a network that is not there, or fails for a moment."""


def cannot_reach_an_index(message: str) -> bool:
    """Whether pip's message says that there is no network rather than no fitting version."""
    return bool(_NO_NETWORK.search(message))


def colab_kernel(folder: Path) -> Path | None:
    """Return a folder with the versions of IPython and of its kernel that Colab has, installed once; None offline."""
    if not (folder / "IPython").is_dir():
        newest = FOLDER / f"python-{PYTHONS[-1]}.txt"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "--constraint"]
        done = subprocess.run([*command, str(newest), "ipython", "ipykernel"], capture_output=True, text=True)
        if done.returncode and cannot_reach_an_index(done.stderr):
            return None
        assert done.returncode == 0, done.stderr[-3000:]
    return folder

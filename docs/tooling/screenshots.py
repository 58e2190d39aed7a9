"""Make the pictures of kedro-viz in docs/images: ``python docs/tooling/screenshots.py``.

Needs Chromium or Chrome on the PATH (Debian: ``apt-get install chromium``). The site is built as for ``make docs``,
served on this machine only, and opened in a new profile of a browser without a window, which reaches no other host.
Nothing is clicked: the pictures show what kedro-viz opens with, without its tour of new features. Run it again after a
change to the pipelines' names, namespaces or layers, and look at the pictures.
"""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from drawing import draw
from PIL import Image

__all__ = ["VIEWS", "find_browser", "photograph"]

IMAGES = Path(__file__).resolve().parents[1] / "images"
VIEWS = {
    "pipelines.png": ("?types=nodes", (1200, 800)),
    "pipelines_data.png": ("", (1600, 1200)),
}
"""File in docs/images: query of the address, and the width and height of the window in pixels."""

MAX_BYTES = 150_000
_COLORS = 64
_TIMEOUT_S = 120
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # Chromium refuses to start as root, as in a container, with its sandbox; it opens our pages only
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--virtual-time-budget=15000",  # of the page's clock, in ms: the layout and its transitions end within 3 s
)
# The tour of new features covers a part of the first view.
_STATE = {"showFeatureHints": False}


def find_browser() -> str:
    """Return the path of Chromium or Chrome; exit with a message if there is none."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        names = ", ".join(_BROWSERS)
        sys.exit(f"error: no Chromium is on the PATH, expected one of {names}. On Debian: apt-get install chromium.")
    return found


def photograph(browser: str, site: Path, target: Path) -> None:
    """Write a picture of each of ``VIEWS`` of a built kedro-viz site.

    Args:
        browser: Program, from ``find_browser``.
        site: Folder that ``drawing.draw`` has written; the state of a visitor is added to its index.html.
        target: Folder of the pictures.
    """
    index = site / "index.html"
    state = f"<script>localStorage.setItem('KedroViz', '{json.dumps(_STATE)}')</script>"
    index.write_text(index.read_text(encoding="utf-8").replace("<head>", f"<head>{state}", 1), encoding="utf-8")
    handler = functools.partial(_QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, (query, size) in VIEWS.items():
            _capture(browser, f"http://127.0.0.1:{server.server_port}/{query}", size, target / name)
        server.shutdown()


def _capture(browser: str, address: str, size: tuple[int, int], target: Path) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        file = Path(profile) / "view.png"
        command = [browser, *_OPTIONS, f"--user-data-dir={profile}/profile", f"--screenshot={file}"]
        command += [f"--window-size={size[0]},{size[1]}", address]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        if not file.exists():
            sys.exit(f"error: {browser} made no picture of {address} (exit {result.returncode}):\n{result.stderr}")
        target.parent.mkdir(exist_ok=True)
        # Plain areas and text: 64 colors look the same and take a quarter of the bytes.
        Image.open(file).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE).save(target, optimize=True)
    if target.stat().st_size > MAX_BYTES:
        sys.exit(f"error: {target} has {target.stat().st_size} bytes, expected at most {MAX_BYTES}.")
    print(f"{target}: {size[0]} x {size[1]} pixels, {target.stat().st_size} bytes")


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print no line for each request."""


if __name__ == "__main__":
    program = find_browser()
    with tempfile.TemporaryDirectory() as place:
        draw(Path(place) / "site")
        photograph(program, Path(place) / "site", IMAGES)

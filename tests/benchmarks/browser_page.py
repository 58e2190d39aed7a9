"""How soon the page of a 10M int8 model writes: ``python -m tests.benchmarks.browser_page``.

Needs Chromium and the programs of the page (``python -m transformer_foundry.core.publishing.package.npm_files``).
Everything comes from the loopback interface; the profile is new each time, so nothing is cached.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from tests.core.export import small_models
from tests.core.publishing.browser import CHROMIUM, open_browser, serve
from tests.core.publishing.packaging import checkpoint_of, make_package, write_export
from transformer_foundry.core.models import load_model
from transformer_foundry.core.publishing import Package

RUNS = 5
SIZES = {"vocab_size": 96, "d_model": 448, "n_layer": 12, "max_seq_len": 128}
FORMATS = ["pytorch", "onnx", "onnx-int8"]
_WEIGHT_SCALE = 0.1
# Times since the visitor asked for the page; the text is the example that comes with the model.
_STEPS = """(async () => {
  const ready = performance.now();
  const first = (async () => {
    const before = document.getElementById("answer");
    while (!before.querySelector("mark")?.textContent) await new Promise((resume) => setTimeout(resume));
    return performance.now();
  })();
  const asked = performance.now();
  document.getElementById("form").requestSubmit();
  const at = await first;
  await window.answered;
  const end = performance.now();
  return [ready, at - asked, ready + at - asked, (end - at) / 39];
})()"""


def main() -> int:
    """Print the median and the range of each time."""
    if CHROMIUM is None:
        print("Chromium is not installed")
        return 1
    folder = Path(tempfile.mkdtemp(prefix="foundry-browser-page-"))
    try:
        package = _package(folder)
        (entry,) = [entry for entry in package.manifest["formats"] if entry["format"] == "onnx-int8"]
        count, size = package.manifest["model"]["parameter_count"], entry.get("size_bytes", 0)
        print(f"{count:,} parameters, {entry['status']} int8 file of {size:,} bytes")
        rows = [asyncio.run(_visit(package.folder)) for _ in range(RUNS)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    names = ("page ready", "first token after Run", "first token since the page was asked for", "each further token")
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        print(f"{name:42} {statistics.median(values):7.0f} ms ({min(values):.0f} to {max(values):.0f})")
    return 0


def _package(folder: Path) -> Package:
    export = write_export(folder / "gpt", small_models.RotaryGpt, **SIZES)
    state = checkpoint_of(load_model(export), export)
    for weight in state.model.values():
        # Without normalisation, the activations of twelve wide layers would overflow.
        weight.mul_(_WEIGHT_SCALE)
    return make_package(export, state=state, formats=FORMATS)[1]


async def _visit(folder: Path) -> list[float]:
    with serve(folder) as address:
        async with open_browser() as page:
            await page.open(address + "index.html")
            return await page.run(_STEPS)


if __name__ == "__main__":
    sys.exit(main())

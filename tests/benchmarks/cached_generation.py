"""Generation with and without the cache of keys and values: tokens a second and their ratio, in one process.

    python -m tests.benchmarks.cached_generation [TOKENS]

The bundled GPT with a window of 256 tokens writes TOKENS (200) at temperature 0, one thread, alternately with
``model-cached.onnx`` and ``model.onnx``; then the same with ``model.js``, run by Node. The texts must be equal.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.core.publishing.answers import answering_package
from tests.core.publishing.serving import module_of

_ROUNDS = 5
_WINDOW = 256
_PAGE = """
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
globalThis.fetch = async (url) => new Response(await readFile(fileURLToPath(url)));
const { Model } = await import(process.argv[2]);
const model = await Model.load();
const began = performance.now();
let text = "";
const settings = { maxNewTokens: Number(process.argv[3]), temperature: 0 };
for await (const step of model.generate("The value", settings)) text = step.text;
console.log(JSON.stringify([(performance.now() - began) / 1000, text, model.entry.file]));
"""


def main(tokens: int) -> int:
    """Print the figures; return 1 if the texts differ."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = answering_package("gpt", Path(scratch), max_seq_len=_WINDOW).folder
        ways = {"cached": None, "plain": "model.onnx"}
        program = module_of(folder, "inference")
        models = {name: program.Model(folder, file, threads=1) for name, file in ways.items()}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        texts: dict[str, set[str]] = {name: set() for name in ways}
        for _ in range(_ROUNDS):
            for name, model in models.items():
                began = time.perf_counter()
                texts[name].add(model.generate("The value", max_new_tokens=tokens, temperature=0).text)
                seconds[name].append(time.perf_counter() - began)
        _show("inference.py", tokens, seconds)
        page: dict[str, list[float]] = {name: [] for name in ways}
        (Path(scratch) / "page.mjs").write_text(_PAGE)
        manifest = json.loads((folder / "manifest.json").read_text())
        for _ in range(_ROUNDS):
            for name in ways:
                native = manifest["native"] if name == "cached" else {}
                (folder / "manifest.json").write_text(json.dumps(manifest | {"native": native}))
                command = ["node", "page.mjs", (folder / "model.js").as_uri(), str(tokens)]
                done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=True)
                spent, text, _ = json.loads(done.stdout.splitlines()[-1])
                page[name].append(spent)
                texts[name].add(text)
        _show("model.js (Node)", tokens, page)
    are_equal = len(texts["cached"] | texts["plain"]) == 1
    print("texts are equal" if are_equal else f"texts differ: {texts}")
    return 0 if are_equal else 1


def _show(program: str, tokens: int, seconds: dict[str, list[float]]) -> None:
    speed = {name: tokens / statistics.median(values) for name, values in seconds.items()}
    ratio = speed["cached"] / speed["plain"]
    print(f"{program}: {speed['cached']:.0f} tokens/s with the cache, {speed['plain']:.0f} without, {ratio:.1f}x")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))

"""Run a GGUF file in llama.cpp, where ``llama-cpp-python`` is installed, and compare it with the native model.

A process of its own does it, since a file that llama.cpp does not like may end the process::

    python -m transformer_foundry.core.export.gguf.llama_cpp PACKAGE REPORT

The REPORT is JSON: ``version``, ``texts``, ``prompts``, ``new_tokens``, ``max_abs_error`` of the logits, and
``problem``, empty if tokens and greedy continuations are the native model's; or only ``unusable``, if the library
itself cannot be loaded.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.export.files import GGUF_FILE, NATIVE_FOLDER
from transformer_foundry.core.export.verify_file import TIMEOUT_S, lean_environment

__all__ = ["compare_with_native", "has_llama_cpp", "run_in_llama_cpp"]

_PROMPTS = 5
_NEW_TOKENS = 24
_CONTEXT = 256
_FLOAT32 = 0  # ggml's number of the type, for a cache that does not round to 16 bits
# llama.cpp reads GELU from a table of 16-bit numbers: its logits are off by this, times the largest one above 1.
_TOLERANCE = 1e-2
# Words, contractions, numbers, spaces, lines, code, other scripts, combining marks, emoji.
TEXTS = (
    "The value of the argument is returned",
    "Once upon a time, there was a small model.",
    "I'm sure they've said it's John's; we'll see, he'd know.",
    "DON'T SHOUT, I'VE HEARD",
    "1 22 333 4444 55555 3.14159 1,000,000",
    "  two spaces before, three   within, one after ",
    "line one\nline two\n\nline four\r\n\tindented",
    "def f(x):\n    return x ** 2  # square\n",
    '{"key": [1, 2.5e-3, null]}',
    "a.b.c/d\\e_f-g+h=i",
    "!?!? ... --- ### $$$ %%% &&& ***",
    "Größe, naïve, façade, élève, Žižek",
    "Привет, мир! Как дела?",
    "你好,世界。今天天气很好",
    "こんにちは世界、元気ですか",
    "مرحبا بالعالم ١٢٣",
    "नमस्ते दुनिया",
    "e\u0301 and \u00e9, A\u030a and \u00c5",
    "🙂 🚀 👩\u200d💻 🇩🇪",
    "x",
)


def has_llama_cpp() -> bool:
    """Return whether ``llama-cpp-python`` is installed."""
    return importlib.util.find_spec("llama_cpp") is not None


def run_in_llama_cpp(folder: Path) -> dict[str, Any]:
    """Run ``model.gguf`` of a package in another process; return its report, or only a ``problem`` if it failed."""
    with tempfile.TemporaryDirectory(prefix="foundry-llama-") as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", __name__, str(folder.absolute()), str(report)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, env=lean_environment(), timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return {"problem": f"still running after {TIMEOUT_S} s"}
        if report.is_file():
            return dict(json.loads(report.read_text(encoding="utf-8")))
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return {"problem": f"exit code {done.returncode}: {lines[-1] if lines else 'no message'}"}


def compare_with_native(folder: Path) -> dict[str, Any]:
    """Compare tokens of texts, logits and greedy continuations of a package's GGUF file with its native model."""
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as err:
        return {"unusable": one_line(err, 200)}
    import tokenizers
    import transformers

    native: Any = transformers.AutoModelForCausalLM.from_pretrained(folder / NATIVE_FOLDER).eval()
    context = min(_CONTEXT, native.config.max_position_embeddings)
    llama: Any = llama_cpp.Llama(
        str(folder / GGUF_FILE),
        n_ctx=context,
        n_threads=torch.get_num_threads(),
        logits_all=True,
        type_k=_FLOAT32,
        type_v=_FLOAT32,
        verbose=False,
    )
    backend: Any = tokenizers.Tokenizer.from_file(str(folder / NATIVE_FOLDER / "tokenizer.json"))
    # The names of special tokens in a text are ordinary text, in training too.
    backend.encode_special_tokens = True
    found = {"version": llama_cpp.__version__, "texts": len(TEXTS), "prompts": _PROMPTS, "problem": ""}
    rows = [list(backend.encode(text).ids) for text in TEXTS]
    for text, ids in zip(TEXTS, rows, strict=True):
        if llama.tokenize(text.encode(), add_bos=True, special=False) != ids:
            return found | {"problem": f"it has other tokens for {text!r}"}
    errors, written = [0.0], 0
    for ids in rows[:_PROMPTS]:
        error, problem, count = _greedy(llama, native, ids[: max(1, context // 2)], context)
        errors.append(error)
        written += count
        if problem:
            found["problem"] = problem
            break
    return found | {"new_tokens": written, "max_abs_error": max(errors)}


@torch.no_grad()
def _greedy(llama: Any, native: Any, ids: list[int], context: int) -> tuple[float, str, int]:
    """Return the largest difference of logits, what is wrong, and how many tokens both have written."""
    llama.reset()
    llama.eval(ids)
    worst, count = 0.0, 0
    while count < _NEW_TOKENS and len(ids) < context:
        expected = native(torch.tensor([ids])).logits[0, -1].numpy()
        logits = np.asarray(llama.scores[llama.n_tokens - 1])
        error = float(np.abs(expected - logits).max())
        worst, allowed = max(worst, error), _TOLERANCE * max(1.0, float(np.abs(expected).max()))
        if error > allowed:
            return worst, f"its logits differ by {error:.3g}; at most {allowed:.3g} is allowed", count
        second, best = np.argsort(expected)[-2:]
        if expected[best] - expected[second] <= 2 * error:
            break  # a tie, which rounding decides
        if int(logits.argmax()) != best:
            return worst, f"it continues with token {int(logits.argmax())} instead of {best}", count
        ids, count = [*ids, int(best)], count + 1
        llama.eval(ids[-1:])
    return worst, "", count


def main(arguments: list[str]) -> int:
    """Compare the file of ``PACKAGE`` and write ``REPORT``."""
    folder, report = (Path(item) for item in arguments)
    report.write_text(json.dumps(compare_with_native(folder)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

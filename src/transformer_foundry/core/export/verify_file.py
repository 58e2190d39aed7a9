"""Verify one exported file in a separate process: load it, run the reference cases, compare.

A process that has never seen the model cannot take anything from it. ``Verification`` starts it and reads its report::

    python -m transformer_foundry.core.export.verify_file FORMAT FILE CASES REPORT [LABELLED]

The process writes one line of JSON to REPORT before and after each case, so that a crash is known by its case.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformer_foundry.core.export.formats.table import FORMATS, GGUF_FORMAT, TRANSFORMERS_FORMAT, format_module
from transformer_foundry.core.export.verification.error_reasons import explain
from transformer_foundry.core.export.verification.parity import Run, compare, place_of, read_cases
from transformer_foundry.core.export.verification.quality import Score, difference, score_logits

__all__ = ["Verification", "lean_environment", "main", "open_file"]

# The slowest sound file seen took 20 s; a process that hangs fails too.
TIMEOUT_S = 900

_SOURCE_ROOT = Path(__file__).resolve().parents[3]
# What Python and its libraries need: the code of a model gets no other variable of the environment.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "PYTHONPATH",
)  # fmt: skip


class Verification:
    """A running process that verifies one file.

    Args:
        format_name: Format of the file.
        path: The file.
        cases: File of the reference cases; the report is written beside it.
        labelled: File of labelled rows to score as well.

    Attributes:
        score: Score on the labelled rows, as the fields of a ``quality.Score``; None before ``wait`` and without rows.
    """

    def __init__(self, format_name: str, path: Path, cases: Path, labelled: Path | None = None) -> None:
        self._report = cases.with_name(f"{path.name}.jsonl")
        self._report.unlink(missing_ok=True)
        self.score: dict[str, Any] | None = None
        files = [str(item.absolute()) for item in (path, cases, self._report, *filter(None, [labelled]))]
        command = [sys.executable, "-m", "transformer_foundry.core.export.verify_file", format_name, *files]
        self._errors = cases.with_name(f"{path.name}.stderr").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors, env=lean_environment()
        )

    def wait(self) -> tuple[list[dict[str, Any]], str]:
        """Wait for the process; return its rows, and why it failed, empty if it did not."""
        with self._errors:
            try:
                code = self._process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                code = self._process.wait()
                self._errors.write(f"\nTimeout: still running after {TIMEOUT_S} s")
            self._errors.seek(0)
            errors = self._errors.read()
        written = self._report.read_text(encoding="utf-8") if self._report.exists() else ""
        entries = [json.loads(line) for line in written.splitlines()]
        rows = [entry for entry in entries if "max_abs_error" in entry]
        self.score = next((entry["score"] for entry in entries if "score" in entry), None)
        if code == 0:
            return rows, ""
        place = entries[-1].get("trying") if entries else None
        where = place_of(place) if place else "when it is loaded"
        return rows, f"fails {where} in a fresh process: {explain(_last_error(errors, code))}"


def lean_environment() -> dict[str, str]:
    """Return the environment of a process that runs the code of a model: without tokens and other variables.

    The process finds this package as its parent did: installed, or from a clone on ``sys.path``.
    """
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    paths = [str(_SOURCE_ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    # No __pycache__ in the folder that is to be published.
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


def open_file(format_name: str, path: Path) -> Run:
    """Return a function that runs the exported file ``path`` on named arrays and returns logits."""
    if format_name == TRANSFORMERS_FORMAT:
        from transformer_foundry.core.export.transformers_code.open_model import open_transformers

        return open_transformers(str(path.parent))
    if format_name == GGUF_FORMAT:
        from transformer_foundry.core.export.gguf.reference import open_gguf

        return open_gguf(path)
    return format_module(format_name).open_file(path)


def main(arguments: list[str]) -> int:
    """Verify ``FORMAT FILE CASES`` and write ``REPORT``; score the rows of ``LABELLED`` if there is one."""
    format_name, path, cases, report, *labelled = arguments
    run = open_file(format_name, Path(path))
    is_variant = format_name in FORMATS and FORMATS[format_name].is_variant
    with Path(report).open("w", encoding="utf-8", buffering=1) as lines:
        for case in read_cases(Path(cases)):
            place = {"batch": case.batch, "length": case.length}
            lines.write(json.dumps({"trying": place}) + "\n")
            logits = run(case.inputs)
            error, problem = (None, "") if is_variant else compare(case, logits)
            found = difference(case, logits) if is_variant else {"max_abs_error": error, "problem": problem}
            lines.write(json.dumps(place | found) + "\n")
        for file in labelled:
            # The cases of this file hold labels in place of logits.
            scores = [score_logits(run(case.inputs), case.logits) for case in read_cases(Path(file))]
            total = Score.total(scores)
            lines.write(json.dumps({"score": total and asdict(total)}) + "\n")
    return 0


def _last_error(errors: str, code: int) -> str:
    if code < 0 and "Timeout: " not in errors:
        return f"killed by signal {-code}"
    lines = [line for line in errors.splitlines() if line.strip()]
    # The last line of a traceback that is not indented names the exception.
    named = [index for index, line in enumerate(lines) if not line.startswith((" ", "\t")) and ":" in line]
    start = named[-1] if named else -1
    return "\n".join(lines[start:]) if lines else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Start a process that verifies one file, and read its verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformer_foundry.core.export.verification.error_reasons import explain

__all__ = ["Verdict", "Verification", "judge", "lean_environment"]

# A hang is a failure too; the slowest sound file seen took 20 s.
TIMEOUT_S = 900

_SOURCE_ROOT = Path(__file__).resolve().parents[4]
# What Python and its libraries need; nothing else of the environment is for the code of a model.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "PYTHONPATH",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What verification found.

    Attributes:
        rows: For each (batch, length) pair ``batch``, ``length``, ``max_abs_error`` (None when outputs could not be
            compared), and for a variant ``relative_error`` and ``divergence``.
        reason: Why the file is not right, empty if it is.
    """

    rows: list[dict[str, Any]]
    reason: str = ""

    @property
    def max_abs_error(self) -> float | None:
        """Largest error over all pairs, None if one could not be compared."""
        errors = [row["max_abs_error"] for row in self.rows]
        return None if not errors or None in errors else max(errors)


class Verification:
    """A process that runs ``python -m transformer_foundry.core.export.verification.verify_file`` on a file.

    Args:
        format_name: Format of the file.
        path: The file.
        cases: File of the reference cases; the report is written beside it.
        labelled: File of labelled rows to be scored as well.
    """

    def __init__(self, format_name: str, path: Path, cases: Path, labelled: Path | None = None) -> None:
        self._report = cases.with_name(f"{path.name}.jsonl")
        self._report.unlink(missing_ok=True)
        self.score: dict[str, Any] | None = None
        files = [str(item.absolute()) for item in (path, cases, self._report, *filter(None, [labelled]))]
        command = [sys.executable, "-m", f"{__package__}.verify_file", format_name, *files]
        self._errors = cases.with_name(f"{path.name}.stderr").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors, env=lean_environment()
        )

    def wait(self) -> tuple[list[dict[str, Any]], str]:
        """Wait for the process and return its rows and why it failed, an empty string if it did not."""
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
        where = f"at (batch, length) = ({place['batch']}, {place['length']})" if place else "when it is loaded"
        return rows, f"fails {where} in a fresh process: {explain(_last_error(errors, code))}"


def lean_environment() -> dict[str, str]:
    """Return the environment of a process that runs the code of a model: without tokens and all else.

    It finds this package however the parent did: installed, or from a clone on ``sys.path``.
    """
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    paths = [str(_SOURCE_ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    # No __pycache__ in the folder that is to be published.
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}


def judge(rows: list[dict[str, Any]], failure: str, bound: float) -> Verdict:
    """Turn rows of ``{batch, length, max_abs_error, problem}`` into a verdict."""
    shown = [{key: row[key] for key in ("batch", "length", "max_abs_error")} for row in rows]
    if failure:
        return Verdict(shown, failure)
    for row in rows:
        where = f"at (batch, length) = ({row['batch']}, {row['length']})"
        if row["problem"]:
            return Verdict(shown, f"{row['problem']} {where}")
        if row["max_abs_error"] > bound:
            worst = max(rows, key=lambda item: item["max_abs_error"] or 0.0)
            return Verdict(
                shown,
                f"differs from the model by {worst['max_abs_error']:.3g} at (batch, length) = "
                f"({worst['batch']}, {worst['length']}); at most {bound:.3g} is allowed",
            )
    return Verdict(shown)


def _last_error(errors: str, code: int) -> str:
    if code < 0 and "Timeout: " not in errors:
        return f"killed by signal {-code}"
    lines = [line for line in errors.splitlines() if line.strip()]
    # The last line of a traceback that is not indented names the exception.
    named = [index for index, line in enumerate(lines) if not line.startswith((" ", "\t")) and ":" in line]
    start = named[-1] if named else -1
    return "\n".join(lines[start:]) if lines else f"exit code {code}"

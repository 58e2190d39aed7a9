"""Whose code an export is, and whether it may run: own folders may, what comes from outside needs the user's word."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from transformer_foundry.core.base.errors import ExportError, printable
from transformer_foundry.core.exports.fetch import Export
from transformer_foundry.core.exports.first_run import FIRST_RUN_SECONDS, require_first_run
from transformer_foundry.core.exports.screening import screen_code

__all__ = ["admit", "describe_export", "require_trusted"]

_LINES_SHOWN = 20
_LINES_IN_ERROR = 4


def admit(
    export: Export,
    *,
    trust_code: bool = False,
    sha256: str | None = None,
    first_run_seconds: float = FIRST_RUN_SECONDS,
    cache_dir: Path | None = None,
) -> Export:
    """Return ``export`` ready to be built: with the user's word where it needs one, and tried in a process of its own.

    A digest that is given must be that of the export, whatever else is said. To run exactly what ``describe_export``
    has shown, give ``sha256=export.identity``.

    Args:
        export: As ``read_export`` returned it.
        trust_code: The user's word for whatever the source holds.
        sha256: The user's word for one content: ``Export.identity``, 64 hexadecimal characters.
        first_run_seconds: Limit of the first run, in seconds.
        cache_dir: Where first runs are remembered; the user's cache when None.

    Raises:
        ExportError: If the digest is another, the word is missing, or the first run went beyond its limits.
    """
    if sha256 is not None and sha256.strip().lower() != export.identity:
        raise ExportError(
            f"model.sha256 is {sha256}, but '{export.source}' has {export.identity}.",
            "Expected the content that was trusted: it has changed since, or the digest is another's.",
            f"Read {export.model_file}, then set model.sha256 to the digest that it has now.",
        )
    admitted = dataclasses.replace(export, is_trusted=bool(export.is_own or trust_code or sha256))
    require_trusted(admitted)
    require_first_run(admitted, seconds=first_run_seconds, cache_dir=cache_dir)
    return admitted


def describe_export(export: Export) -> str:
    """Return what a user should see before the code runs: files, sizes, sha256, and the lines to read first.

    Example:
        ``print(describe_export(read_export("0123456789abcdef0123456789abcdef")))``
    """
    lines = [f"{export.name}: {export.source}" + (f" at {export.revision}" if export.revision else "")]
    lines += [
        f"  {name:12} {(export.folder / name).stat().st_size:>9,} bytes  sha256 {digest}"
        for name, digest in export.sha256.items()
    ]
    lines.append(f"  both         sha256 {export.identity}")
    found = screen_code(export.model_code)
    lines += [f"  model.py {item}" for item in found[:_LINES_SHOWN]]
    if len(found) > _LINES_SHOWN:
        lines.append(f"  and {len(found) - _LINES_SHOWN} lines more")
    if not found:
        lines.append("  Screening of model.py found nothing beyond computing (it is no sandbox).")
    return "\n".join(map(printable, lines))


def require_trusted(export: Export) -> None:
    """Refuse code from outside that nobody has allowed to run.

    Raises:
        ExportError: With what the code is and what screening found in it.
    """
    if export.is_trusted:
        return
    sizes = ", ".join(f"{name} {(export.folder / name).stat().st_size:,} bytes" for name in export.sha256)
    found = screen_code(export.model_code)
    shown = "; ".join(map(str, found[:_LINES_IN_ERROR])) + ("; ..." if len(found) > _LINES_IN_ERROR else "")
    raise ExportError(
        f"'{export.source}' holds code from outside ({sizes}, sha256 {export.identity}), which has not run yet.",
        f"Expected your word first. Screening: {shown or 'nothing beyond computing found'}.",
        f"Read {export.model_file}, then set model.sha256={export.identity} (--sha256 for the checks).",
    )

"""Refuse code that the user has not approved, and describe it."""

from __future__ import annotations

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.text import printable
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.static_scan import scan_code

__all__ = ["describe_export", "require_trusted"]


_LINES_SHOWN = 20


_LINES_IN_ERROR = 4


def describe_export(export: ModelSource) -> str:
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
    found = scan_code(export.model_code)
    lines += [f"  model.py {item}" for item in found[:_LINES_SHOWN]]
    if len(found) > _LINES_SHOWN:
        lines.append(f"  and {len(found) - _LINES_SHOWN} lines more")
    if not found:
        lines.append("  Screening of model.py found nothing beyond computing (it is no sandbox).")
    return "\n".join(map(printable, lines))


def require_trusted(export: ModelSource) -> None:
    """Refuse code from outside that nobody has allowed to run.

    Raises:
        ModelError: With what the code is and what screening found in it.
    """
    if export.is_trusted:
        return
    sizes = ", ".join(f"{name} {(export.folder / name).stat().st_size:,} bytes" for name in export.sha256)
    found = scan_code(export.model_code)
    shown = "; ".join(map(str, found[:_LINES_IN_ERROR])) + ("; ..." if len(found) > _LINES_IN_ERROR else "")
    raise ModelError(
        f"'{export.source}' holds code from outside ({sizes}, sha256 {export.identity}), which has not run yet.",
        f"Expected your word first. Screening: {shown or 'nothing beyond computing found'}.",
        f"Read {export.model_file}, then set model.sha256={export.identity} (--sha256 for the checks).",
    )

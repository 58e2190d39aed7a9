"""Describe the code of an export, and refuse it without the user's approval."""

from __future__ import annotations

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.text import printable
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.static_scan import scan_code

__all__ = ["describe_export", "require_trusted"]

_LINES_SHOWN = 20
_LINES_IN_ERROR = 4


def describe_export(export: ModelSource) -> str:
    """Return what a user should see before the code runs: files, sizes, digests, and the lines to read first.

    Example:
        ``print(describe_export(read_export("0123456789abcdef0123456789abcdef")))``
    """
    lines = [f"{export.name}: {export.source}" + (f" at {export.revision}" if export.revision else "")]
    lines += [
        f"  {name:12} {(export.folder / name).stat().st_size:>9,} bytes  sha256 {digest}"
        for name, digest in export.sha256.items()
    ]
    lines.append(f"  {'all' if export.support else 'both':12} sha256 {export.identity}")
    found = _scan(export)
    lines += [f"  {item}" for item in found[:_LINES_SHOWN]]
    if len(found) > _LINES_SHOWN:
        lines.append(f"  and {len(found) - _LINES_SHOWN} more lines")
    if not found:
        lines.append(f"  The static scan of {', '.join(export.code_files)} found nothing but computing.")
    lines.append(
        "  The scan helps a reader; code can evade it. The trial run, in a sandbox, restricts what the code can do."
    )
    return "\n".join(map(printable, lines))


def require_trusted(export: ModelSource) -> None:
    """Refuse external code without approval.

    Raises:
        ModelError: If the code is not approved; shows its digest and the findings of the static scan.
    """
    if export.is_trusted:
        return
    sizes = ", ".join(f"{name} {(export.folder / name).stat().st_size:,} bytes" for name in export.sha256)
    found = _scan(export) if export.support else [str(item) for item in scan_code(export.model_code)]
    shown = "; ".join(found[:_LINES_IN_ERROR]) + ("; ..." if len(found) > _LINES_IN_ERROR else "")
    raise ModelError(
        f"'{export.source}' is external code ({sizes}, sha256 {export.identity}) that is not approved.",
        f"Expected your approval before it runs. The static scan, a help that code can evade, found: "
        f"{shown or 'nothing but computing'}.",
        # Not the path of the copy: the check before a run unpacks it to a folder that is gone by now.
        f"Read model.py of '{export.source}', then approve this code: model.sha256={export.identity}, or "
        "model.trust_code=true (checks: --sha256, --trust-code).",
    )


def _scan(export: ModelSource) -> list[str]:
    return [f"{name} {item}" for name, code in export.code_files.items() for item in scan_code(code)]

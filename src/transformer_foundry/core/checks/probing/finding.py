"""Findings of the checks: what violates a property, where it is and how to fix it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from transformer_foundry.core.base.secrets import redact

if TYPE_CHECKING:
    from transformer_foundry.core.checks.probing.location import Location

__all__ = ["SEVERITIES", "Finding", "Severity", "finding_at"]

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """A violation of a property, or a note, that a check reports about a model.

    Attributes:
        check: Name of the property, for example ``causality``.
        severity: ``error`` (training is pointless or impossible), ``warning`` (training works, but worse than it
            could) or ``info`` (worth knowing, not a problem).
        message: What was observed, with numbers, and why it matters.
        where: Drawn block, file and line, module, as far as they are known; empty for the whole model.
        fix: How to fix it.
    """

    check: str
    severity: Severity
    message: str
    where: str = ""
    fix: str = ""

    def __post_init__(self) -> None:
        assert self.severity in SEVERITIES, self.severity
        # A finding is printed, drawn and written; an exception or a line of code that it quotes may hold a secret.
        for name in ("message", "where", "fix"):
            object.__setattr__(self, name, redact(getattr(self, name)))

    @property
    def is_problem(self) -> bool:
        """Return whether the finding is an error or a warning."""
        return self.severity != "info"


def finding_at(check: str, severity: Severity, message: str, location: Location, fix: str = "") -> Finding:
    """Return a finding at ``location``; ``fix`` becomes an instruction for the drawn block there, if there is one.

    Args:
        check: Name of the property that is violated, as in the report.
        severity: ``error``, ``warning`` or ``info``.
        message: What was observed, with the values found, and why it matters.
        location: Where it was observed.
        fix: What to change.
    """
    return Finding(check, severity, message, str(location), location.instruction(fix))

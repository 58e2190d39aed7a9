"""Report of the checks as a dictionary and as plain text."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any

from transformer_foundry.core.base.text import printable
from transformer_foundry.core.checks.probing.finding import SEVERITIES, Finding
from transformer_foundry.core.checks.probing.measurements import Measurements

__all__ = ["Report"]

_TEXT_WIDTH = 100


@dataclass(frozen=True)
class Report:
    """Result of all checks of one model.

    Attributes:
        kind: Kind of the model; None if unknown.
        findings: The findings, errors first; within a severity, causes before their consequences.
        seconds: Duration of the checks.
        measurements: Values that the figure shows; not part of ``to_dict``.
    """

    kind: str | None
    findings: tuple[Finding, ...]
    seconds: float
    measurements: Measurements = field(default_factory=Measurements, compare=False, repr=False)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Errors and warnings."""
        return tuple(finding for finding in self.findings if finding.is_problem)

    @property
    def status(self) -> str:
        """``pass`` when there are neither errors nor warnings, else ``fail``."""
        return "fail" if self.problems else "pass"

    def to_dict(self) -> dict[str, Any]:
        """Return ``{"status", "kind", "findings": [{"check", "severity", "message", "where", "fix"}], "seconds"}``."""
        return {
            "status": self.status,
            "kind": self.kind,
            "findings": [asdict(finding) for finding in self.findings],
            "seconds": round(self.seconds, 2),
        }

    def to_text(self) -> str:
        """Return the report as text, one paragraph per finding."""
        return "\n".join([self._verdict(), *(_paragraph(finding) for finding in self.findings)])

    def _verdict(self) -> str:
        counts = {name: sum(finding.severity == name for finding in self.findings) for name in SEVERITIES}
        kind = self.kind or "unknown kind"
        if self.status == "pass":
            return f"PASS: no problem found ({kind}, {self.seconds:.1f} s)."
        parts = [_count(counts[name], name) for name in SEVERITIES[:2] if counts[name]]
        return f"FAIL: {' and '.join(parts)} ({kind}, {self.seconds:.1f} s)."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _paragraph(finding: Finding) -> str:
    lines = [f"\n{finding.severity.upper()}  {finding.check}"]
    for label, text in (("what", finding.message), ("where", finding.where), ("fix", finding.fix)):
        if text:
            instruction = f"  {label:6s}"
            lines.append(
                textwrap.fill(
                    printable(text), _TEXT_WIDTH, initial_indent=instruction, subsequent_indent=" " * len(instruction)
                )
            )
    return "\n".join(lines)

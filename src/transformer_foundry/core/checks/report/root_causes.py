"""Drop findings that follow from another finding, and sort the rest by severity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from transformer_foundry.core.checks.report.report import SEVERITIES, Finding

__all__ = ["keep_root_causes"]

_ALL_MEASURED = frozenset({
    "activation", "attention", "attention entropy", "attention scale", "batch independence", "causality",
    "dead rows", "differentiable", "dropout", "global seed", "gradient flow", "heads", "inputs changed", "labels",
    "length dependence", "logits",
    "loss", "loss at initialisation", "memorising", "memory", "mode", "neighbours", "padding", "positions",
    "precision", "probabilities", "residual", "sensitivity", "source", "squashed logits", "state", "target",
    "token ids",
})  # fmt: skip
# Finding -> the findings that follow from it and are dropped.
CONSEQUENCES: Mapping[str, frozenset[str]] = {
    "runs": _ALL_MEASURED | {"gradients", "configuration", "finite"},
    "finite": _ALL_MEASURED | {"gradients"},
    "determinism": _ALL_MEASURED,
    "unregistered parameters": frozenset({
        "gradients", "state", "configuration", "devices", "memorising", "determinism", "mode", "dropout",
    }),
    "differentiable": frozenset({
        "gradients", "dead rows", "neighbours", "probabilities", "squashed logits", "loss", "memorising",
        "residual", "gradient flow", "labels", "positions",
    }),
    "inputs changed": frozenset({"neighbours", "causality", "padding", "memory", "labels"}),
    "mode": frozenset({"dropout"}),
    "global seed": frozenset({"dropout"}),
    "logits": frozenset({"padding", "neighbours", "loss at initialisation", "causality"}),
    "heads": frozenset({
        "batch independence", "causality", "neighbours", "padding", "length dependence", "positions", "attention",
        "attention scale", "source", "activation", "residual",
    }),
    "attention": frozenset({
        "causality", "length dependence", "padding", "positions", "attention scale", "neighbours", "residual",
    }),
    "attention scale": frozenset({"attention entropy", "neighbours", "sensitivity"}),
    "token ids": frozenset({"neighbours", "gradients", "source", "target", "memorising"}),
    "memory": frozenset({"batch independence", "causality", "neighbours", "padding", "state"}),
    "batch independence": frozenset({
        "causality", "length dependence", "neighbours", "padding", "source", "target", "attention", "positions",
        "gradients", "memorising",
    }),
    "causality": frozenset({
        "neighbours", "positions", "memorising", "attention scale", "attention entropy", "length dependence",
    }),
    "neighbours": frozenset({
        "length dependence", "positions", "dead rows", "padding", "gradients", "residual", "memorising",
    }),
    "source": frozenset({"causality", "gradients", "padding", "memorising"}),
    "target": frozenset({"gradients", "causality", "neighbours", "memorising", "sizes"}),
    "probabilities": frozenset({"loss at initialisation", "memorising", "gradient flow", "sensitivity"}),
    "squashed logits": frozenset({"memorising", "gradient flow"}),
    "gradients": frozenset({"residual", "memorising", "gradient flow"}),
    "positions": frozenset({"gradients"}),
    "dead rows": frozenset({"gradients", "positions"}),
    "residual": frozenset({"gradient flow", "memorising", "sensitivity"}),
    "loss at initialisation": frozenset({"memorising", "gradient flow"}),
    "initialisation": frozenset({"gradient flow", "memorising", "dropout", "loss at initialisation"}),
}  # fmt: skip


def keep_root_causes(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that do not follow from another one, errors first, otherwise in the order of the checks."""
    findings = list(findings)
    causes = {finding.check for finding in findings if finding.is_problem}
    kept: list[Finding] = []
    for finding in findings:
        explained = any(finding.check in CONSEQUENCES.get(cause, frozenset()) for cause in causes - {finding.check})
        if not finding.is_problem or not explained or finding.check not in causes:
            kept.append(finding)
    return sorted(kept, key=lambda finding: SEVERITIES.index(finding.severity))

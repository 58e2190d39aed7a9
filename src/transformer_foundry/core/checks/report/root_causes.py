"""Drop findings that follow from another finding, and sort the rest by severity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from transformer_foundry.core.checks.probing.finding import SEVERITIES, Finding

__all__ = ["keep_root_causes"]

_ALL_MEASURED = frozenset({
    "activation", "attention", "attention entropy", "attention scale", "batch independence", "cache", "causality",
    "constant index", "dead rows", "differentiable", "drawn graph", "dropout", "experts", "global seed",
    "gradient flow", "heads", "ignored input",
    "inputs changed", "labels",
    "length dependence", "logits",
    "loss", "loss at initialization", "memorizing", "memory", "mode", "neighbors", "output table", "overflow",
    "padding", "positions", "precision", "probabilities", "residual", "sensitivity", "source", "squashed logits",
    "state", "target", "token ids", "unused slice",
})  # fmt: skip
# Finding -> the findings that follow from it and are dropped.
CONSEQUENCES: Mapping[str, frozenset[str]] = {
    "runs": _ALL_MEASURED | {"gradients", "configuration", "finite"},
    "finite": _ALL_MEASURED | {"gradients"},
    "determinism": _ALL_MEASURED,
    "unregistered parameters": frozenset({
        "gradients", "state", "configuration", "devices", "memorizing", "determinism", "mode", "dropout",
    }),
    "differentiable": frozenset({
        "gradients", "dead rows", "neighbors", "probabilities", "squashed logits", "loss", "memorizing",
        "residual", "gradient flow", "labels", "positions",
    }),
    "inputs changed": frozenset({"neighbors", "causality", "padding", "memory", "labels", "cache"}),
    "overflow": frozenset({"precision"}),
    "mode": frozenset({"dropout"}),
    "global seed": frozenset({"dropout"}),
    "logits": frozenset({"padding", "neighbors", "loss at initialization", "causality"}),
    "heads": frozenset({
        "batch independence", "causality", "neighbors", "padding", "length dependence", "positions", "attention",
        "attention scale", "source", "activation", "residual", "cache", "unused slice",
    }),
    "attention": frozenset({
        "causality", "length dependence", "padding", "positions", "attention scale", "neighbors", "residual",
    }),
    "attention scale": frozenset({"attention entropy", "neighbors", "sensitivity"}),
    "token ids": frozenset({"unused slice", "neighbors", "gradients", "source", "target", "memorizing"}),
    "memory": frozenset({"batch independence", "causality", "neighbors", "padding", "state", "cache", "mode"}),
    "batch independence": frozenset({
        "causality", "length dependence", "neighbors", "padding", "source", "target", "attention", "positions",
        "gradients", "memorizing", "cache", "unused slice",
    }),
    "causality": frozenset({
        "cache", "mode", "neighbors", "positions", "memorizing", "attention scale", "attention entropy",
        "length dependence",
    }),
    "neighbors": frozenset({
        "length dependence", "positions", "dead rows", "padding", "gradients", "residual", "memorizing",
    }),
    "experts": frozenset({"gradients"}),
    "source": frozenset({"attention", "causality", "gradients", "padding", "memorizing", "unused slice"}),
    "target": frozenset({"unused slice", "gradients", "causality", "neighbors", "memorizing", "sizes"}),
    "probabilities": frozenset({"loss at initialization", "memorizing", "gradient flow", "sensitivity"}),
    "squashed logits": frozenset({"memorizing", "gradient flow"}),
    "gradients": frozenset({"drawn graph", "unused slice", "residual", "memorizing", "gradient flow"}),
    "positions": frozenset({"gradients"}),
    "dead rows": frozenset({"gradients", "positions"}),
    "residual": frozenset({"gradient flow", "memorizing", "sensitivity"}),
    "loss at initialization": frozenset({"memorizing", "gradient flow"}),
    "initialization": frozenset({"gradient flow", "memorizing", "dropout", "loss at initialization"}),
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

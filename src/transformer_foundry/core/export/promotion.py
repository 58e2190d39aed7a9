"""Which version of a model may take the place of another: only one that is better on the same test data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import DeploymentError, suggestion

if TYPE_CHECKING:
    from transformer_foundry.core.export.registry import ModelVersion

__all__ = ["require_better"]


def require_better(version: ModelVersion, present: ModelVersion | None, metric: str) -> None:
    """Refuse to let ``version`` take the place of ``present`` unless its metric is better.

    Raises:
        DeploymentError: If it is not better, has no such metric, or the two were not tested on the same data.
    """
    remedy = "Evaluate it on the test split, or promote it in any case with --force."
    reference = f"{version.name}:{version.version}"
    if metric not in version.metrics:
        raise DeploymentError(
            f"{reference} has no {metric} on the test split.{suggestion(metric, version.metrics)}",
            f"Known: {', '.join(version.metrics) or 'nothing'}.",
            remedy,
        )
    if present is None:
        return
    if version.data_fingerprint is None or version.data_fingerprint != present.data_fingerprint:
        raise DeploymentError(
            f"{reference} and {present.name}:{present.version} were not tested on the same data "
            f"({str(version.data_fingerprint)[:12]} and {str(present.data_fingerprint)[:12]}).",
            "Only figures of the same test data can be compared.",
            "Train it on the data of the other, or promote it in any case with --force.",
        )
    new, old = version.metrics[metric], present.metrics.get(metric)
    is_lower_better = metric in ("loss", "perplexity", "bits_per_byte")
    if old is not None and not (new < old if is_lower_better else new > old):
        raise DeploymentError(
            f"{reference} is not better than {present.name}:{present.version}: {metric} {new:.6g} against {old:.6g}.",
            f"Expected a {'lower' if is_lower_better else 'higher'} {metric} on the test split.",
            "Train a better one, or promote it in any case with --force.",
        )

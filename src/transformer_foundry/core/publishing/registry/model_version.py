"""A version of a registered model, and the rule for promoting it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import DeploymentError, suggestion

__all__ = ["ModelVersion", "require_better"]


@dataclass(frozen=True)
class ModelVersion:
    """One version of a model.

    Attributes:
        name: Name of the model.
        version: Counts from 1.
        folder: Its package.
        package_sha256: Digest of the package's manifest, which holds the digest of every file.
        registered_at: Time of registration, in UTC.
        data_fingerprint: Fingerprint of the data it was trained and tested on; None if unknown.
        metrics: Metrics of the test split.
        lineage: ``run`` and ``run_started_at``, ``step``, ``model`` (identity of code and configuration),
            ``tracking_url`` and the like.
        made_from: What the package is made from; empty if unknown, as version 0.1.0 left it.
        publications: ``repo_id``, ``tag``, ``revision`` of each release on the Hub.
        aliases: Such as ``candidate`` and ``production``.
    """

    name: str
    version: int
    folder: Path
    package_sha256: str
    registered_at: str
    data_fingerprint: str | None
    metrics: Mapping[str, float]
    lineage: Mapping[str, Any]
    made_from: Mapping[str, str | int] = field(default_factory=dict)
    publications: tuple[Mapping[str, Any], ...] = ()
    aliases: tuple[str, ...] = ()


def require_better(version: ModelVersion, present: ModelVersion | None, metric: str) -> None:
    """Refuse to let ``version`` replace ``present`` unless its metric is better.

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
    is_lower_better = metric in ("loss", "perplexity", "bits_per_byte", "rmse", "mae")
    if old is not None and not (new < old if is_lower_better else new > old):
        raise DeploymentError(
            f"{reference} is not better than {present.name}:{present.version}: {metric} {new:.6g} against {old:.6g}.",
            f"Expected a {'lower' if is_lower_better else 'higher'} {metric} on the test split.",
            "Train a better one, or promote it in any case with --force.",
        )

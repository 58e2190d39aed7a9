"""Run the checks of an export or of a module, in order of cause and effect, and make the report."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transformer_foundry.core.checks import build
from transformer_foundry.core.checks.attention import head_split, heads, normalization, scaling
from transformer_foundry.core.checks.inputs import (
    batch_independence,
    labels,
    padding,
    shapes,
    source_and_target,
    token_ids,
)
from transformer_foundry.core.checks.learning import (
    differentiability,
    gradient_flow,
    initialization,
    nonlinearity,
    overfit_one_batch,
    residual_stream,
    unused_parameters,
)
from transformer_foundry.core.checks.numerics import determinism, devices, logits, mixed_precision, sensitivity
from transformer_foundry.core.checks.positions import (
    causality,
    position_embeddings,
    receptive_field,
    relative_positions,
    word_order,
)
from transformer_foundry.core.checks.probing.drawn_graph import Graph
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.report.error_meanings import describe
from transformer_foundry.core.checks.report.measurements import Measurements
from transformer_foundry.core.checks.report.report import Finding, Report
from transformer_foundry.core.checks.report.root_causes import keep_root_causes
from transformer_foundry.core.checks.structure import configuration, cost, drawn_blocks, registration, state_dict
from transformer_foundry.core.models.options import normalize_kind
from transformer_foundry.core.models.side_effects import no_side_effects
from transformer_foundry.core.models.source.read import ModelSource, read_export
from transformer_foundry.core.models.source.trust import require_trusted

logger = logging.getLogger(__name__)

__all__ = ["check_model", "run_checks"]

Check = Callable[[ModelUnderTest], Iterable[Finding]]
SMALL_MODEL = 5_000_000


@dataclass(frozen=True)
class _Entry:
    name: str
    tier: int
    check: Check
    calls: bool = True


# In order of cause and effect: what fails early explains what would fail late.
CHECKS: tuple[_Entry, ...] = (
    _Entry("sizes", 1, shapes.check_shapes),
    _Entry("unregistered parameters", 1, registration.check_registration, calls=False),
    _Entry("finite", 1, logits.check_finite),
    _Entry("devices", 1, devices.check_devices),
    _Entry("differentiable", 1, differentiability.check_differentiability),
    _Entry("determinism", 1, determinism.check_determinism),
    _Entry("memory", 1, determinism.check_statelessness),
    _Entry("heads", 1, head_split.check_head_split),
    _Entry("global state", 1, determinism.check_global_state),
    _Entry("token ids", 1, token_ids.check_token_ids),
    _Entry("batch independence", 1, batch_independence.check_batch_independence),
    _Entry("causality", 1, causality.check_causality),
    _Entry("neighbours", 1, receptive_field.check_receptive_field),
    _Entry("source and target", 1, source_and_target.check_source_and_target),
    _Entry("padding", 1, padding.check_padding),
    _Entry("attention", 1, heads.check_attention_weights),
    _Entry("normalised attention", 1, normalization.check_normalization),
    _Entry("attention scale", 1, scaling.check_scaling),
    _Entry("activation", 1, nonlinearity.check_nonlinearity),
    _Entry("rows", 1, position_embeddings.check_position_embeddings),
    _Entry("order", 1, word_order.check_word_order),
    _Entry("relative positions", 1, relative_positions.check_relative_positions),
    _Entry("residual", 1, residual_stream.check_residual_stream),
    _Entry("logits", 1, logits.check_logits),
    _Entry("loss at initialisation", 1, logits.check_initial_loss),
    _Entry("labels", 1, labels.check_labels),
    _Entry("labels hidden", 1, labels.check_labels_hidden),
    _Entry("frozen parameters", 1, registration.check_frozen_parameters, calls=False),
    _Entry("gradients", 1, unused_parameters.check_unused_parameters),
    _Entry("configuration", 1, configuration.check_configuration),
    _Entry("drawn blocks", 1, drawn_blocks.check_drawn_blocks),
    _Entry("builds", 1, state_dict.check_reproducible_build, calls=False),
    _Entry("initialisation", 1, initialization.check_initialization, calls=False),
    _Entry("state", 1, state_dict.check_state_dict),
    _Entry("gradient flow", 1, gradient_flow.check_gradient_flow),
    _Entry("attention entropy", 1, heads.check_attention_entropy),
    _Entry("precision", 2, mixed_precision.check_mixed_precision),
    _Entry("sensitivity", 2, sensitivity.check_sensitivity),
    _Entry("memorising", 2, overfit_one_batch.check_overfit_one_batch),
    _Entry("costs", 2, cost.check_cost),
)


def run_checks(export: ModelSource | str | Path, *, kind: str | None = None, tier: int = 1) -> Report:
    """Check an export.

    Args:
        export: What ``read_export`` returned, or what it takes: a folder, a zip, a gist.
        kind: ``decoder-only``, ``encoder-only`` or ``encoder-decoder``, if it is known; found otherwise.
        tier: 1 for the checks of about a minute, 2 for the thorough ones too.

    Raises:
        ModelError: If the export cannot be read or is not trusted. A model that cannot be built or run is a finding.
    """
    started = time.perf_counter()
    if not isinstance(export, ModelSource):
        export = read_export(export)
    require_trusted(export)
    with _threads(1):
        outcome = build.build(export, normalize_kind(kind))
    return _report(outcome, normalize_kind(kind), tier, started)


def check_model(
    model: nn.Module, config: Mapping[str, Any], *, kind: str | None = None, task: str | None = None, tier: int = 1
) -> Report:
    """Check a module that is already built; its weights, flags and buffers are afterwards what they were.

    Args:
        model: The module.
        config: Its configuration, as in ``config.json``.
        kind: Its kind, if it is known.
        task: Its task, if it is known.
        tier: 1 for the checks of about a minute, 2 for the thorough ones too.
    """
    started = time.perf_counter()
    with _threads(1):
        outcome = build.adapt(model, config, normalize_kind(kind), task)
    return _report(outcome, normalize_kind(kind), tier, started)


def _report(outcome: build.BuildOutcome, kind: str | None, tier: int, started: float) -> Report:
    subject, findings = outcome.subject, outcome.findings
    if subject is None:
        graph = outcome.measured.get("graph", Graph())
        measured = Measurements(graph=graph, marked=_marked_blocks(findings, graph))
        return Report(kind, tuple(findings), time.perf_counter() - started, measured)
    # nn.MultiheadAttention and the transformer layers would otherwise take a fused path that shows nothing.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with no_side_effects(subject.model), warnings.catch_warnings(), _threads(_threads_for(subject.model)):
            warnings.simplefilter("ignore")
            for entry in CHECKS:
                if entry.tier <= tier and (subject.runs or not entry.calls):
                    findings += _run(entry, subject)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    subject.measured["graph"] = subject.graph
    findings = keep_root_causes(findings)
    measured = Measurements.collect(
        subject.measured, is_causal=subject.is_causal, marked=_marked_blocks(findings, subject.graph)
    )
    return Report(subject.kind, tuple(findings), time.perf_counter() - started, measured)


def _marked_blocks(findings: Iterable[Finding], graph: Graph) -> list[str]:
    """Return the drawn blocks that problems name."""
    text = [finding.where.split(",")[0] for finding in findings if finding.is_problem]
    return [node.id for node in graph.nodes if f"block {node.id}" in text]


def _run(entry: _Entry, subject: ModelUnderTest) -> list[Finding]:
    """Run one check; one that stumbles says so in words and raises no false alarm."""
    started = time.perf_counter()
    found: list[Finding] = []
    try:
        for finding in entry.check(subject):
            found.append(finding)
    except Exception as err:  # somebody else's code may raise anything in a situation that only a check makes
        # Other checks go on, and the report says so. What no line of the model raised is a fault of the check itself.
        if subject.source.raised_at(err) is None:
            logger.exception("The check '%s' has a fault of its own.", entry.name)
        message = f"The check '{entry.name}' could not be carried out on this model ({describe(err)})."
        found.append(Finding(entry.name, "info", message, str(subject.locator.raised(err))))
    subject.model.eval()
    logger.debug("%s took %.2f s", entry.name, time.perf_counter() - started)
    return found


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _threads_for(model: nn.Module) -> int:
    """Small models run faster on one thread: waking the others costs more, ten times more on a busy machine."""
    size = sum(parameter.numel() for parameter in model.parameters())
    return 1 if size < SMALL_MODEL else torch.get_num_threads()

"""``CHECKS``, the list of all checks, and functions that run them; ``core.checks`` says how to add one."""

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

from transformer_foundry.core.checks.attention import head_split, heads, normalization, origins, scaling
from transformer_foundry.core.checks.build import BuildFailure, build_for_checks, prepare_for_checks
from transformer_foundry.core.checks.inputs import (
    batch_independence,
    cached_path,
    labels,
    loss_pairing,
    optional_inputs,
    padding,
    shapes,
    source_and_target,
    token_ids,
)
from transformer_foundry.core.checks.learning import (
    derivative,
    differentiability,
    experts,
    gradient_flow,
    nonlinearity,
    overfit_one_batch,
    residual_stream,
    training_mode,
    unused_parameters,
    weight_slices,
)
from transformer_foundry.core.checks.numerics import (
    determinism,
    devices,
    edge_inputs,
    growth,
    initial_loss,
    logits,
    rounding,
    sensitivity,
    whole_numbers,
)
from transformer_foundry.core.checks.positions import (
    causality,
    long_range,
    lookup_tables,
    position_embeddings,
    receptive_field,
    relative_positions,
    slopes,
    word_order,
)
from transformer_foundry.core.checks.probing.drawn_graph import Graph
from transformer_foundry.core.checks.probing.finding import Finding
from transformer_foundry.core.checks.probing.measurements import Measurements
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.report.report import Report
from transformer_foundry.core.checks.report.root_causes import keep_root_causes
from transformer_foundry.core.checks.structure import (
    config_effects,
    config_keys,
    configuration,
    cost,
    drawn_blocks,
    drawn_order,
    initialization,
    registration,
    shared_modules,
    state_dict,
)
from transformer_foundry.core.models.error_meanings import describe
from transformer_foundry.core.models.options import normalize_kind
from transformer_foundry.core.models.side_effects import no_side_effects
from transformer_foundry.core.models.source.read import ModelSource, read_export
from transformer_foundry.core.models.source.trust import require_trusted

logger = logging.getLogger(__name__)

__all__ = ["check_model", "run_checks"]

# Below this number of parameters one thread is faster: waking the others costs more, ten times more on a busy machine.
SMALL_MODEL = 5_000_000


@dataclass(frozen=True)
class Check:
    """One entry of the list of checks.

    Attributes:
        name: Name in the reference and in the log; findings name the property that is violated.
        tier: 1 for checks that take about a minute together, 2 for thorough ones.
        function: Yields a finding for each violation. It may change the model's mode and its weights, if it restores
            the weights (``generic_weights``); mode, buffers and random state are restored after all checks.
        calls_model: Whether it calls the model. Such a check is skipped for a model that fails on ordinary inputs,
            which ``check_shapes``, the first in the list, finds out.
    """

    name: str
    tier: int
    function: Callable[[ModelUnderTest], Iterable[Finding]]
    calls_model: bool = True


# In order of cause and effect: a fault that an early check reports explains the failure of later ones.
CHECKS: tuple[Check, ...] = (
    Check("sizes", 1, shapes.check_shapes),
    Check("unregistered parameters", 1, registration.check_registration, calls_model=False),
    Check("finite", 1, logits.check_finite),
    Check("devices", 1, devices.check_devices),
    Check("differentiable", 1, differentiability.check_differentiability),
    Check("determinism", 1, determinism.check_determinism),
    Check("memory", 1, determinism.check_statelessness),
    Check("heads", 1, head_split.check_head_split),
    Check("origins of attention", 1, origins.check_attention_origins),
    Check("global state", 1, determinism.check_global_state),
    Check("token ids", 1, token_ids.check_token_ids),
    Check("batch independence", 1, batch_independence.check_batch_independence),
    Check("causality", 1, causality.check_causality),
    Check("long causality", 1, long_range.check_long_causality),
    Check("neighbors", 1, receptive_field.check_receptive_field),
    Check("source and target", 1, source_and_target.check_source_and_target),
    Check("padding", 1, padding.check_padding),
    Check("attention", 1, heads.check_attention_weights),
    Check("normalized attention", 1, normalization.check_normalization),
    Check("attention scale", 1, scaling.check_scaling),
    Check("activation", 1, nonlinearity.check_nonlinearity),
    Check("rows", 1, position_embeddings.check_position_embeddings),
    Check("output table", 1, position_embeddings.check_output_table),
    Check("order", 1, word_order.check_word_order),
    Check("relative positions", 1, relative_positions.check_relative_positions),
    Check("slopes", 1, slopes.check_slopes),
    Check("lookup tables", 1, lookup_tables.check_lookup_tables),
    Check("residual", 1, residual_stream.check_residual_stream),
    Check("logits", 1, logits.check_logits),
    Check("loss at initialization", 1, initial_loss.check_initial_loss),
    Check("labels", 1, labels.check_labels),
    Check("labels of the batch", 1, loss_pairing.check_loss_pairing),
    Check("labels hidden", 1, labels.check_labels_hidden),
    Check("frozen parameters", 1, registration.check_frozen_parameters, calls_model=False),
    Check("experts", 1, experts.check_experts),
    # Before the gradients: experts that are one object leave the router without any.
    Check("shared modules", 1, shared_modules.check_shared_modules),
    Check("gradients", 1, unused_parameters.check_unused_parameters),
    Check("derivative", 1, derivative.check_derivative),
    Check("weight slices", 1, weight_slices.check_weight_slices),
    Check("training mode", 1, training_mode.check_training_mode),
    Check("optional inputs", 1, optional_inputs.check_optional_inputs),
    Check("cached path", 1, cached_path.check_cached_path),
    Check("configuration", 1, configuration.check_configuration),
    Check("keys of the configuration", 1, config_keys.check_config_keys),
    Check("effects of the configuration", 1, config_effects.check_config_effects),
    Check("drawn blocks", 1, drawn_blocks.check_drawn_blocks),
    Check("drawn order", 1, drawn_order.check_drawn_order),
    Check("builds", 1, state_dict.check_reproducible_build, calls_model=False),
    Check("initialization", 1, initialization.check_initialization, calls_model=False),
    Check("state", 1, state_dict.check_state_dict),
    Check("gradient flow", 1, gradient_flow.check_gradient_flow),
    Check("zero factors", 1, gradient_flow.check_zero_factors),
    Check("attention entropy", 1, heads.check_attention_entropy),
    Check("edge inputs", 1, edge_inputs.check_edge_inputs),
    Check("edge inputs in half", 1, edge_inputs.check_edges_in_half),
    Check("whole numbers", 1, whole_numbers.check_whole_numbers),
    Check("growth", 1, growth.check_growth),
    Check("rounding", 1, rounding.check_rounding),
    Check("sensitivity", 2, sensitivity.check_sensitivity),
    Check("memorizing", 2, overfit_one_batch.check_overfit_one_batch),
    Check("costs", 2, cost.check_cost),
)


def run_checks(export: ModelSource | str | Path, *, kind: str | None = None, tier: int = 1) -> Report:
    """Check an export.

    Args:
        export: What ``read_export`` returned, or what it takes: a folder, a zip file, a gist.
        kind: ``decoder-only``, ``encoder-only`` or ``encoder-decoder``; inferred when None.
        tier: 1 for the checks that take about a minute, 2 for the thorough ones too.

    Raises:
        ModelError: If the export cannot be read or is not trusted. A model that cannot be built or run is a finding.
    """
    started = time.perf_counter()
    if not isinstance(export, ModelSource):
        export = read_export(export)
    require_trusted(export)
    kind = normalize_kind(kind)
    with _limited_threads(1):
        subject = build_for_checks(export, kind)
    return _report(subject, kind, tier, started)


def check_model(
    model: nn.Module, config: Mapping[str, Any], *, kind: str | None = None, task: str | None = None, tier: int = 1
) -> Report:
    """Check a module that is already built; its weights, flags and buffers are restored.

    Args:
        model: The module.
        config: Its configuration, as in ``config.json``.
        kind: Its kind; inferred when None.
        task: Its task; inferred when None.
        tier: 1 for the checks that take about a minute, 2 for the thorough ones too.
    """
    started = time.perf_counter()
    kind = normalize_kind(kind)
    with _limited_threads(1):
        subject = prepare_for_checks(model, config, kind, task)
    return _report(subject, kind, tier, started)


def _report(subject: ModelUnderTest | BuildFailure, kind: str | None, tier: int, started: float) -> Report:
    if isinstance(subject, BuildFailure):
        findings, measurements = subject.findings, Measurements(graph=subject.graph)
    else:
        kind = subject.kind
        findings, measurements = keep_root_causes(_run_all(subject, tier)), subject.measurements
        measurements.graph, measurements.is_causal = subject.graph, subject.is_causal
    measurements.marked = _blocks_with_problems(findings, measurements.graph)
    return Report(kind, tuple(findings), time.perf_counter() - started, measurements)


def _run_all(subject: ModelUnderTest, tier: int) -> list[Finding]:
    findings: list[Finding] = []
    threads = 1 if subject.parameter_count < SMALL_MODEL else torch.get_num_threads()
    # nn.MultiheadAttention and the transformer layers would otherwise take a fused path that no trace sees.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with no_side_effects(subject.model), warnings.catch_warnings(), _limited_threads(threads):
            warnings.simplefilter("ignore")
            for check in CHECKS:
                if check.tier <= tier and (subject.runs or not check.calls_model):
                    findings += _run(check, subject)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return findings


def _run(check: Check, subject: ModelUnderTest) -> list[Finding]:
    """Run one check; if it raises an exception, report that as an ``info`` and keep what it found before."""
    started = time.perf_counter()
    found: list[Finding] = []
    try:
        for finding in check.function(subject):
            found.append(finding)
    except Exception as err:  # The model's code may raise anything in a situation that only a check creates.
        if subject.source.raised_at(err) is None:  # No line of the model raised it: a bug of the check.
            logger.exception("The check '%s' failed with a bug of its own code.", check.name)
        message = f"The check '{check.name}' could not be carried out on this model ({describe(err)})."
        found.append(Finding(check.name, "info", message, str(subject.locator.raised(err))))
    subject.model.eval()
    logger.debug("%s took %.2f s", check.name, time.perf_counter() - started)
    return found


def _blocks_with_problems(findings: Iterable[Finding], graph: Graph) -> list[str]:
    """Return the drawn blocks that problems name."""
    named = {finding.where.split(",")[0] for finding in findings if finding.is_problem}
    return [node.id for node in graph.nodes if f"block {node.id}" in named]


@contextmanager
def _limited_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, count))
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Build a model and call it once, before any other check."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.checks.probing.drawn_graph import Graph, read_graph
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location, Locator
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.probing.source_map import SourceFile, SourceLine, SourceMap
from transformer_foundry.core.models.adapter import Adapter
from transformer_foundry.core.models.building.build import build_model
from transformer_foundry.core.models.error_meanings import describe, explain, root_cause
from transformer_foundry.core.models.inference import config_hints
from transformer_foundry.core.models.inference.infer_contract import infer_contract
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.syntax import undefined_names

__all__ = ["BuildFailure", "build_for_checks", "prepare_for_checks"]

SEED = 0


@dataclass(frozen=True)
class BuildFailure:
    """The findings of a model that cannot be built or called, and its drawn graph."""

    findings: list[Finding]
    graph: Graph


def build_for_checks(export: ModelSource, kind: str | None) -> ModelUnderTest | BuildFailure:
    """Build the model of ``export`` and infer its contract."""
    try:
        model = build_model(export, seed=SEED)
    except ModelError as err:
        graph = read_graph(export.config)
        return BuildFailure([_build_failure(err, Locator(None, SourceMap(None, export.model_file), graph))], graph)
    subject = prepare_for_checks(model, export.config, kind, None, source=SourceMap(model, export.model_file))
    if isinstance(subject, ModelUnderTest):
        subject.rebuild = lambda seed: build_model(export, seed=seed)
        subject.rebuild_with = lambda overrides: build_model(export, overrides, seed=SEED)
    return subject


def prepare_for_checks(
    model: nn.Module,
    config: Mapping[str, Any],
    kind: str | None,
    task: str | None,
    source: SourceMap | None = None,
) -> ModelUnderTest | BuildFailure:
    """Infer the contract of a module and wrap it for the checks."""
    source = source or SourceMap(model)
    graph = read_graph(config)
    try:
        contract = infer_contract(model, config, kind=kind, task=task)
    except ModelError as err:
        return BuildFailure(_call_failures(err, Locator(model, source, graph), model), graph)
    if contract.next_token_only:
        # One row of scores per text, as a classifier over the vocabulary has it.
        contract = replace(contract, task="sequence_classification", num_labels=contract.output_size)
    stated = kind or config_hints.kind_hint(config, type(model).__name__)
    return ModelUnderTest(Adapter(model, contract), config, source, graph, stated_kind=stated)


def _build_failure(error: ModelError, locator: Locator) -> Finding:
    cause = root_cause(error)
    source = locator.source
    line = source.raised_at(error)
    if isinstance(cause, SyntaxError) and cause.lineno:
        line = SourceLine(source.main.path, cause.lineno)
    location = locator.at(line) if line is not None else Location(file_name=source.main.name)
    where = str(location) or "model.py"
    if cause is error:
        return Finding("builds", "error", f"{error.problem} {error.expected}", where, error.remedy)
    explanation = explain(cause)
    message = f"The model cannot be built. {explanation.meaning} The error: {describe(cause)}{source.quoted(line)}"
    return Finding("builds", "error", message, where, location.instruction(f"{explanation.fix}."))


def _call_failures(error: ModelError, locator: Locator, model: nn.Module) -> list[Finding]:
    """Return why the model cannot be called: its signature first, then the line that raised."""
    cause = root_cause(error)
    findings = _intermediate_arguments(locator, model)
    undefined = _undefined_names(locator)
    if undefined and (findings or isinstance(cause, NameError)):
        findings += undefined
    if findings:
        return findings
    if cause is error:
        message = f"{error.problem} {error.expected}"
        return [Finding("runs", "error", message, str(locator.forward()), error.remedy)]
    location = locator.through_joins(locator.raised(error))
    explanation = explain(cause)
    message = (
        f"The model cannot be run. {explanation.meaning} The error: "
        f"{describe(cause)}{locator.source.quoted(location.line)}"
    )
    return [finding_at("runs", "error", message, location, f"{explanation.fix}.")]


def _intermediate_arguments(locator: Locator, model: nn.Module) -> list[Finding]:
    """Find arguments of ``forward`` that the model itself has to compute: results of its own blocks."""
    forward = _forward(locator.source, model)
    if forward is None:
        return []
    file, definition = forward
    arguments = [argument for argument in definition.args.args if argument.arg != "self"]
    optional = len(definition.args.defaults)
    required = arguments[1 : len(arguments) - optional] if optional else arguments[1:]
    children = {name for name, _ in model.named_children()}
    inner = [argument for argument in required if _is_result(argument.arg, children, locator.graph)]
    if not inner:
        return []
    assigned = {
        node.id for node in ast.walk(definition) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    names = ", ".join(argument.arg for argument in inner)
    never = [argument.arg for argument in inner if argument.arg not in assigned]
    location = locator.at(SourceLine(file.path, inner[0].lineno))
    also = f" {', '.join(never)} is never computed in forward." if never else ""
    return [
        finding_at(
            "signature",
            "error",
            f"forward requires intermediate results from its caller: the argument{'s' if len(inner) > 1 else ''} "
            f"{names} should be computed inside the model.{also} The model cannot be called: the only input is the "
            "token ids.",
            replace(location, block=locator.graph.node_of(inner[0].arg)),
            "connect the block to the one before it and export again; forward must take the token ids only: "
            f"forward(self, {arguments[0].arg}).",
        )
    ]


def _is_result(name: str, children: set[str], graph: Graph) -> bool:
    node = graph.node_of(name)
    if node is not None:
        return node.type not in ("input", "inputs")
    return any(name.startswith(f"{child}_") for child in children)


def _undefined_names(locator: Locator) -> list[Finding]:
    source = locator.source
    findings = []
    for item in undefined_names(source.main.text):
        line = SourceLine(source.main.path, item.line)
        node = locator.graph.node_of(item.name)
        location = locator.at(line)
        findings.append(
            finding_at(
                "undefined name",
                "error",
                f"NameError: {item.function} uses '{item.name}', which is not defined: no line assigns it, so the "
                f"model stops there.{source.quoted(line)}",
                replace(location, block=node or location.block, class_name=f"in {item.function}"),
                "connect it to the block before it, so that its result is computed before it is used."
                if node
                else f"compute {item.name} before this line, or use the name of the value that was meant.",
            )
        )
    return findings


def _forward(source: SourceMap, model: nn.Module) -> tuple[SourceFile, ast.FunctionDef] | None:
    for base in type(model).__mro__:
        file = source.class_file(base)
        definition = file.method(base.__name__, "forward") if file is not None else None
        if file is not None and definition is not None:
            return file, definition
    return None

"""Build the model and call it once: the checks that everything else stands on."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.checks.probing.drawn_graph import Graph, read_graph
from transformer_foundry.core.checks.probing.location import Location, Locator
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest
from transformer_foundry.core.checks.probing.source_map import SourceFile, SourceMap
from transformer_foundry.core.checks.report.error_meanings import describe, explain, root_cause
from transformer_foundry.core.checks.report.report import Finding
from transformer_foundry.core.models import config_hints
from transformer_foundry.core.models.adapter import Adapter
from transformer_foundry.core.models.building.build import build_model
from transformer_foundry.core.models.inference.infer_contract import infer_contract
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.syntax import undefined_names

__all__ = ["BuildOutcome", "adapt", "build"]

SEED = 0


@dataclass
class BuildOutcome:
    """A subject for the other checks, or the findings that say why there is none."""

    subject: ModelUnderTest | None
    findings: list[Finding] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)


def build(export: ModelSource, kind: str | None) -> BuildOutcome:
    """Build the model of ``export`` and find its contract."""
    graph = read_graph(export.config)
    source = SourceMap(None, export.model_file)
    try:
        model = build_model(export, seed=SEED)
    except ModelError as err:
        return BuildOutcome(None, [_build_failure(err, source, graph)], {"graph": graph})
    outcome = adapt(model, export.config, kind, None, source=SourceMap(model, export.model_file))
    if outcome.subject is not None:
        outcome.subject.rebuild = lambda seed: build_model(export, seed=seed)
    return outcome


def adapt(
    model: nn.Module,
    config: Mapping[str, Any],
    kind: str | None,
    task: str | None,
    source: SourceMap | None = None,
) -> BuildOutcome:
    """Find the contract of a module."""
    source = source or SourceMap(model)
    graph = read_graph(config)
    try:
        contract = infer_contract(model, config, kind=kind, task=task)
    except ModelError as err:
        locator = Locator(model, source, graph)
        return BuildOutcome(None, list(_call_failures(err, locator, model)), {"graph": graph})
    stated = kind or config_hints.kind_hint(config, type(model).__name__)
    return BuildOutcome(ModelUnderTest(Adapter(model, contract), config, source, graph, stated_kind=stated))


def _build_failure(error: ModelError, source: SourceMap, graph: Graph) -> Finding:
    cause = root_cause(error)
    locator = Locator(None, source, graph)
    line = source.raised_at(error)
    if isinstance(cause, SyntaxError) and cause.lineno:
        line = (source.main.path, cause.lineno)
    location = locator.at(line) if line is not None else Location(file_name=source.main.name)
    if cause is error:
        return Finding(
            "builds", "error", f"{error.problem} {error.expected}", str(location) or "model.py", error.remedy
        )
    explanation = explain(cause)
    message = f"The model cannot be built. {explanation.meaning} The error: {describe(cause)}{_quoted(source, line)}"
    return Finding("builds", "error", message, str(location) or "model.py", location.instruction(explanation.fix + "."))


def _call_failures(error: ModelError, locator: Locator, model: nn.Module) -> list[Finding]:
    """Return why the model cannot be called: its signature first, then the line that raised."""
    source = locator.source
    cause = root_cause(error)
    findings = _intermediates(source, locator, model)
    missing = _undefined(source, locator)
    if missing and (findings or isinstance(cause, NameError)):
        findings += missing
    if findings:
        return findings
    if cause is error:
        location = locator.forward()
        return [Finding("runs", "error", f"{error.problem} {error.expected}", str(location), error.remedy)]
    location = locator.joined(locator.raised(error))
    explanation = explain(cause)
    message = (
        f"The model cannot be run. {explanation.meaning} The error: {describe(cause)}{_quoted(source, location.line)}"
    )
    return [Finding("runs", "error", message, str(location), location.instruction(explanation.fix + "."))]


def _intermediates(source: SourceMap, locator: Locator, model: nn.Module) -> list[Finding]:
    """Arguments of ``forward`` that the model itself has to compute: results of its own blocks."""
    forward = _forward(source, model)
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
    location = locator.at((file.path, inner[0].lineno))
    node = locator.graph.node_of(inner[0].arg)
    location = Location(None, location.line, node, location.file_name)
    also = f" {', '.join(never)} is computed nowhere in forward." if never else ""
    return [
        Finding(
            "signature",
            "error",
            f"forward asks its caller for intermediate results: the argument{'s' if len(inner) > 1 else ''} {names} "
            f"should be computed inside the model.{also} Nobody can call this model: the only input is the token ids.",
            str(location),
            location.instruction(
                "connect the block to the one before it and export again; forward must take the token ids only: "
                f"forward(self, {arguments[0].arg})."
            ),
        )
    ]


def _is_result(name: str, children: set[str], graph: Graph) -> bool:
    node = graph.node_of(name)
    if node is not None:
        return node.type not in ("input", "inputs")
    return any(name.startswith(f"{child}_") for child in children)


def _undefined(source: SourceMap, locator: Locator) -> list[Finding]:
    findings = []
    for item in undefined_names(source.main.text):
        location = locator.at((source.main.path, item.line))
        node = locator.graph.node_of(item.name)
        location = Location(None, location.line, node or location.block, location.file_name, f"in {item.function}")
        findings.append(
            Finding(
                "undefined name",
                "error",
                f"NameError: {item.function} uses '{item.name}', which is not defined: no line gives it a value, "
                "so the "
                f"model stops there.{_quoted(source, location.line)}",
                str(location),
                location.instruction(
                    "connect it to the block before it, so that its result is computed before it is used."
                    if node
                    else f"compute {item.name} before this line, or use the name of the value that was meant."
                ),
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


def _quoted(source: SourceMap, line: tuple[str, int] | None) -> str:
    if line is None or line[0] not in source.files:
        return ""
    text = source.files[line[0]].line(line[1])
    return f" (in: {text[:100]})" if text else ""

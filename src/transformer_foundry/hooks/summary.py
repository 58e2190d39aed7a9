"""Log at the end of each command what was made, where it is and what to do next."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.console.command_line import run_command
from transformer_foundry.console.status_line import in_notebook
from transformer_foundry.core.base.text import format_number
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.run_context import RunContext

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.publishing import Package
    from transformer_foundry.core.training.events import Started
    from transformer_foundry.hooks.results import Evaluation, HubPublication, SearchComparison, ValidationReport

__all__ = ["SummaryCallback"]

_log = logging.getLogger(__name__)


@dataclass
class _Made:
    """What the command has made so far."""

    validation: ValidationReport | None = None
    has_tokens: bool = False
    has_run: bool = False
    evaluation: Evaluation | None = None
    search_comparison: SearchComparison | None = None
    package: Package | None = None
    publication: HubPublication | None = None


class SummaryCallback(Callback):
    """Logs the summary of a command."""

    name = "The summary"
    _context: RunContext
    _made: _Made

    def on_run_start(self, context: RunContext) -> None:
        """Forget the run before."""
        self._context, self._made = context, _Made()

    def on_validation(self, report: ValidationReport, *, is_new: bool) -> None:
        """Log the result of the checks at once."""
        if is_new:
            self._made.validation = report
            _log.info(_validation_text(report))

    def on_token_splits(self, splits: TokenSplits, *, is_new: bool) -> None:
        """Note that tokens were made."""
        self._made.has_tokens |= is_new

    def on_started(self, started: Started) -> None:
        """Note that a model was trained."""
        self._made.has_run = True

    def on_evaluation(self, evaluation: Evaluation) -> None:
        """Keep the evaluation."""
        self._made.evaluation = evaluation

    def on_search_comparison(self, comparison: SearchComparison) -> None:
        """Keep the result of the search."""
        self._made.search_comparison = comparison

    def on_package(self, package: Package) -> None:
        """Keep the package."""
        self._made.package = package

    def on_publication(self, publication: HubPublication) -> None:
        """Keep where the package was published."""
        self._made.publication = publication

    def on_run_end(self) -> None:
        """Log the summary."""
        context, made = self._context, self._made
        lines = _evaluation_lines(made.evaluation)
        lines += _reproduction_lines(context, made)
        if made.search_comparison is not None:
            lines.append(f"Search: {made.search_comparison['verdict']}")
        if made.package is not None:
            formats = ", ".join(f"{item['format']} {item['status']}" for item in made.package.manifest["formats"])
            lines.append(f"Package: {formats}.")
        if made.publication is not None and made.publication["published"]:
            lines.append(f"Published: {made.publication['url']} {made.publication['tag']}")
        lines += _folder_lines(context, made)
        lines += _next_lines(context, made)
        for line in lines:
            _log.info(line)


def _validation_text(report: ValidationReport) -> str:
    problems = [finding for finding in report["findings"] if finding["severity"] in ("error", "warning")]
    if not problems:
        return f"Validation: the model is sound ({report['kind']}, {report['seconds']:.1f} s)."
    lines = [f"Validation: {len(problems)} problem{'s' if len(problems) > 1 else ''} found ({report['kind']})."]
    lines += [f"  {item['severity']}: {item['message']} ({item['where']}) {item['fix']}" for item in problems]
    return "\n".join(lines)


def _evaluation_lines(evaluation: Evaluation | None) -> list[str]:
    if evaluation is None:
        return []
    measured = ", ".join(f"{key} {format_number(value)}" for key, value in evaluation["validation"].items())
    return [f"Validation split: {measured}", *(f"  {item['sentence']}" for item in evaluation["comparisons"])]


def _reproduction_lines(context: RunContext, made: _Made) -> list[str]:
    """Compare the result of ``run.reproduce`` with the original."""
    manifest = context.options(RunOptions).reproduce
    if manifest is None or not made.has_run:
        return []
    from transformer_foundry.core.training.checkpointing.run_manifest import (
        compare_manifests,
        is_same_result,
        read_run_manifest,
    )

    before, now = read_run_manifest(Path(manifest).parent), read_run_manifest(context.paths.run)
    is_same = is_same_result(before, now)
    if is_same:
        return ["REPRODUCED: final weights and optimizer state are the same to the bit."]
    lines = ["NOT REPRODUCED: the final weights differ." if is_same is False else "NOT COMPARED."]
    return lines + [f"  {name}: {old} before, {new} now" for name, (old, new) in compare_manifests(before, now).items()]


def _folder_lines(context: RunContext, made: _Made) -> Iterator[str]:
    """Name the folder of everything that was made, each once."""
    paths, searched = context.paths, context.study is not None
    folders = (
        (made.has_tokens, "tokenizer, tokens", paths.model_input),
        (made.has_run, "checkpoints, metrics", paths.run),
        (searched, "study, best values", paths.tuning.parent),
        (made.package is not None, "package", paths.package),
        (made.validation is not None, "reports, figures", paths.shared_reports),
        (made.evaluation is not None, "reports, figures", paths.reports),
        (searched, "trials", paths.shared_reports),
        (paths.report.exists(), "report to look at", paths.report),
    )
    labels: dict[Path, str] = {}
    for is_made, label, path in folders:
        if is_made:
            labels.setdefault(path, label)
    return (f"{label:<21} {path}" for path, label in labels.items())


def _next_lines(context: RunContext, made: _Made) -> Iterator[str]:
    """Name the next command, with the parameters of this one; in a notebook the next cell is the next step."""
    has_errors = made.validation is not None and any(
        finding["severity"] == "error" for finding in made.validation["findings"]
    )
    if has_errors and not made.has_run and context.study is None:
        yield f"Next: fix the model, export it again, and run: {_command(context, 'validation')}"
    elif made.publication is not None:
        program = context.paths.package / "inference.py"
        if made.package is not None and program.exists():
            yield f"Try it: {shlex.join(['python', str(program)])}"
    elif in_notebook():
        return
    elif made.has_run:
        yield f"Next: {_command(context, 'deployment')}"
    elif context.study is not None:
        yield f"Next: {_command(context, 'training', {'use_best': 'true'})}"
    elif made.has_tokens:
        yield f"Next: {_command(context, 'training')}"
    elif made.validation is not None:
        yield f"Next: {_command(context, 'data_engineering')}"


def _command(context: RunContext, pipeline_name: str, training: Mapping[str, str] | None = None) -> str:
    given = dict(context.runtime_params)
    if training:
        given["training"] = {**given.get("training", {}), **training}
    return run_command([pipeline_name], context.env, given)

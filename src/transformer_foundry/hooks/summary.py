"""Log at the end of each command what was made, where it is and what to do next."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.console.command_line import run_command
from transformer_foundry.console.status_line import in_notebook
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.base.text import format_number, short_list, short_sample
from transformer_foundry.core.evaluation.assess import baselines_of
from transformer_foundry.core.files.provenance import digest_of, is_made_from
from transformer_foundry.core.studies.comparison.options import BenchmarkOptions
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.preflight.reads import reads_dataset, writes_dataset
from transformer_foundry.hooks.run_context import RunContext
from transformer_foundry.hooks.run_context.entries import CatalogEntries

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.publishing import Package
    from transformer_foundry.core.training.events import Started
    from transformer_foundry.hooks.results import (
        Evaluation,
        HubPublication,
        ModelComparison,
        Samples,
        SearchComparison,
        ValidationReport,
    )

__all__ = ["SummaryCallback"]

_log = logging.getLogger(__name__)

_SHOWN_CHANGES = 8

"""The baseline that the sentence of a comparison names."""

_OF_RESULT = ("identity", "parameters", "seeds", "total_steps")
"""Differences that change the result itself; others are of versions and hardware."""


@dataclass
class _Made:
    """What the command has made so far, and whether it has used what was made before."""

    validation: ValidationReport | None = None
    has_verdict: bool = False
    has_tokens: bool = False
    knows_tokens: bool = False
    has_comparison: bool = False
    has_run: bool = False
    evaluation: Evaluation | None = None
    samples: Samples | None = None
    search_comparison: SearchComparison | None = None
    package: Package | None = None
    publication: HubPublication | None = None


class SummaryCallback(Callback):
    """Logs the summary of a command."""

    name = "The summary"
    nesting = 10
    _context: RunContext
    _made: _Made

    def on_run_start(self, context: RunContext) -> None:
        """Forget the run before."""
        self._context, self._made = context, _Made()

    def on_validation(self, report: ValidationReport, *, is_new: bool) -> None:
        """Log the result of the checks at once."""
        self._made.has_verdict = True
        if is_new:
            self._made.validation = report
            self._say(_validation_text(report))

    def on_token_splits(self, splits: TokenSplits, *, is_new: bool) -> None:
        """Note that tokens were made, or are there."""
        self._made.has_tokens |= is_new
        self._made.knows_tokens = True

    def on_started(self, started: Started) -> None:
        """Note that a model was trained; say before the first step in what a run to be reproduced differs."""
        if not self._made.has_run and (lines := _changed_since(self._context, started.manifest)):
            _log.warning("\n".join(lines))
        self._made.has_run = True

    def on_evaluation(self, evaluation: Evaluation, *, is_new: bool) -> None:
        """Keep the evaluation."""
        self._made.evaluation = evaluation

    def on_samples(self, samples: Samples, *, is_new: bool) -> None:
        """Keep the samples of the trained model."""
        self._made.samples = samples

    def on_search_comparison(self, comparison: SearchComparison, *, is_new: bool) -> None:
        """Keep the result of the search."""
        self._made.search_comparison = comparison

    def on_model_comparison(self, comparison: ModelComparison, *, is_new: bool) -> None:
        """Note that models were compared, instead of trained."""
        self._made.has_comparison = True

    def on_package(self, package: Package, *, is_new: bool) -> None:
        """Keep the package."""
        self._made.package = package

    def on_publication(self, publication: HubPublication, *, is_new: bool) -> None:
        """Keep where the package was published."""
        self._made.publication = publication

    def on_run_end(self) -> None:
        """Log the summary."""
        context, made = self._context, self._made
        lines = [
            f"After training: {short_sample(sample)}"
            for sample in ([] if made.samples is None else made.samples["samples"][:1])
        ]
        lines += _evaluation_lines(made.evaluation)
        lines += _verdict_lines(context, made.evaluation)
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
            self._say(line)

    def _say(self, line: str) -> None:
        label = self._context.label
        _log.info(f"{label}: {line}" if label else line)


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
    best = f"Validation split at step {evaluation['step']}, the best: {measured}"
    return [best, *(f"  {item['sentence']}" for item in evaluation["comparisons"])]


def _verdict_lines(context: RunContext, evaluation: Evaluation | None) -> Iterator[str]:
    """Say in words whether the model has learned more than simple counting, and how to go on if not."""
    if evaluation is None or not evaluation["comparisons"]:
        return
    beaten, missed = (
        short_list(baselines_of(evaluation["comparisons"], is_beaten=is_beaten)) for is_beaten in (True, False)
    )
    if beaten and not missed:
        yield f"The model has learned more than counting: it beats {beaten}."
    elif missed:
        but = f"It beats {beaten}, but it" if beaten else "The model"
        yield f"{but} does not beat {missed}: it needs more steps, more data or other settings."
        if not in_notebook() and _has_length_of_preset(context):
            given = {**context.runtime_params, "preset": "standard"}
            yield f"To train longer: {run_command([], context.env, given, context.conf_source)}"


def _has_length_of_preset(context: RunContext) -> bool:
    """Return whether a longer preset makes the run longer: a length that is given would count on top of it.

    Another project has no presets, and they change no section under another name.
    """
    if "data_dir" not in context.parameters or context.names.get("training", "training") != "training":
        return False
    options, usual = context.options(TrainingOptions), TrainingOptions()
    lengths = (options.max_steps, options.num_train_epochs, options.max_hours)
    is_usual = lengths == (usual.max_steps, usual.num_train_epochs, usual.max_hours)
    return is_usual and not context.runtime_params.get("preset")


def _changed_since(context: RunContext, manifest: Mapping[str, Any]) -> list[str]:
    """Name data, code, versions and settings that differ from those of ``run.reproduce``, before they cost anything."""
    recorded = context.options(RunOptions).reproduce
    if recorded is None:
        return []
    from transformer_foundry.core.training.checkpointing.run_manifest import compare_manifests, read_run_manifest

    changes = compare_manifests(read_run_manifest(Path(recorded).parent), manifest)
    if not changes:
        return []
    lines = [f"  {name}: {_short(old)} then, {_short(now)} now" for name, (old, now) in changes.items()]
    more = [f"  and {len(lines) - _SHOWN_CHANGES} more"] if len(lines) > _SHOWN_CHANGES else []
    what = (
        "its result will differ" if any(name.startswith(_OF_RESULT) for name in changes) else "its last bits may differ"
    )
    return [f"The run to be reproduced had other inputs: {what}.", *lines[:_SHOWN_CHANGES], *more]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


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
    paths, searched, prepared = context.paths, context.study is not None, _prepared_here(context)
    folders = (
        (made.has_tokens and prepared != "", prepared, paths.model_input),
        (made.has_run, "checkpoints, metrics", paths.run),
        (searched, "study, best values", paths.tuning.parent),
        (made.package is not None, "package", _place_of_package(context)),
        (made.validation is not None, "reports, figures", paths.shared_reports),
        (made.evaluation is not None, "reports, figures", paths.reports),
        (searched, "trials", paths.shared_reports),
        (paths.report.exists(), "report", paths.report),
    )
    labels: dict[Path | str, str] = {}
    for is_made, label, path in folders:
        if is_made:
            labels.setdefault(path, label)
    return (f"{label:<21} {path}" for path, label in labels.items())


def _place_of_package(context: RunContext) -> Path | str:
    address = None if context.package is None else context.package.address
    return context.paths.package if address is None else redact(address)


def _prepared_here(context: RunContext) -> str:
    """Name what of the prepared data is on this machine: the catalog may keep one of the two on a server."""
    from transformer_foundry.datasets import TokenizerDataset, TokenSplitsDataset

    entries = CatalogEntries(context.catalog, context.pipeline.datasets())
    kinds: dict[str, type[Any]] = {"tokenizer": TokenizerDataset, "tokens": TokenSplitsDataset}
    found = {word: entries.find(context.pipeline.all_outputs(), kind).keys() for word, kind in kinds.items()}
    return ", ".join(word for word, names in found.items() if not names or names & context.files.keys())


def _next_lines(context: RunContext, made: _Made) -> Iterator[str]:
    """Name the next command, with the parameters of this one; in a notebook the next cell is the next step.

    It depends on what there is now, not on what this command had to make.
    """
    has_errors = made.validation is not None and any(
        finding["severity"] == "error" for finding in made.validation["findings"]
    )
    has_run = _uses_run(context)
    if has_errors and not has_run and context.study is None:
        yield f"Next: fix the model, export it again, and run: {_command(context, 'validation')}"
    elif made.publication is not None:
        yield from _try_lines(context)
    elif in_notebook() or made.has_comparison:
        return
    elif has_run and _is_packaged(context, made):
        yield from _try_lines(context)
    elif has_run and continues(context, "deployment"):
        yield f"Next: {_command(context, 'deployment')}"
    elif has_run:
        return
    elif context.study is not None and _changes_model(context):
        best = context.made_by("confirm_best", "dict[str, Any]") or "best_parameters"
        place = context.files.get(best, best)
        yield f"Next: write model_overrides of {place} into config.json of a copy of the export."
    elif context.study is not None:
        yield f"Next: {_command(context, 'training', {'use_best': True})}"
    elif made.knows_tokens:
        yield f"Next: {_command(context, 'training')}"
    elif made.has_verdict:
        yield f"Next: {_command(context, 'data_engineering')}"


def _interpreter() -> str:
    """Return the Python that runs now, as it is typed here: another one may lack what the program imports."""
    found, here = Path(sys.executable), Path.cwd()
    return str(found.relative_to(here) if found.is_relative_to(here) else found)


def _try_lines(context: RunContext) -> Iterator[str]:
    """Name the program of the package; it has one if it has a format that the program can run."""
    program = context.paths.package / "inference.py"
    if program.exists():
        yield f"Try it: {shlex.join([_interpreter(), str(program)])}"
    elif context.paths.registry.exists():
        yield f"Next: {shlex.join(['kedro', 'models', 'list', '--data-dir', str(context.data_dir)])}"


def _uses_run(context: RunContext) -> bool:
    """Return whether the command trains, or works on what was trained before."""
    from transformer_foundry.datasets import TrainingRunDataset

    return writes_dataset(context, TrainingRunDataset) or reads_dataset(context, TrainingRunDataset)


def _is_packaged(context: RunContext, made: _Made) -> bool:
    """Return whether the package is undamaged, of the best checkpoint, and of the evaluation if that is known."""
    from transformer_foundry.core.publishing import read_package
    from transformer_foundry.core.training.checkpointing.directory import best_origin

    try:
        manifest = read_package(context.paths.package).manifest
    except DeploymentError:
        return False
    expected = best_origin(context.paths.run)
    if made.evaluation is not None:
        expected = expected | {"evaluation": digest_of(made.evaluation)}
    return "step" in expected and is_made_from(manifest, expected)


def continues(context: RunContext, pipeline_name: str) -> bool:
    """Return whether what a registered pipeline adds to this one is made of this run, and not of another one."""
    from kedro.framework.project import pipelines

    if pipeline_name not in pipelines:
        return not pipelines  # another project has pipelines of its own
    return context.nodes.issuperset(set(pipelines[pipeline_name].nodes) - set(context.pipeline.nodes))


def _changes_model(context: RunContext) -> bool:
    """Return whether the search has found values of the model itself, which ``training.use_best`` refuses."""
    return any(isinstance(found, dict) and found.get("model_overrides") for found in context.load_results().values())


def _command(context: RunContext, pipeline_name: str, training: Mapping[str, bool] | None = None) -> str:
    given = dict(context.runtime_params)
    if training:
        given["training"] = {**given.get("training", {}), **training}
        if context.options(BenchmarkOptions).models:  # a comparison takes no result of a search
            given["benchmark"] = {**given.get("benchmark", {}), "models": []}
    return run_command([pipeline_name], context.env, given, context.conf_source)

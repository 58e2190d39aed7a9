"""The end of each command: what was made, where it lies, what to do next."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

from transformer_foundry.console.command_line import run_command
from transformer_foundry.console.status_line import in_notebook
from transformer_foundry.core.base.text import format_number

__all__ = ["SummaryHooks"]

_log = logging.getLogger(__name__)

_NEXT: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("training_run", "deployment", {}),
    ("study", "training", {"training.use_best": "true"}),
    ("token_splits", "training", {}),
    ("validation_report", "data_engineering", {}),
)
"""The last thing a run has made -> the pipeline that goes on from there, and what it is told besides."""

_TOLD = frozenset({"validation_report", "evaluation", "model_package", "search_comparison", "hub_publication"})
"""Results that are small enough to be remembered."""

_MADE = (
    ("token_splits", "tokenizer, tokens", "05_model_input", "preparation"),
    ("training_run", "checkpoints, metrics", "06_models", "name"),
    ("study", "study, best values", "06_models", "preparation"),
    ("model_package", "package", "07_model_output", "name"),
    ("validation_report", "reports, figures", "08_reporting", "preparation"),
    ("evaluation", "reports, figures", "08_reporting", "name"),
    ("trials", "trials", "08_reporting", "preparation"),
)
"""Catalog entry -> what to call it, and the folder it lies in: of the run, or of the preparation that runs share."""


class SummaryHooks:
    """Says at the end of a run what was made."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}
        self._saved: dict[str, Any] = {}
        self._run_params: Mapping[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the parameters."""
        self._parameters = context.config_loader["parameters"]
        self._saved, self._run_params = {}, {}

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Keep how the command was given, to write the next one in the same way."""
        self._run_params = run_params

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Remember the small results that the summary tells."""
        self._saved[dataset_name] = data if dataset_name in _TOLD else None
        if dataset_name == "validation_report":
            _log.info(_verdict(data))

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline) -> None:
        """Log the summary."""
        lines = _evaluation_lines(self._saved.get("evaluation"))
        lines += self._reproduction_lines()
        if self._saved.get("search_comparison") is not None:
            lines.append(f"Search: {self._saved['search_comparison'].get('verdict', '')}")
        if self._saved.get("model_package") is not None:
            lines.append(_package_line(self._saved["model_package"].manifest))
        if (published := self._saved.get("hub_publication")) and published["published"]:
            lines.append(f"Published: {published['url']} {published['tag']}")
        lines += self._places()
        lines += self._next(pipeline)
        for line in lines:
            _log.info(line)

    def _places(self) -> Iterator[str]:
        """Say where what was made lies."""
        root, run = Path(self._parameters["data_dir"]), self._parameters["run"]
        shown: set[Path] = set()
        for entry, label, folder, owner in _MADE:
            path = root / folder / run.get(owner, run["name"])
            if entry in self._saved and path not in shown:
                yield f"{label:<21} {path}"
                shown.add(path)
        report = root / "08_reporting" / run["name"] / "report.html"
        if report.exists():
            yield f"{'report to look at':<21} {report}"

    def _next(self, pipeline: Pipeline) -> Iterator[str]:
        """Say how to go on, with the parameters of this command; in a notebook the next cell does."""
        made = pipeline.outputs() | set(self._saved)
        report = self._saved.get("validation_report") or {"findings": []}
        has_errors = any(finding["severity"] == "error" for finding in report["findings"])
        if has_errors and not made & {"training_run", "study"}:
            yield f"Next: mend the model, export it again, and: {self._command('validation', {})}"
            return
        if "hub_publication" in made:
            # Where the package lies now: the folder that was saved was moved there.
            program = Path(self._parameters["data_dir"], "07_model_output", self._parameters["run"]["name"])
            if "model_package" in self._saved and (program / "inference.py").exists():
                yield f"Try it: {shlex.join(['python', str(program / 'inference.py')])}"
            return
        if in_notebook():
            return
        for entry, name, besides in _NEXT:
            if entry in made:
                yield f"Next: {self._command(name, besides)}"
                return

    def _command(self, pipeline_name: str, besides: Mapping[str, str]) -> str:
        given = dict(self._run_params.get("runtime_params") or {})
        for name, value in besides.items():
            section, _, key = name.partition(".")
            given[section] = {**given.get(section, {}), key: value}
        return run_command([pipeline_name], self._run_params.get("env"), given)

    def _reproduction_lines(self) -> list[str]:
        """Say whether a run that was done again came out the same."""
        manifest = self._parameters["run"].get("reproduce")
        if manifest is None or "training_run" not in self._saved:
            return []
        from transformer_foundry.core.training.checkpointing.run_manifest import (
            compare_manifests,
            is_same_result,
            read_run_manifest,
        )

        run_folder = Path(self._parameters["data_dir"]) / "06_models" / self._parameters["run"]["name"]
        before, now = read_run_manifest(Path(manifest).parent), read_run_manifest(run_folder)
        if is_same_result(before, now):
            return ["REPRODUCED: final weights and optimizer state are the same to the bit."]
        lines = [
            "NOT REPRODUCED: the final weights differ." if is_same_result(before, now) is False else "NOT COMPARED."
        ]
        return lines + [
            f"  {name}: {old} before, {new} now" for name, (old, new) in compare_manifests(before, now).items()
        ]


def _verdict(report: dict[str, Any]) -> str:
    problems = [finding for finding in report["findings"] if finding["severity"] in ("error", "warning")]
    if not problems:
        return f"Validation: the model is sound ({report['kind']}, {report['seconds']:.1f} s)."
    lines = [f"Validation: {len(problems)} problem{'s' if len(problems) > 1 else ''} found ({report['kind']})."]
    lines += [f"  {item['severity']}: {item['message']} ({item['where']}) {item['fix']}" for item in problems]
    return "\n".join(lines)


def _evaluation_lines(evaluation: dict[str, Any] | None) -> list[str]:
    if not evaluation:
        return []
    measured = ", ".join(f"{key} {format_number(value)}" for key, value in evaluation["validation"].items())
    lines = [f"Validation split: {measured}"]
    lines += [f"  {item['sentence']}" for item in evaluation["comparisons"]]
    return lines


def _package_line(manifest: dict[str, Any]) -> str:
    formats = ", ".join(f"{item['format']} {item['status']}" for item in manifest["formats"])
    return f"Package: {formats}."

"""The end of each command: what was made, where it lies, what to do next."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.pipeline import Pipeline

__all__ = ["SummaryHooks"]

_log = logging.getLogger(__name__)

_NEXT = (
    ("hub_publication", ""),
    ("training_run", "Next: kedro run --pipelines deployment"),
    ("study", "Next: kedro run --pipelines training --params training.use_best=true"),
    ("token_splits", "Next: kedro run --pipelines training"),
    ("validation_report", "Next: kedro run --pipelines data_engineering"),
)
"""The last thing a run has made -> the command that goes on from there."""


class SummaryHooks:
    """Says at the end of a run what was made."""

    def __init__(self) -> None:
        self._parameters: dict[str, Any] = {}
        self._saved: dict[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Keep the parameters."""
        self._parameters = context.config_loader["parameters"]
        self._saved = {}

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Remember the small results that the summary tells."""
        is_told = dataset_name in ("validation_report", "evaluation", "model_package")
        self._saved[dataset_name] = data if is_told else None
        if dataset_name == "validation_report":
            _log.info(_verdict(data))

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline) -> None:
        """Log the summary."""
        root, name = Path(self._parameters["data_dir"]), self._parameters["run"]["name"]
        for line in _evaluation_lines(self._saved.get("evaluation")):
            _log.info(line)
        for line in self._reproduction_lines():
            _log.info(line)
        if self._saved.get("model_package") is not None:
            _log.info(_package_line(self._saved["model_package"].manifest))
        folders = (
            ("token_splits", "tokenizer, tokens", "05_model_input"),
            ("training_run", "checkpoints, metrics", "06_models"),
            ("model_package", "package", "07_model_output"),
            ("validation_report", "reports, figures", "08_reporting"),
            ("evaluation", "reports, figures", "08_reporting"),
            ("trials", "trials", "08_reporting"),
        )
        shown: set[str] = set()
        for entry, label, folder in folders:
            if entry in self._saved and folder not in shown:
                _log.info("%-21s %s", label, root / folder / name)
                shown.add(folder)
        advice = next((text for entry, text in _NEXT if entry in pipeline.outputs() | set(self._saved)), "")
        if advice:
            _log.info(advice)

    def _reproduction_lines(self) -> list[str]:
        """Say whether a run that was done again came out the same."""
        manifest = self._parameters["run"].get("reproduce")
        if manifest is None or "training_run" not in self._saved:
            return []
        from transformer_foundry.core.training.run_list import differences, is_same_result, read_run_manifest

        run_folder = Path(self._parameters["data_dir"]) / "06_models" / self._parameters["run"]["name"]
        before, now = read_run_manifest(Path(manifest).parent), read_run_manifest(run_folder)
        if is_same_result(before, now):
            return ["REPRODUCED: final weights and optimizer state are the same to the bit."]
        lines = [
            "NOT REPRODUCED: the final weights differ." if is_same_result(before, now) is False else "NOT COMPARED."
        ]
        return lines + [f"  {name}: {old} before, {new} now" for name, (old, new) in differences(before, now).items()]


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
    measured = ", ".join(f"{key} {value:.4g}" for key, value in evaluation["validation"].items())
    lines = [f"Validation split: {measured}"]
    lines += [f"  {item['sentence']}" for item in evaluation["comparisons"]]
    return lines


def _package_line(manifest: dict[str, Any]) -> str:
    formats = ", ".join(f"{item['format']} {item['status']}" for item in manifest["formats"])
    return f"Package: {formats}."

"""What would happen to each stage of a pipeline: it is up to date, or runs, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.files.provenance import Origin, difference_text, is_made_from, origin_of
from transformer_foundry.hooks.run_context import entry_of, function_of
from transformer_foundry.hooks.run_context.entries import CatalogEntries

__all__ = ["STAGES", "plan_stages"]

UP_TO_DATE, WOULD_RUN, WOULD_COMPARE = "up to date", "would run", "would be compared"
_PREPARING = ("validation", "data_engineering")
"""Stages whose results the runs of one preparation share."""

Row = tuple[str, str, str]


def plan_stages(
    pipeline: Pipeline,
    running: Pipeline,
    catalog: DataCatalog,
    parameters: Mapping[str, Any],
    *,
    supplies_earlier: bool = True,
) -> list[Row]:
    """Return stage, what would happen to it and why, for each stage of a pipeline, in their order.

    A stage is found by the node that is costly in it: a training with a namespace has stages of its own. Other nodes
    follow, one by one.

    Args:
        pipeline: The nodes that were chosen.
        running: Those of them that would run: with ``--only-missing-outputs`` not all.
        catalog: Where earlier results are.
        parameters: All sections of the parameters.
        supplies_earlier: Whether hooks give the nodes what their outputs hold from an earlier command.
    """
    rows: list[Row] = []
    renewed: set[str] = set()
    repaired: set[str] = set()
    planned: set[str] = set()
    for stage, (function, decide) in STAGES.items():
        for node in (item for item in pipeline.nodes if function_of(item) == function):
            plan = _Plan(catalog, parameters, stage, _prefix_of(node), node, pipeline, renewed, repaired)
            planned.add(node.namespace or "")
            if node not in running.nodes:
                rows.append((plan.label, "skipped", "its outputs exist"))
            elif not supplies_earlier and stage in _REUSING:
                rows.append((plan.label, *plan.run("because KedroHooks is not in HOOKS of settings.py")))
            else:
                rows.append((plan.label, *decide(plan)))
    others = [node for node in pipeline.nodes if (node.namespace or "") not in planned or function_of(node) is None]
    for node in others:
        is_run = node in running.nodes
        rows.append((node.name, WOULD_RUN if is_run else "skipped", "" if is_run else "its outputs exist"))
    return rows


def _prefix_of(node: Node) -> str:
    """Return the namespace of a node in the names of its entries; our stages have bare names."""
    return "" if node.namespace is None or node.namespace in STAGES else f"{node.namespace}."


@dataclass
class _Plan:
    """What is known while one stage is decided.

    Attributes:
        catalog: Where earlier results are.
        parameters: All sections of the parameters.
        stage: The stage.
        prefix: The namespace of its node, for labels: ``second.``; empty for our stages.
        node: Its costly node.
        pipeline: The nodes that were chosen.
        renewed: Labels of earlier stages that would run.
        repaired: Those of them that make what is missing or damaged again, of the same sources.
    """

    catalog: DataCatalog
    parameters: Mapping[str, Any]
    stage: str
    prefix: str
    node: Node
    pipeline: Pipeline
    renewed: set[str] = field(default_factory=set)
    repaired: set[str] = field(default_factory=set)

    @property
    def label(self) -> str:
        """Name of the stage in the table."""
        return self.prefix + self.stage

    def is_renewed(self, stage: str) -> bool:
        """Return whether an earlier stage, of this namespace or shared, would run."""
        own = self.prefix + stage
        shared = stage in self.renewed and stage in _PREPARING
        return own in self.renewed or shared

    def entry(self, name: str) -> str:
        """Return the entry that this stage has for what our pipelines call ``name``: an input or an output of its node.

        What its node does not have is that of the nodes before it, or has the bare name.
        """
        bare = name.removeprefix("params:")
        before = (node for node in reversed(self.pipeline.to_nodes(self.node.name).nodes) if node != self.node)
        for node in (self.node, *before):
            given = entry_of(node, bare)
            if given is not None:
                return given
            function = function_of(node)
            made = _outputs().get(function, ()) if function is not None else ()
            if bare in made:
                return node.outputs[made.index(bare)]
        return name

    def read(self, entry: str) -> Any:
        """Return an earlier result; None if it is missing or damaged."""
        from transformer_foundry.datasets.storage.earlier import load_earlier

        dataset: Any = self.catalog.get(self.entry(entry))
        return None if dataset is None else load_earlier(dataset, entry)

    def run_of(self, entry: str) -> Any:
        """Return what is continued: a training run or the results of a comparison; empty if it has not started."""
        return self.catalog.load(self.entry(entry))

    def options(self, options_class: Any, section: str) -> Any:
        from transformer_foundry.core.base.options import as_options

        values: Any = self.parameters
        for key in self.entry(f"params:{section}").removeprefix("params:").split("."):
            values = values.get(key) if isinstance(values, Mapping) else None
        return as_options(options_class, values, section)

    def export(self) -> Any:
        """Return the model as it is now; its code does not run."""
        dataset: Any = self.catalog.get(self.entry("model_export"))
        return dataset.read() if hasattr(dataset, "read") else dataset.load()

    def decide(self, entry: str, previous: object, origin: Origin, what: str) -> tuple[str, str]:
        """Compare an earlier result, that of ``entry``, with what it would be made from now."""
        if previous is None:
            return self.run(self.lacking(entry))
        if is_made_from(previous, origin):
            return UP_TO_DATE, what
        return self.run(f"because of {difference_text(origin, origin_of(previous))}")

    def compare(self, entry: str, after: str) -> tuple[str, str]:
        """Return that an earlier result is used again if an earlier stage gives what it was made from."""
        if self.read(entry) is None:
            return self.run(self.lacking(entry))
        return self.run(f"after {after}: made again if that gives something else", WOULD_COMPARE)

    def lacking(self, *entries: str) -> str:
        """Return why results cannot be read: they are damaged, or this run has none yet."""
        found = CatalogEntries(self.catalog, ())
        paths = {name: found.local_path(self.entry(name)) for name in entries if self.read(name) is None}
        damaged = [_words(name) for name, path in paths.items() if path is not None and path.exists()]
        of = self._owner(paths.values())
        owner = f" of {of}" if of else ""
        if damaged:
            return f"damaged: {' and '.join(damaged)}{owner}"
        # On a server, one that is damaged cannot be told from none.
        kind = "whole " if None in paths.values() else ""
        return f"no {kind}{' or '.join(map(_words, paths))}{owner} yet"

    def _owner(self, places: Iterable[Path | None]) -> str | None:
        """Return the run that results are of: that of the training run, or the one whose name is in their paths."""
        if self.stage not in _PREPARING:
            folder = CatalogEntries(self.catalog, ()).local_path(self.entry("training_run"))
            return None if folder is None else folder.name
        run = self.options(RunOptions, "run")
        found = {part for path in places if path is not None for part in path.parts}
        return run.preparation if run.preparation in found else None

    def run(self, why: str, what: str = WOULD_RUN) -> tuple[str, str]:
        self.renewed.add(self.label)
        return what, why


@cache
def _outputs() -> Mapping[str, list[str]]:
    """Return the names that our pipelines give to the outputs of each function of a node."""
    from transformer_foundry.pipelines import comparison, data_engineering, deployment, training, tuning, validation

    parts = (comparison, data_engineering, deployment, training, tuning, validation)
    nodes = [node for part in parts for node in part.create_pipeline().nodes]
    return {function: node.outputs for node in nodes if (function := function_of(node)) is not None}


def _words(entry: str) -> str:
    return entry.replace("_", " ")


def _validation(plan: _Plan) -> tuple[str, str]:
    from transformer_foundry.core.checks.options import ValidationOptions
    from transformer_foundry.core.checks.report.gate import report_origin
    from transformer_foundry.core.models.options import ModelOptions
    from transformer_foundry.core.training import REHEARSAL

    export = plan.export()
    model, validation = plan.options(ModelOptions, "model"), plan.options(ValidationOptions, "validation")
    report = plan.read("validation_report")
    if report is None or plan.read("validation_figure") is None:
        return plan.run(plan.lacking("validation_report", "validation_figure"))
    if any(finding["check"] == REHEARSAL for finding in report["findings"]):
        return plan.run("because the report is about data and settings of training, too")
    origin = report_origin(export.identity, model.kind, validation.tier)
    return plan.decide("validation_report", report, origin, f"{export.name} is checked")


def _data_engineering(plan: _Plan) -> tuple[str, str]:
    from transformer_foundry.core import data as core_data
    from transformer_foundry.core.data.options import DataOptions
    from transformer_foundry.core.models.contract import Contract
    from transformer_foundry.core.models.options import ModelOptions
    from transformer_foundry.pipelines.reuse import contract_origin

    options = plan.options(DataOptions, "data")
    splits, tokenizer = plan.read("token_splits"), plan.read("tokenizer")
    if splits is None or tokenizer is None:
        plan.repaired.add(plan.label)
        return plan.run(plan.lacking("token_splits", "tokenizer"))
    known = plan.read("contract")
    origin = contract_origin(plan.export(), plan.options(ModelOptions, "model"))
    if not is_made_from(known, origin):
        return plan.run(f"because of {difference_text(origin, origin_of(known))}")
    if core_data.is_remote(options):
        return WOULD_COMPARE, f"after asking for the revision of {options.source}"
    contract = Contract.from_dict(known)
    corpus = core_data.read_corpus(options, contract.task, contract.num_labels)
    if not core_data.is_prepared(corpus, contract, options, tokenizer, splits):
        return plan.run(f"because {options.source} or its settings differ from those of the tokens")
    return (
        UP_TO_DATE,
        f"{counted(sum(split.documents for split in splits.splits.values()), 'document')} of {splits.source}",
    )


def _training(plan: _Plan) -> tuple[str, str]:
    from transformer_foundry.core.training.checkpointing.compatibility import require_same_identity, run_identity
    from transformer_foundry.core.training.checkpointing.directory import newest_checkpoint, step_of
    from transformer_foundry.core.training.options import TrainingOptions

    options, run = plan.options(TrainingOptions, "training"), plan.run_of("previous_run")
    name, skipped = run.folder.name, list[str]()
    newest = newest_checkpoint(run.folder, skipped)
    if newest is None:
        return plan.run(_start_text(plan, name, options, run.fork_from), "would start")
    step, planned = step_of(newest), run.manifest.get("total_steps", 0)
    if plan.is_renewed("data_engineering") and not plan.repaired:
        return plan.run(f"{name} at step {step}, if the new data are those of the run", "would resume")
    splits, tokenizer = plan.read("token_splits"), plan.read("tokenizer")
    if splits is not None and tokenizer is not None and not plan.is_renewed("data_engineering"):
        identity = run_identity(plan.export(), splits, tokenizer)
        require_same_identity(run.manifest.get("identity", {}), identity, step)
    end = options.max_steps if options.num_train_epochs is None else planned
    if step < end and (skipped or not run.is_finished(end)):
        why = f"the checkpoint of step {run.step} is damaged" if skipped else _unfinished_text(run, newest, options)
        return plan.run(f"{name} at step {step} of {end}, because {why}", "would resume")
    if _ends_by_steps(options) and step > end:
        return UP_TO_DATE, f"{name} is at step {step}, after the {end} that are asked for"
    return UP_TO_DATE, f"{name}, step {step} of {planned or step}"


def _ends_by_steps(options: Any) -> bool:
    """Return whether ``training.max_steps`` says how long a run is."""
    return options.num_train_epochs is None and options.max_hours is None


def _unfinished_text(run: Any, newest: Path, options: Any) -> str:
    """Return why a run is to continue from its newest checkpoint: it was cut short, or is to become longer."""
    from transformer_foundry.core.files.folder_manifest import read_manifest

    if read_manifest(newest).get("reason") == "interrupt":
        return "it was interrupted"
    is_longer = run.manifest.get("result", {}).get("step") == run.step and _ends_by_steps(options)
    return f"training.max_steps is {options.max_steps}" if is_longer else "it is not finished"


def _start_text(plan: _Plan, name: str, options: Any, fork_from: Any) -> str:
    """Return which run starts, for how long, and from what."""
    from transformer_foundry.core.models.options import ModelOptions

    epochs = options.num_train_epochs
    end = counted(options.max_steps, "step") if epochs is None else f"{epochs} epochs"
    init_from = plan.options(ModelOptions, "model").init_from
    start = "from step 0" if fork_from is None else f"from a checkpoint of {fork_from.name}"
    return f"{name} for {end}, {start if init_from is None else f'with the weights of {init_from}'}"


def _evaluation(plan: _Plan) -> tuple[str, str]:
    from transformer_foundry.core.evaluation.assess import evaluation_origin
    from transformer_foundry.core.system.precision import choose_precision
    from transformer_foundry.core.training.options import TrainingOptions

    if plan.is_renewed("training"):
        return plan.compare("evaluation", "training")
    options = plan.options(TrainingOptions, "training")
    origin = evaluation_origin(
        plan.run_of("training_run").best_origin(),
        precision=choose_precision(options.device, options.precision),
        batch_size=options.rows_per_evaluation_batch,
        samples=options.samples,
        seed=options.seed,
    )
    if plan.read("samples") is None:
        return plan.run(plan.lacking("evaluation", "samples"))
    return plan.decide("evaluation", plan.read("evaluation"), origin, f"step {origin.get('step')}")


def _deployment(plan: _Plan) -> tuple[str, str]:
    from transformer_foundry.core.publishing.options import DeploymentOptions
    from transformer_foundry.core.publishing.package.build import package_origin
    from transformer_foundry.core.publishing.package.manifest import tracking_url

    if plan.is_renewed("evaluation"):
        return plan.compare("model_package", "the evaluation")
    package, run = plan.read("model_package"), plan.run_of("training_run")
    if package is None:
        return plan.run(plan.lacking("model_package"))
    parts = {name: plan.read(name) for name in ("evaluation", "data_profile", "validation_report")}
    if None in parts.values():
        return plan.run("because a report is missing or damaged")
    run_manifest = run.manifest | {"tracking_url": tracking_url(run.folder)}
    origin = package_origin(
        run.best_origin(), **parts, run_manifest=run_manifest, options=plan.options(DeploymentOptions, "deployment")
    )
    return plan.decide("model_package", package.manifest, origin, counted(len(package.manifest["formats"]), "format"))


def _comparison(plan: _Plan) -> tuple[str, str]:
    done = len(plan.run_of("previous_comparison_results"))
    return plan.run(f"{done} of its trainings are done", "would continue" if done else WOULD_RUN)


def _tuning(plan: _Plan) -> tuple[str, str]:
    from transformer_foundry.core.studies.tuning.options import TuningOptions

    wanted = plan.options(TuningOptions, "tuning").n_trials
    if not plan.catalog.exists(plan.entry("previous_study")):
        return plan.run(f"for {wanted} trials")
    return plan.run(f"until {wanted} trials are done", "would continue")


STAGES: Mapping[str, tuple[str, Callable[[_Plan], tuple[str, str]]]] = {
    "validation": ("check_export", _validation),
    "data_engineering": ("prepare_tokens", _data_engineering),
    "training": ("train_model", _training),
    "evaluation": ("evaluate_model", _evaluation),
    "comparison": ("compare_models", _comparison),
    "tuning": ("search_parameters", _tuning),
    "deployment": ("make_package", _deployment),
}
"""Stage -> the function of its costly node, and how what happens to it is decided."""

_REUSING = ("validation", "data_engineering", "evaluation", "deployment")
"""Stages that read what their outputs hold; training, tuning and comparison continue what an entry of theirs holds."""

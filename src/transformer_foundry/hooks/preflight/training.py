"""Whether training can start: device, result of a search, keys, disk space; ``start`` has what it starts from."""

from __future__ import annotations

import importlib.metadata
import shutil

from transformer_foundry.config.drive_folder import find_folder
from transformer_foundry.config.hook_options import DriveOptions, TrackingOptions
from transformer_foundry.config.own_nodes import entry_of
from transformer_foundry.core.base.errors import ParameterError, TrainingError, TuningError
from transformer_foundry.core.base.text import short_list
from transformer_foundry.core.studies.comparison.options import BenchmarkOptions
from transformer_foundry.core.training.checkpointing.compatibility import require_same_options
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of
from transformer_foundry.core.training.checkpointing.run_files import read_run_record
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.hooks.preflight.reads import reads_section, writes_dataset
from transformer_foundry.hooks.preflight.start import require_start
from transformer_foundry.hooks.run_context import RunContext
from transformer_foundry.hooks.run_context.flow import function_of

__all__ = ["require_training"]

LEAST_FREE_BYTES = 64 * 2**20
"""Reports, tokens of a short text and two checkpoints of the smallest bundled model need about this much."""


def require_training(context: RunContext) -> None:
    """Refuse a training that cannot start.

    Raises:
        TrainingError: If there is no GPU, and one is asked for.
        CheckpointError: If what the run starts from does not exist, or knows other ids than the data will have, or its
            options may not change as they have.
        TuningError: If the result of a search is asked for and there was none.
        ParameterError: If models are to be compared, a key is missing or the disk is full.
    """
    if reads_section(context, "training"):
        _require_device(context.options(TrainingOptions))
    if context.trains:
        _require_no_comparison(context)
        require_start(context)
        _require_same_options(context)
        _require_search(context)
        _require_key(context.options(TrackingOptions))
    if context.pipeline.all_outputs():
        _require_space(context)


def _require_no_comparison(context: RunContext) -> None:
    """Refuse models to compare where one is trained; a pipeline of the user's own may do both."""
    models = context.options(BenchmarkOptions).models
    compares = any(function_of(node) == "compare_models" for node in context.pipeline.nodes)
    if models and not (compares and len(context.pipeline_names) <= 1):
        assert context.run is not None
        asked = ",".join(context.pipeline_names) or "this pipeline"
        raise ParameterError(
            f"benchmark.models is [{short_list(models, 3)}], but {asked} trains one model, {context.run.folder.name}.",
            "Expected a comparison: it replaces training, and evaluates, tunes and packages none of the models.",
            "Use --pipelines comparison, or remove the models: --params benchmark.models=[].",
        )


def _require_device(options: TrainingOptions) -> None:
    """Refuse a GPU that does not exist; torch, whose import takes a second, is loaded only for its own answer."""
    if options.device != "cuda":
        return
    if importlib.metadata.version("torch").endswith("+cpu"):
        raise TrainingError(
            "training.device is 'cuda', but torch finds no GPU: it is a build for CPUs only.",
            "A GPU, and a torch that can use it, was expected.",
            "Choose a GPU runtime, or set training.device=auto to train on the CPU.",
        )
    from transformer_foundry.core.system.precision import choose_precision

    choose_precision(options.device, options.precision)


def _require_same_options(context: RunContext) -> None:
    """Refuse options that the run cannot be continued with, where it does not get another name for them."""
    assert context.run is not None
    options = context.options(TrainingOptions)
    checkpoints = list_checkpoints(context.run.folder)
    recorded = read_run_record(context.run.folder).get("parameters", {}).get("training")
    # With use_best, the values of the search count, which may still be made.
    if context.run_choice is None and checkpoints and recorded and not options.use_best:
        require_same_options(recorded, options, step_of(checkpoints[-1]))


def _require_search(context: RunContext) -> None:
    from transformer_foundry.datasets import StudyDataset

    if not context.options(TrainingOptions).use_best or writes_dataset(context, StudyDataset):
        return
    read = (entry_of(node, "best_parameters") for node in context.pipeline.nodes if node in context.nodes)
    entry = next((name for name in read if name is not None), "best_parameters")
    copies = find_folder(context.options(DriveOptions).folder)
    if not (entry in context.catalog and context.catalog.exists(entry)) and copies is None:
        place = f" ({context.files[entry]})" if entry in context.files else ""
        raise TuningError(
            f"training.use_best is true, but there is no {entry}{place}.",
            "It takes the values that the tuning pipeline found for this run, or for the run in run.preparation.",
            "Run 'kedro run --pipelines tuning' first, or leave training.use_best out.",
        )


def _require_key(options: TrackingOptions) -> None:
    from transformer_foundry.hooks.tracking.wandb_run import choose_mode

    if options.enabled and options.mode == "online" and choose_mode("online") != "online":
        raise ParameterError(
            "tracking.mode is 'online', but there is no key of Weights & Biases.",
            "Expected WANDB_API_KEY in the environment, or the key that 'wandb login' keeps.",
            "Set WANDB_API_KEY, or tracking.mode=auto, which is offline without a key.",
        )


def _require_space(context: RunContext) -> None:
    existing = next(path for path in (context.data_dir, *context.data_dir.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < LEAST_FREE_BYTES:
        raise ParameterError(
            f"The disk of data_dir ({context.data_dir}) has {free / 2**20:.0f} MiB free.",
            f"Expected at least {LEAST_FREE_BYTES // 2**20} MiB for reports, tokens and checkpoints.",
            "Free space, or choose another folder with --params data_dir=FOLDER.",
        )

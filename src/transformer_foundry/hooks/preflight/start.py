"""What a run starts from: it exists, and its weights know the ids that the data will have."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.config.drive_folder import find_folder
from transformer_foundry.config.hook_options import DriveOptions
from transformer_foundry.config.run_name import request_of
from transformer_foundry.config.run_options import RunOptions
from transformer_foundry.console.command_line import run_command, with_values
from transformer_foundry.core.base.errors import CheckpointError, DataError, suggestion
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.files.folder_manifest import is_finished
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER, RUN_MANIFEST_FILE
from transformer_foundry.core.files.seal import broken_file
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.training.checkpointing.directory import list_checkpoints, step_of
from transformer_foundry.core.training.checkpointing.run_files import read_run_record
from transformer_foundry.core.training.checkpointing.run_request import read_request, request_differences
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.hooks.run_context import RunContext
from transformer_foundry.hooks.run_context.entries import CatalogEntries

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer

__all__ = ["command_with", "require_start", "vocabulary_values"]

_BYTES = frozenset({"auto", "bpe", "bytes"})
"""Kinds of tokenizers that have no merges in a vocabulary that only the bytes fit in: the same for every text."""


def require_start(context: RunContext) -> None:
    """Refuse a fork or initial weights that do not exist, or that know other ids than the data will have.

    Raises:
        CheckpointError: If that is so. A run with checkpoints of its own starts from these.
    """
    assert context.run is not None
    fork_from, init_from = context.options(RunOptions).fork_from, context.options(ModelOptions).init_from
    if list_checkpoints(context.run.folder) or _is_on_drive(context):
        return
    runs = context.run.folder.parent
    if fork_from is not None and init_from is not None:
        raise CheckpointError(
            f"Both run.fork_from ({fork_from}) and model.init_from ({init_from}) say what the run begins with.",
            "A fork begins with a whole checkpoint, init_from with weights only.",
            "Leave one of them out.",
        )
    if fork_from is not None:
        _require_fork(context, fork_from, runs)
        _require_steps(context, fork_from, runs)
        _require_vocabulary(context, "run.fork_from", fork_from, runs)
    # OWNER/NAME may be on the Hub.
    if init_from is None:
        return
    if "/" not in init_from and not (runs / init_from).is_dir() and not Path(init_from).exists():
        raise CheckpointError(
            f"model.init_from is {init_from!r}: there is no such run in {runs}, and no such folder."
            + _nearest(init_from, runs),
            "The name of a run, the folder of a run or of a package, or a Hub repository OWNER/NAME was expected.",
            "See 'kedro runs list' for the runs.",
        )
    _require_vocabulary(context, "model.init_from", init_from, runs)


def vocabulary_values(context: RunContext, origin: Path, changed: Collection[str]) -> dict[str, Any] | None:
    """Return the parameters with which the data get the tokenizer of an earlier run.

    Args:
        context: The run that is to start from its weights.
        origin: Folder of the earlier run.
        changed: Parameters in which its request differs from that of this command.

    Returns:
        Empty if they get it as they are, or what they get is not known before they are read; None if its tokenizer is
        no longer there, or data of ids are compared with text.
    """
    data = context.options(DataOptions)
    if "data.vocab_size" in changed:
        return None
    if data.vocab_size is not None or not any(name.startswith("data.") for name in changed):
        return {}
    folder, tokenizer = _tokenizer_of(context, read_run_record(origin), origin.name)
    if not _is_other(data, tokenizer, changed):
        return {}
    return None if folder is None else {"data.tokenizer": str(folder)}


def command_with(context: RunContext, values: Mapping[str, Any]) -> str:
    """Return the command of a run with some values of parameters changed, by dotted names."""
    changed = with_values(context.runtime_params, values)
    return run_command(context.pipeline_names, context.env, changed, context.conf_source)


def _require_fork(context: RunContext, fork_from: str, runs: Path) -> None:
    assert context.run is not None
    if not (list_checkpoints(runs / fork_from) or is_finished(runs / fork_from)):
        raise CheckpointError(
            f"run.fork_from is {fork_from!r}, which has no checkpoint.{_nearest(fork_from, runs)}",
            "The name of a run with checkpoints, or the folder of one checkpoint, was expected.",
            "See 'kedro runs list' for the runs and 'kedro checkpoints list RUN' for their checkpoints.",
        )
    if context.run.fork_from is None:
        raise CheckpointError(
            f"run.fork_from is {fork_from!r}, but the catalog entry of {context.run.folder} does not read it.",
            "Expected an entry that says what the run begins with.",
            "Give its entries, training_run and previous_run, the line fork_from: ${parameters:run.fork_from,null}.",
        )


def _require_steps(context: RunContext, fork_from: str, runs: Path) -> None:
    """Refuse a fork in which nothing is left to train: it would end without a checkpoint."""
    options, origin = context.options(TrainingOptions), runs / fork_from
    checkpoints = list_checkpoints(origin) or [origin] * (origin.parent.name == CHECKPOINTS_FOLDER)
    step = max(map(step_of, checkpoints), default=0)
    if options.num_train_epochs is None and step >= options.max_steps:
        longer = command_with(context, {"training.max_steps": step + options.max_steps})
        raise CheckpointError(
            f"run.fork_from is {fork_from!r}, which is at step {step}, but training.max_steps is {options.max_steps}.",
            "Expected more steps than those that a fork begins with: they count.",
            f"Train it for {options.max_steps} more: {longer}",
        )


def _require_vocabulary(context: RunContext, key: str, name: str, runs: Path) -> None:
    """Refuse weights of a run that know other ids; those of a package are compared when they are read."""
    origin = next((folder for folder in (Path(name), runs / name) if (folder / CHECKPOINTS_FOLDER).is_dir()), None)
    if origin is None and Path(name).parent.name == CHECKPOINTS_FOLDER:
        origin = Path(name).parent.parent
    recorded = None if origin is None else read_request(origin)
    if origin is None or recorded is None:
        return
    changed = request_differences(recorded, request_of(context.parameters))
    values = vocabulary_values(context, origin, changed)
    if key == "run.fork_from" and "data.max_length" in changed and values is not None:
        values |= {"data.max_length": changed["data.max_length"][0]}  # a fork keeps the length of its tokenizer
    if values == {}:
        return
    data = context.options(DataOptions)
    given = f"data.tokenizer={data.tokenizer} gives {data.source} other tokens than {origin.name} was trained on"
    raise CheckpointError(
        f"{key} is {name!r}, but {given}: its weights would read other words."
        if values is None or "data.tokenizer" in values
        else f"{key} is {name!r}, but data.max_length is {data.max_length}, and a fork keeps its length.",
        f"Expected the tokenizer of {origin.name}.",
        f"Use it: {command_with(context, values)}"
        if values is not None
        else f"It is no longer in {context.paths.model_input.parent}: restore it, or leave {key} out.",
    )


def _is_other(data: DataOptions, tokenizer: Tokenizer | None, changed: Collection[str]) -> bool:
    """Return whether the data get another vocabulary than that of ``tokenizer``, as far as it is known by now."""
    from transformer_foundry.core.data.tokenizer.given import read_local
    from transformer_foundry.core.data.tokenizer.train import fitted_kind

    kind = fitted_kind(data)
    if kind is not None:  # fitted to the text, which is another one
        return not (tokenizer is not None and tokenizer.algorithm == "bytes" and kind in _BYTES)
    if "data.tokenizer" not in changed and "data.tokenizer_files" not in changed:
        return False
    given = read_local(data.tokenizer)
    if given is None or tokenizer is None:
        return False
    return bool(given.backend.get_vocab() != tokenizer.backend.get_vocab())


def _tokenizer_of(
    context: RunContext, manifest: Mapping[str, Any], name: str
) -> tuple[Path, Tokenizer] | tuple[None, None]:
    """Return the tokenizer that a run was trained with, found by its digest among those of all preparations."""
    from transformer_foundry.core.data.tokenizer.tokenizer import load_tokenizer
    from transformer_foundry.datasets import TokenizerDataset

    entries = CatalogEntries(context.catalog, context.pipeline.datasets())
    digest = (manifest.get("identity") or {}).get("tokenizer")
    for dataset in entries.find(context.files, TokenizerDataset).values():
        leaf, root = dataset.folder.name, context.paths.model_input.parent
        for folder in dict.fromkeys([root / name / leaf, *sorted(root.glob(f"*/{leaf}"))]):
            with contextlib.suppress(DataError):
                if broken_file(folder) is None and (found := load_tokenizer(folder)).digest() == digest:
                    return folder, found
    return None, None


def _is_on_drive(context: RunContext) -> bool:
    copies = find_folder(context.options(DriveOptions).folder)
    return copies is not None and (copies / context.paths.name / RUN_MANIFEST_FILE).is_file()


def _nearest(name: str, runs: Path) -> str:
    return suggestion(name, [folder.name for folder in runs.glob("*/") if (folder / RUN_MANIFEST_FILE).is_file()])

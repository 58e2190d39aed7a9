"""Whether training may resume from a state: what must be the same, what may change, which notes the user gets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.folder_manifest import is_finished
from transformer_foundry.core.files.run_paths import CHECKPOINTS_FOLDER
from transformer_foundry.core.training.checkpointing.directory import newest_checkpoint
from transformer_foundry.core.training.optim.learning_rate import learning_rate_at
from transformer_foundry.core.training.options import CHANGEABLE, TrainingOptions

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
    from transformer_foundry.core.models.source.read import ModelSource
    from transformer_foundry.core.system.precision import Precision
    from transformer_foundry.core.training.checkpointing.state import TrainingState

__all__ = [
    "Verdict",
    "change_verdict",
    "check_resume",
    "read_fork",
    "require_same_identity",
    "require_same_options",
    "run_identity",
    "starting_position",
]

Verdict: TypeAlias = Literal["continue", "extend", "fork", "refuse"]

_EXTENDING = frozenset({"max_steps", "num_train_epochs", "max_hours"})
"""Changeable options that make the run, and with it the learning-rate schedule, longer."""

_NEVER = frozenset({"optimizer", "model_code", "config", "model", "tokenizer"})
"""What not even a fork may change: the state of the optimizer, the weights or the ids would lose their meaning."""

_ORDER = ("per_device_train_batch_size", "gradient_accumulation_steps", "total_train_batch_size", "seed")
"""Options that change which rows are at a position of the data."""

_FORK = "run.name=NEW,run.fork_from=OLD"

_IDENTITY_NAMES = {
    "model_code": "another model (model.py differs)",
    "config": "another configuration of the model (config.json differs)",
    "model": "another model",
    "data": "other data (or other settings of their preparation)",
    "tokenizer": "another tokenizer",
}


def run_identity(export: ModelSource, splits: TokenSplits, tokenizer: Tokenizer) -> dict[str, str]:
    """Return the digests of model, data and tokenizer, which a resumed run must share.

    Args:
        export: The model.
        splits: The data.
        tokenizer: The tokenizer.

    Raises:
        DataError: If the data were prepared with another tokenizer.
    """
    splits.require_tokenizer(tokenizer)
    return {
        "model_code": export.code_digest,
        "config": export.sha256["config.json"],
        "data": splits.fingerprint,
        "tokenizer": tokenizer.digest(),
    }


def change_verdict(name: str) -> Verdict:
    """Return what a changed training option, or another model, data or tokenizer, means for a resumed run.

    ``continue``: the same run. ``extend``: the same run, longer. ``fork``: another run that starts from the checkpoint
    (``run.fork_from``). ``refuse``: another run from step 0.

    Example:
        >>> [change_verdict(name) for name in ("save_steps", "max_steps", "learning_rate", "config")]
        ['continue', 'extend', 'fork', 'refuse']
    """
    if name in _NEVER:
        return "refuse"
    if name not in CHANGEABLE:
        return "fork"
    return "extend" if name in _EXTENDING else "continue"


def check_resume(
    state: TrainingState, options: TrainingOptions, identity: Mapping[str, str], total_steps: int, precision: Precision
) -> tuple[str, ...]:
    """Check that training may resume from ``state``, and return notes for the user.

    Args:
        state: Where an earlier session stopped, or what a fork starts from.
        options: The options of this session.
        identity: Digests of model, data and tokenizer of this session; a name that only one side has is not compared.
        total_steps: Updates planned now.
        precision: Number format and device of this session.

    Raises:
        CheckpointError: If a change requires a fork or another run (see ``change_verdict``).
    """
    require_same_identity(state.identity, identity, state.step, is_fork=bool(state.forked_from))
    changed = _changed_options(state.options, options)
    for name, (before, now) in changed.items():
        if not _may_change(name, state):
            raise _other_option(name, state.step, before, now)
    notes = _notes(state, options, total_steps, precision)
    return (*_fork_notes(state, changed, identity), *notes) if state.forked_from else notes


def require_same_identity(
    recorded: Mapping[str, str], identity: Mapping[str, str], step: int, *, is_fork: bool = False
) -> None:
    """Refuse another model, other data or another tokenizer than those of a run, as ``check_resume`` does.

    Args:
        recorded: The digests of the run.
        identity: The digests of this session; a name that only one side has is not compared.
        step: Step of the checkpoint that is continued.
        is_fork: Whether another run starts from it.

    Raises:
        CheckpointError: If a change requires a fork or another run.
    """
    allowed = ("continue", "extend", "fork") if is_fork else ("continue", "extend")
    for name, digest in identity.items():
        if recorded.get(name, digest) != digest and change_verdict(name) not in allowed:
            raise _other_identity(name, step, recorded[name], digest)


def require_same_options(recorded: Mapping[str, Any], options: TrainingOptions, step: int) -> None:
    """Refuse options with which ``check_resume`` would not continue a run, before its checkpoint is read.

    Args:
        recorded: The options in the manifest of the run, by name.
        options: The options of this session.
        step: Step of its newest checkpoint.

    Raises:
        CheckpointError: If a change requires a fork or another run.
    """
    for name, (before, now) in _changed_options(recorded, options).items():
        if change_verdict(name) in ("fork", "refuse"):
            raise _other_option(name, step, before, now)


def read_fork(source: Path) -> TrainingState:
    """Return the state that a fork starts from, without a best checkpoint, which belongs to the other run.

    Args:
        source: Folder of a run, of which the newest checkpoint is taken, or of one checkpoint.

    Raises:
        CheckpointError: If there is no checkpoint, or it is damaged.
    """
    # It loads torch, and run names are chosen without it.
    from transformer_foundry.core.training.checkpointing.checkpoint import read_checkpoint

    notes: list[str] = []
    is_checkpoint = is_finished(source) and not (source / CHECKPOINTS_FOLDER).is_dir()
    folder = source if is_checkpoint else newest_checkpoint(source, notes)
    if folder is None:
        raise CheckpointError(
            f"run.fork_from is {source}, which has no checkpoint.",
            "The name of a run with checkpoints, or the folder of one checkpoint, was expected.",
            "See 'kedro runs list' for the runs and 'kedro checkpoints list RUN' for their checkpoints.",
        )
    state = read_checkpoint(folder, notes)
    loop = dataclasses.replace(state.loop, best_loss=None, best_step=None, evaluations_since_best=0, is_recorded=True)
    return dataclasses.replace(state, loop=loop, forked_from=str(folder))


def starting_position(state: TrainingState, options: TrainingOptions, identity: Mapping[str, str]) -> int:
    """Return the batch that training continues with: 0 for a fork in which the order of the data changes.

    Args:
        state: The state that training resumes from.
        options: The options of this session.
        identity: Digests of model, data and tokenizer of this session.
    """
    if state.forked_from and _changes_order(_changed_options(state.options, options), state, identity):
        return 0
    return state.loop.position


def _may_change(name: str, state: TrainingState) -> bool:
    return change_verdict(name) in ("continue", "extend", *(["fork"] if state.forked_from else []))


def _changed_options(recorded: Mapping[str, Any], options: TrainingOptions) -> dict[str, tuple[Any, Any]]:
    """Name -> value before and now, of the options that differ."""
    pairs = {
        field.name: (recorded.get(field.name, field.default), getattr(options, field.name))
        for field in dataclasses.fields(options)
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _changes_order(changed: Mapping[str, Any], state: TrainingState, identity: Mapping[str, str]) -> bool:
    return state.identity.get("data") != identity.get("data") or not changed.keys().isdisjoint(_ORDER)


def _other_identity(name: str, step: int, before: str, now: str) -> CheckpointError:
    fork = f", or continue with the new ones in a fork: {_FORK}" if change_verdict(name) == "fork" else ""
    return CheckpointError(
        f"The checkpoint of step {step} belongs to {_IDENTITY_NAMES.get(name, f'another {name}')}: "
        f"sha256 {before[:12]}, now {now[:12]}.",
        "A resumed run keeps the model, the data and the tokenizer that it started with.",
        f"Restore them, or start another run with run.name=NEW{fork}.",
    )


def _other_option(name: str, step: int, before: Any, now: Any) -> CheckpointError:
    fork = f" (a fork from step {step}: {_FORK})" if change_verdict(name) == "fork" else ""
    return CheckpointError(
        f"training.{name} is {now!r}, but the run was trained with {before!r} up to step {step}.",
        "A resumed run keeps its values; only its length and what is logged and saved may change.",
        f"Set training.{name}={_as_parameter(before)}, or start another run with run.name=NEW{fork}.",
    )


def _fork_notes(
    state: TrainingState, changed: Mapping[str, tuple[Any, Any]], identity: Mapping[str, str]
) -> tuple[str, ...]:
    changes = [f"{name} {before} -> {now}" for name, (before, now) in changed.items()]
    if state.identity.get("data") != identity.get("data"):
        changes.append("other data")
    notes = [f"Forked from {state.forked_from}; changed: {', '.join(changes) or 'nothing'}."]
    if _changes_order(changed, state, identity):
        notes.append("The order of the data changes: a new pass over the data begins.")
    return tuple(notes)


def _notes(state: TrainingState, options: TrainingOptions, total_steps: int, precision: Precision) -> tuple[str, ...]:
    notes = []
    if (state.precision, state.device) != (precision.name, precision.device.type):
        notes.append(
            f"The checkpoint was computed in {state.precision} on {state.device}, this session computes in "
            f"{precision.name} on {precision.device.type}: "
            "the result will not be the same to the bit."
        )
    if total_steps != state.total_steps and total_steps > state.step:
        note = f"The run was planned for {state.total_steps} steps and now ends at {total_steps}."
        # A schedule that depends on the length does so where the shorter plan ends, or here, within the warm-up.
        ends = (state.total_steps, total_steps)
        if any(len({learning_rate_at(step, end, options) for end in ends}) > 1 for step in (state.step, min(ends))):
            note += f" From step {state.step} the learning rate follows the new length."
        notes.append(note)
    return tuple(notes)


def _as_parameter(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

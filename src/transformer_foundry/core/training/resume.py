"""Whether training may go on from a state: what must be the same, what may change, what is worth a note."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.errors import CheckpointError
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.precision import Precision
from transformer_foundry.core.training.state import TrainingState

if TYPE_CHECKING:
    from transformer_foundry.core.data.splits import TokenSplits
    from transformer_foundry.core.data.tokenizers import Tokenizer
    from transformer_foundry.core.exports.fetch import Export

__all__ = ["CHANGEABLE", "check_resume", "run_identity"]

CHANGEABLE = frozenset(
    {
        "max_steps",
        "num_train_epochs",
        "per_device_eval_batch_size",
        "eval_steps",
        "eval_batches",
        "early_stopping_patience",
        "logging_steps",
        "num_samples",
        "sample_tokens",
        "sample_temperature",
        "sample_top_k",
        "sample_top_p",
        "save_steps",
        "save_minutes",
        "save_epochs",
        "save_total_limit",
        "spike_threshold",
        "max_skipped_steps",
        "memory_budget_gb",
        "chunked_loss",
        "activation_checkpointing",
        "compile",
        "tf32",
        "deterministic",
        "device",
        "use_best",
    }
)
"""Options that may differ when training goes on: they change how long it lasts and what is seen and kept of it, not
what a step does. Every other option changes the weights and is refused."""

_IDENTITY_WORDS = {
    "model_code": "another model (model.py differs)",
    "config": "another configuration of the model (config.json differs)",
    "model": "another model",
    "data": "other data (or other settings of their preparation)",
    "tokenizer": "another tokenizer",
}


def run_identity(export: Export, splits: TokenSplits, tokenizer: Tokenizer) -> dict[str, str]:
    """Return the digests of what a run belongs to.

    Args:
        export: The model.
        splits: The data.
        tokenizer: The tokenizer.
    """
    return {
        "model_code": export.sha256["model.py"],
        "config": export.sha256["config.json"],
        "data": splits.fingerprint,
        "tokenizer": tokenizer.digest(),
    }


def check_resume(
    state: TrainingState, options: TrainingOptions, identity: Mapping[str, str], total_steps: int, precision: Precision
) -> tuple[str, ...]:
    """Return notes about going on from ``state``.

    Args:
        state: Where an earlier session stopped.
        options: The options of this session.
        identity: Digests of model, data and tokenizer of this session; a name that only one side has is not compared.
        total_steps: Updates planned now.
        precision: Number format and device of this session.

    Raises:
        CheckpointError: If the state belongs to another model, other data or another tokenizer, or an option that
            changes the weights differs.
    """
    for name, digest in identity.items():
        saved = state.identity.get(name, digest)
        if saved != digest:
            raise CheckpointError(
                f"The checkpoint of step {state.step} belongs to {_IDENTITY_WORDS.get(name, f'another {name}')}: "
                f"sha256 {saved[:12]}, now {digest[:12]}.",
                "A run goes on with the model, the data and the tokenizer it began with.",
                "Restore them, or start another run with run.name=NEW.",
            )
    for field in dataclasses.fields(options):
        now, before = getattr(options, field.name), state.options.get(field.name, field.default)
        if field.name not in CHANGEABLE and now != before:
            raise CheckpointError(
                f"training.{field.name} is {now!r}, but the run was trained with {before!r} up to step {state.step}.",
                "A run goes on with the values it began with; only its length and what is logged and saved may change.",
                f"Set training.{field.name}={_as_parameter(before)}, or start another run with run.name=NEW.",
            )
    return _notes(state, options, total_steps, precision)


def _notes(state: TrainingState, options: TrainingOptions, total_steps: int, precision: Precision) -> tuple[str, ...]:
    notes = []
    if (state.precision, state.device) != (precision.name, precision.device.type):
        notes.append(
            f"The checkpoint was computed in {state.precision} on {state.device}, this session computes in "
            f"{precision.name} on {precision.device.type}: "
            "the result will not be the same to the bit."
        )
    if total_steps != state.total_steps:
        note = f"The run was planned for {state.total_steps} steps and now ends at {total_steps}."
        if options.lr_scheduler_type != "constant" or options.warmup_ratio:
            note += f" From step {state.step} on the learning rate follows the new length."
        notes.append(note)
    return tuple(notes)


def _as_parameter(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

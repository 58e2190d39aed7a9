"""A rehearsal before the first step: what a run will do with the model is done once, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from transformer_foundry.core.base.errors import ModelError, TrainingError
from transformer_foundry.core.data.dataloading.batches import Batch, Batches, BatchSource
from transformer_foundry.core.evaluation.evaluation_loop import measure
from transformer_foundry.core.evaluation.generation import generate
from transformer_foundry.core.evaluation.samples import sample_split
from transformer_foundry.core.models.adapter import bare_model
from transformer_foundry.core.models.inference.probe import model_file
from transformer_foundry.core.models.model_errors import running_model_code, train_with_model_code
from transformer_foundry.core.models.side_effects import preserve_modules
from transformer_foundry.core.system.random_state import preserve_random, restore_random
from transformer_foundry.core.training.checkpointing.checkpoint import read_state, write_state
from transformer_foundry.core.training.checkpointing.state import TrainingState, capture_model
from transformer_foundry.core.training.memory.batch_size import is_out_of_memory

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplit
    from transformer_foundry.core.training.trainer import Trainer

__all__ = ["rehearse"]

ResultT = TypeVar("ResultT")

_SAMPLED_TOKENS = 2
"""Tokens of a rehearsed sample: the second is predicted from a window that has moved by one."""

_STORED_ELEMENTS = 4096
"""Elements of each tensor that are written to the disk: a failure depends on names and types, not on the size."""


def rehearse(trainer: Trainer) -> tuple[str, ...]:
    """Do once what the run of ``trainer`` will do; then weights, optimizer, random state and files are as before.

    The first batch and an optimizer step, a second step on the longest row, an evaluation of the first batch and of the
    longest rows, samples, one of them at a full window, a checkpoint and its reload: with the precision, the memory
    savings and the micro-batches of the run. If memory runs out in a step, the run keeps the smaller micro-batches.

    Returns:
        A sample of a model that has not taken a step yet: what training starts from.

    Raises:
        ModelError: If any of them raises an exception; names the line of the model.
        TrainingError: If a loss is not finite, or memory runs out outside a step.
        CheckpointError: If a checkpoint cannot hold the state.
    """
    with preserve_random(trainer.precision.device):
        restore_random(trainer.random_at_start, trainer.precision.device)
        with _restored(trainer):
            trainer.adapter.train()
            _take_steps(trainer)
            _evaluate(trainer)
            _sample(trainer)
            _save_and_reload(trainer)
        with preserve_modules(trainer.adapter):
            return _sample_untrained(trainer) if trainer.loop.step == 0 else ()


@contextmanager
def _restored(trainer: Trainer) -> Iterator[None]:
    """Restore everything that a step changes: a resumed run has a state of its optimizers already."""
    was_training, last_state = trainer.adapter.training, trainer.last_state
    before = last_state or trainer.checkpoint("steps").state
    trainer.finish_copy()
    try:
        with preserve_modules(trainer.adapter):
            yield
    finally:
        trainer.finish_copy()
        trainer.last_state = last_state
        trainer.train_step.commit()
        for parameter in trainer.adapter.parameters():
            parameter.grad = None
        trainer.train_step.restore(before)
        trainer.adapter.train(was_training)


@dataclasses.dataclass(frozen=True)
class _Listed:
    """A source of the given batches, over and over."""

    batches: tuple[Batch, ...]

    def __len__(self) -> int:
        return len(self.batches)

    def batch(self, position: int) -> Batch:
        return self.batches[position % len(self)]

    def row_count(self, position: int) -> int:
        return len(self.batch(position)["input_ids"])

    def padded_size(self, position: int) -> int:
        return self.batch(position)["input_ids"].numel()


def _take_steps(trainer: Trainer) -> None:
    _take_step(trainer, "the first batch", trainer.accumulation.batches)
    longest = _longest_rows(trainer, trainer.validator.splits.train)
    if longest is not None:
        # A second step: a model that keeps tensors of the first one fails here.
        _take_step(trainer, f"the longest row ({longest['input_ids'].size(1)} tokens)", _Listed((longest,)))


def _take_step(trainer: Trainer, name: str, batches: BatchSource) -> None:
    step, position = trainer.train_step, trainer.loop.position
    accumulation = dataclasses.replace(
        trainer.accumulation, batches=batches, batches_per_step=step.processes.world_size
    )
    stats = _run(trainer, f"an optimizer step on {name}", lambda: accumulation.accumulate(position))
    trainer.accumulation.memory = accumulation.memory
    if not math.isfinite(stats.loss):
        raise TrainingError(
            f"The loss of {name} is {stats.loss} before training.",
            "Expected a finite number: no step can be taken from there.",
            "Look in model.py for a row that is masked as a whole, a division by zero or a log of zero"
            + ("." if trainer.precision.name == "fp32" else ", or set training.precision=fp32."),
        )
    number = trainer.loop.step + 1
    _run(trainer, "an update of the weights", lambda: step.apply(trainer.options.learning_rate, number))
    step.commit()


def _evaluate(trainer: Trainer) -> None:
    validator, processes = trainer.validator, trainer.train_step.processes
    _run(trainer, "an evaluation", lambda: validator.evaluate(max_batches=processes.world_size))
    for name in ("validation", "test"):
        longest = _longest_rows(trainer, validator.splits.splits[name])
        if longest is not None:
            what = f"an evaluation of the longest row of the {name} split ({longest['input_ids'].size(1)} tokens)"
            _run(trainer, what, partial(_measure, trainer, longest))


def _measure(trainer: Trainer, batch: Batch) -> None:
    with trainer.validator.savings.active():
        measure(trainer.adapter, trainer.train_step.objective, _Listed((batch,)), trainer.precision)


def _sample_untrained(trainer: Trainer) -> tuple[str, ...]:
    validator = trainer.validator
    tokenizer, options = validator.tokenizer, validator.samples
    if tokenizer is None or not options.num_samples or not len(validator.splits.validation):
        return ()
    one = dataclasses.replace(options, num_samples=1)
    adapter = trainer.adapter
    with validator.savings.active():
        found: tuple[str, ...] = _run(
            trainer, "a sample", lambda: sample_split(adapter, tokenizer, validator.splits, one, seed=validator.seed)
        )
    return found


def _sample(trainer: Trainer) -> None:
    validator = trainer.validator
    options, splits, tokenizer = validator.samples, validator.splits, validator.tokenizer
    if not options.num_samples or not len(splits.validation):
        return
    adapter = trainer.adapter.eval()
    short = dataclasses.replace(options, max_new_tokens=_SAMPLED_TOKENS)
    if tokenizer is not None:
        _run(trainer, "a sample", lambda: sample_split(adapter, tokenizer, splits, short, seed=validator.seed))
    if splits.task == "causal_lm":
        ids = _full_window(trainer)
        _run(
            trainer,
            f"a sample at a full window ({splits.max_length} tokens)",
            lambda: generate(adapter, ids, _SAMPLED_TOKENS, max_length=splits.max_length),
        )


def _full_window(trainer: Trainer) -> Tensor:
    """Return (1, max_length) ids of the training split."""
    splits = trainer.validator.splits
    ids = torch.cat(
        [torch.from_numpy(splits.train.input_ids[row].astype("int64")) for row in (0, len(splits.train) - 1)]
    )
    return ids.repeat(-(-splits.max_length // len(ids)))[None, : splits.max_length].contiguous()


def _save_and_reload(trainer: Trainer) -> None:
    state = trainer.checkpoint("steps").state
    trainer.finish_copy()
    _run(trainer, "a checkpoint to be written and read again", lambda: _store(state))
    with torch.no_grad():
        for parameter in (item for group in trainer.train_step.groups for item in group["params"]):
            parameter.add_(1)
    _run(trainer, "the model to load its own checkpoint", lambda: trainer.train_step.restore(state))
    differing = [
        name
        for name, tensor in capture_model(bare_model(trainer.adapter)).items()
        if not _same(tensor, state.model[name])
    ]
    if differing:
        raise ModelError(
            f"The model does not take back {', '.join(differing[:3])} from its own state_dict.",
            "Expected load_state_dict to restore every tensor that state_dict returns.",
            "Look in model.py for _load_from_state_dict, load_state_dict and hooks of them.",
        )


def _store(state: TrainingState) -> None:
    """Write the beginning of each tensor and everything else to a temporary folder, and read it again."""
    shortened: dict[int, Tensor] = {}

    def shorten(tensor: Tensor) -> Tensor:
        # Names of one tensor (tied weights) keep sharing one.
        return shortened.setdefault(id(tensor), tensor.reshape(-1)[:_STORED_ELEMENTS].clone())

    model = {name: shorten(tensor) for name, tensor in state.model.items()}
    slots = {name: shorten(tensor) for name, tensor in state.optimizer.tensors.items()}
    optimizer = dataclasses.replace(state.optimizer, tensors=slots)
    with tempfile.TemporaryDirectory() as folder:
        write_state(Path(folder), dataclasses.replace(state, model=model, optimizer=optimizer))
        read = read_state(Path(folder))
    differing = [name for name, tensor in model.items() if not _same(tensor, read.model[name])]
    differing += [name for name, tensor in slots.items() if not _same(tensor, read.optimizer.tensors[name])]
    if differing:
        raise TrainingError(
            f"A checkpoint does not keep {', '.join(differing[:3])}.",
            "Expected the same values when it is read again.",
            "Report this with your model: it is a fault of the checkpoint.",
        )


def _same(first: Tensor, second: Tensor) -> bool:
    return first.dtype == second.dtype and torch.equal(
        first.reshape(-1).view(torch.uint8), second.reshape(-1).view(torch.uint8)
    )


def _longest_rows(trainer: Trainer, split: TokenSplit) -> Batch | None:
    """Return the longest source and the longest target of ``split``; None if it is empty."""
    if not len(split):
        return None
    return Batches(split, trainer.validator.splits, batch_size=1).longest_rows()


def _run(trainer: Trainer, what: str, work: Callable[[], ResultT]) -> ResultT:
    """Do ``work``; its exceptions become an error that names the line of the model."""
    expected = f"{what} to work: it was tried before the first step"
    file = model_file(bare_model(trainer.adapter))
    try:
        if trainer.train_step.processes.world_size == 1:
            return train_with_model_code(work, expected, file)
        # A second call, for the line of a backward pass, would wait for processes that have not failed.
        with running_model_code(expected, file):
            return work()
    except ModelError as err:
        if err.__cause__ is None or not is_out_of_memory(err.__cause__):
            raise
        raise TrainingError(
            f"Memory ran out in {what}.",
            "It was tried before the first step, with the settings of the run.",
            "Lower training.per_device_eval_batch_size, shorten data.max_length, or choose a smaller model.",
        ) from err.__cause__

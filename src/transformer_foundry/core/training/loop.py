"""The training loop: ``fit`` yields events; the caller writes files, tracks and shows progress."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from transformer_foundry.core.evaluation.samples import TextDecoder
from transformer_foundry.core.system.interrupts import hold_interrupts
from transformer_foundry.core.system.precision import kernels
from transformer_foundry.core.system.random_state import capture_random, preserve_random, restore_random
from transformer_foundry.core.training.build_trainer import build_trainer
from transformer_foundry.core.training.checkpointing.state import TrainingState
from transformer_foundry.core.training.events import Event
from transformer_foundry.core.training.monitoring.rehearsal import rehearse
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.training.trainer import Trainer

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits

__all__ = ["fit"]

CALLER_HOLD_S = 10.0
"""How long an interrupt waits for the caller to ask for the next event; a caller that does not ask has failed."""


def fit(
    adapter: nn.Module,
    splits: TokenSplits,
    options: TrainingOptions,
    *,
    tokenizer: TextDecoder | None = None,
    resume_from: TrainingState | None = None,
    identity: Mapping[str, str] | None = None,
    manifest: Mapping[str, Any] | None = None,
    rehearsal: bool = False,
    is_evaluated: bool = False,
) -> Iterator[Event]:
    """Train ``adapter`` in place and yield events.

    The first event is ``Started``; then, for each step that is logged, evaluated or saved, ``Progress`` before
    ``Checkpoint``. A run that is interrupted and resumed from any of its checkpoints yields the same events and the
    same weights as an uninterrupted one, to the bit on one CPU with the same number of threads (``VOLATILE_METRICS``
    excepted).

    A step whose loss or gradient is not finite, or whose loss is far above those before it, is skipped; after
    ``max_skipped_steps`` of them in a row training returns to its last checkpoint with half the learning rate and
    yields another ``Started``.

    The global random generators of Python, numpy and torch are seeded with ``options.seed`` for training and restored
    whenever the caller has control: nothing the caller draws changes a weight, and nothing drawn here reaches the
    caller. A first SIGINT during a step takes effect at the end of the step, one that comes while the caller handles an
    event when the caller asks for the next; KeyboardInterrupt yields a checkpoint with reason ``interrupt`` and is
    raised again.

    Args:
        adapter: ``core.models.Adapter``, or any module that takes ``input_ids`` ... and returns logits. It is moved to
            the device of training and left in eval mode.
        splits: ``core.data.TokenSplits``.
        options: How to train.
        tokenizer: Turns ids into text for the samples; without one there are none.
        resume_from: State to resume from; it is not changed.
        identity: Digests by name of what the run belongs to (see ``run_identity``); the data's is added.
        manifest: More entries for the run's manifest, such as ``{"parameters": {"model": {...}, "data": {...}}}``,
            which the training options join.
        rehearsal: Whether everything that the run does with the model is tried before the first event; see
            ``monitoring.rehearsal``.
        is_evaluated: Whether the caller evaluates the model after training, for which ``options.max_hours`` leaves
            time.

    Yields:
        ``Started``, ``Progress`` and ``Checkpoint`` events.

    Raises:
        TrainingError: If training cannot start, or step after step is skipped and no return to a checkpoint helps.
        CheckpointError: If ``resume_from`` belongs to another model, other data or other options.
        ModelError: If the rehearsal fails; names the line of the model.
    """
    with kernels(deterministic=options.deterministic, tf32=options.tf32):
        trainer = build_trainer(
            adapter,
            splits,
            options,
            tokenizer=tokenizer,
            resume_from=resume_from,
            identity=identity,
            manifest=manifest,
            is_evaluated=is_evaluated,
        )
        samples = rehearse(trainer) if rehearsal and not trainer.is_finished else ()
        del resume_from  # the trainer drops it when it has a newer state: there is one copy at a time
        yield from _exchange_random_state(_train(trainer, samples), trainer)


def _exchange_random_state(events: Generator[Event, None, None], trainer: Trainer) -> Iterator[Event]:
    """Yield ``events``; the random generators are the trainer's while one is made, the caller's otherwise."""
    random_state = trainer.random_at_start
    is_interrupted = False
    while True:
        with preserve_random(trainer.precision.device):
            restore_random(random_state, trainer.precision.device)
            event = events.throw(KeyboardInterrupt()) if is_interrupted else next(events, None)
            random_state = capture_random(trainer.precision.device)
        if event is None:
            return
        is_interrupted = False
        try:
            with hold_interrupts(limit_s=CALLER_HOLD_S):
                yield event
        except KeyboardInterrupt:
            is_interrupted = True


def _train(trainer: Trainer, samples: tuple[str, ...]) -> Generator[Event, None, None]:
    yield dataclasses.replace(trainer.started(), samples=samples)
    trainer.adapter.train()
    try:
        while not trainer.is_finished:
            if trainer.loop.is_recorded:
                trainer.step()
            if trainer.must_roll_back:
                yield trainer.roll_back()
                continue
            if not trainer.loop.is_recorded:
                yield trainer.record()
            if trainer.is_interrupted:
                raise KeyboardInterrupt
            reason = trainer.checkpoint_reason()
            if reason is not None:
                yield trainer.checkpoint(reason)
    except KeyboardInterrupt:
        if trainer.is_consistent:
            yield trainer.checkpoint("interrupt")
        raise
    finally:
        trainer.finish_copy()  # the model is the caller's again
        trainer.adapter.eval()

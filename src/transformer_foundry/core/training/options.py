"""The parameters of section ``training``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import Options, check_options, option
from transformer_foundry.core.evaluation.options import SampleOptions
from transformer_foundry.core.training.optim.schedules import SCHEDULES

__all__ = ["CHANGEABLE", "DEFAULT_BATCH_SIZE", "TrainingOptions", "options_in_effect"]

DEFAULT_BATCH_SIZE = 16
"""Rows of a batch if none are given."""

CHANGEABLE = frozenset(
    {
        "max_steps", "num_train_epochs", "max_hours", "per_device_eval_batch_size", "eval_steps", "eval_batches",
        "early_stopping_patience", "logging_steps", "num_samples", "sample_tokens", "sample_temperature",
        "sample_top_k", "sample_top_p", "save_steps", "save_minutes", "save_epochs", "save_total_limit",
        "spike_threshold", "max_skipped_steps", "memory_budget_gb", "chunked_loss", "activation_checkpointing",
        "compile", "tf32", "deterministic", "device", "use_best", "process_timeout_minutes",
    }
)  # fmt: skip
"""Options that may differ when a run resumes: they change its length and what is logged and saved, not what a step
does. Every other option changes the weights, which requires another run: a fork."""

_USED_BY: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "momentum": ("optimizer", ("muon", "sgd")),
    "beta1": ("optimizer", ("adamw", "muon")),
    "beta2": ("optimizer", ("adamw", "muon")),
    "decay_ratio": ("lr_scheduler_type", ("warmup_stable_decay",)),
    "min_lr_ratio": ("lr_scheduler_type", tuple(name for name in SCHEDULES if name != "constant")),
}
"""Option -> the option that decides whether it has an effect, and the values with which it has."""


def options_in_effect(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a training without those that its optimizer or its schedule does not use.

    Example:
        >>> options_in_effect({"optimizer": "adamw", "beta1": 0.9, "momentum": 0.95})
        {'optimizer': 'adamw', 'beta1': 0.9}
    """
    used_by = {name: _USED_BY.get(name, ("", ())) for name in values}
    return {
        name: value
        for name, value in values.items()
        if used_by[name][0] not in values or values[used_by[name][0]] in used_by[name][1]
    }


@dataclass(frozen=True)
class TrainingOptions(Options):
    """How a model is trained, evaluated and saved; names follow Hugging Face where it has one.

    Raises:
        ParameterError: If a value has the wrong type or lies outside its range.
    """

    max_steps: int = option(400, "Number of optimizer updates.", minimum=1, unit="steps")
    num_train_epochs: float | None = option(
        None, "Passes over the training data; if given, max_steps is ignored.", above=0, unit="epochs"
    )
    max_hours: float | None = option(
        None,
        "Hours that training and its final evaluation may take, over all sessions of the run; if given, the number of "
        "steps and the schedule are planned to end within them, and max_steps is ignored.",
        above=0,
        unit="hours",
    )
    per_device_train_batch_size: int | Literal["auto"] = option(
        DEFAULT_BATCH_SIZE,
        "Rows of one forward pass; auto takes the fastest number that fits the memory.",
        minimum=1,
        unit="rows",
    )
    per_device_eval_batch_size: int | None = option(
        None, "Rows of one forward pass of an evaluation; null is the training batch size.", minimum=1, unit="rows"
    )
    gradient_accumulation_steps: int = option(1, "Forward passes of one optimizer update.", minimum=1)
    total_train_batch_size: int | None = option(
        None,
        "Rows of one optimizer update over all processes, when per_device_train_batch_size is auto; "
        "null is 16 x gradient_accumulation_steps.",
        minimum=1,
        unit="rows",
    )

    # On the sample GPT (0.9M parameters, 400 steps) 1e-3 with a warm-up of 5 % ends at a validation loss of 3.66 and
    # does not beat the bigram model (3.54); 2e-3 with 20 % ends at 3.37, 3e-3 with 20 % at 3.27. With a short warm-up
    # a higher rate is worse than a low one.
    learning_rate: float = option(
        2e-3,
        "Highest learning rate, reached after the warm-up; suits about a million parameters, larger models need less "
        "(3e-4 at a hundred million).",
        above=0,
    )
    lr_scheduler_type: str = option(
        "cosine",
        "Schedule of the learning rate after the warm-up; warmup_stable_decay is constant until the last decay_ratio.",
        choices=tuple(SCHEDULES),
    )
    warmup_ratio: float = option(
        0.2, "Share of all steps in which the learning rate rises linearly.", minimum=0, maximum=1
    )
    min_lr_ratio: float = option(
        0.1, "Last learning rate as a share of the highest one; the schedule constant ignores it.", minimum=0, maximum=1
    )
    decay_ratio: float = option(
        0.2, "Share of all steps in which warmup_stable_decay lowers the learning rate.", above=0, maximum=1
    )
    optimizer: str = option(
        "adamw",
        "Optimizer; muon takes Muon for the matrices between the embedding and the head, AdamW for the rest.",
        choices=("adamw", "muon", "sgd"),
    )
    weight_decay: float = option(
        0.1, "Weight decay of matrices and embeddings (decoupled, except with sgd).", minimum=0
    )
    momentum: float = option(0.95, "Nesterov momentum of muon and sgd.", minimum=0, below=1)
    beta1: float = option(0.9, "AdamW's decay of the mean gradient.", minimum=0, below=1)
    beta2: float = option(0.95, "AdamW's decay of the mean squared gradient.", minimum=0, below=1)
    max_grad_norm: float = option(1.0, "Gradients are scaled down to this norm; 0 turns clipping off.", minimum=0)
    label_smoothing: float = option(0.0, "Share of the target probability spread over all classes.", minimum=0, below=1)
    model_loss: str = option(
        "auto",
        "Terms of the model's own loss beyond cross-entropy (balance of experts, z-loss): auto adds them if there are "
        "any, own requires them, ours leaves them out.",
        choices=("auto", "own", "ours"),
    )
    ema_decay: float | None = option(
        None,
        "Share of the old value in each update of averaged weights, which are then evaluated and published; "
        "0.999 suits thousands of steps, null keeps no average.",
        above=0,
        below=1,
    )
    spike_threshold: float = option(
        8.0,
        "Skip a step whose loss is this many standard deviations above that of the steps before; 0 skips none.",
        minimum=0,
    )
    max_skipped_steps: int = option(
        10,
        "After this many skipped steps in a row, return to the last checkpoint with half the rate.",
        minimum=1,
    )

    eval_steps: int | None = option(
        100, "Steps between evaluations; null evaluates at the end only.", minimum=1, unit="steps"
    )
    eval_batches: int | None = option(
        None, "Batches of an evaluation while training; null takes the whole validation split.", minimum=1
    )
    early_stopping_patience: int | None = option(
        None, "Stop after this many evaluations without a lower validation loss; null never stops early.", minimum=1
    )
    logging_steps: int = option(10, "Steps between lines of metrics.", minimum=1, unit="steps")
    num_samples: int = option(2, "Samples of the model's output at each evaluation; 0 generates none.", minimum=0)
    sample_tokens: int = option(48, "Length of a generated sample.", minimum=1, unit="tokens")
    sample_temperature: float = option(0.8, "Temperature of generated samples; 0 is greedy.", minimum=0)
    sample_top_k: int | None = option(40, "Sample from this many likeliest tokens; null samples from all.", minimum=1)
    sample_top_p: float | None = option(
        None, "Sample from the likeliest tokens that make up this probability.", above=0, maximum=1
    )

    save_steps: int | None = option(100, "Steps between checkpoints; null saves by time only.", minimum=1, unit="steps")
    save_minutes: float | None = option(
        10.0, "Minutes between checkpoints; null saves by steps only.", above=0, unit="minutes"
    )
    save_epochs: bool = option(True, "Save a checkpoint at the end of each epoch.")
    save_total_limit: int = option(2, "Newest checkpoints to keep, besides the best one.", minimum=1)

    precision: str = option(
        "auto",
        "Number format of the computation; auto is bf16 (or fp16 where a GPU lacks it) on a GPU, and fp32 on a CPU.",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    tf32: bool = option(True, "Whether matrix products in fp32 may use the faster TF32 of Ampere and newer GPUs.")
    deterministic: bool = option(
        False, "Whether only deterministic kernels are used: the same bits each time on the same machine, but slower."
    )
    compile: str = option(
        "off",
        "Whether torch.compile compiles the model; auto does if the run is longer than ten times the compilation.",
        choices=("off", "on", "auto"),
    )
    memory_budget_gb: float | None = option(
        None, "Memory that training may use; null is all of the GPU, or what the machine has free.", above=0, unit="GB"
    )
    chunked_loss: str = option(
        "auto",
        "Whether the loss is computed in chunks, so that the logits of a large vocabulary never exist as a whole; "
        "auto does if the memory is needed.",
        choices=("auto", "on", "off"),
    )
    activation_checkpointing: str = option(
        "auto",
        "Whether the activations of the model's blocks are recomputed in the backward pass instead of kept; auto does "
        "if training does not fit the memory otherwise.",
        choices=("auto", "on", "off"),
    )
    process_timeout_minutes: float = option(
        10.0,
        "How long processes of torchrun wait for each other before they end with an error.",
        above=0,
        unit="minutes",
    )
    device: str = option("auto", "Where to train; auto takes a GPU if there is one.", choices=("auto", "cpu", "cuda"))
    seed: int = option(0, "Seed of the order of the data and of dropout.", minimum=0, maximum=2**32 - 1)
    use_best: bool = option(False, "Take learning rate, warm-up and weight decay from the result of tuning.")

    def __post_init__(self) -> None:
        check_options(self, "training")
        if self.max_hours is not None and self.num_train_epochs is not None:
            raise ParameterError(
                f"training.max_hours is {self.max_hours} and training.num_train_epochs is {self.num_train_epochs}.",
                "The length of a run is given in hours, in epochs or in steps.",
                "Leave one of them out.",
            )
        if self.total_train_batch_size is not None:
            self._check_total()

    def rows_per_batch(self) -> int:
        """Return the rows of one batch; processes and the memory plan may split it into several forward passes."""
        if self.per_device_train_batch_size != "auto":
            return self.per_device_train_batch_size
        if self.total_train_batch_size is None:
            return DEFAULT_BATCH_SIZE
        return self.total_train_batch_size

    def batches_per_step(self, world_size: int = 1) -> int:
        """Return the batches of an update over all processes, in a run that begins with so many of them."""
        return 1 if self.total_train_batch_size is not None else self.gradient_accumulation_steps * world_size

    @property
    def rows_per_evaluation_batch(self) -> int:
        """Rows of one forward pass of an evaluation."""
        return self.per_device_eval_batch_size or self.rows_per_batch()

    @property
    def samples(self) -> SampleOptions:
        """How samples are generated."""
        return SampleOptions(
            self.num_samples, self.sample_tokens, self.sample_temperature, self.sample_top_k, self.sample_top_p
        )

    def _check_total(self) -> None:
        for name, value, expected in (
            ("per_device_train_batch_size", self.per_device_train_batch_size, "auto"),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps, 1),
        ):
            if value != expected:
                raise ParameterError(
                    f"training.total_train_batch_size is {self.total_train_batch_size}, but training.{name} is "
                    f"{value}.",
                    "The rows of an update are given as a total, or as rows per device times accumulation steps.",
                    f"Set training.{name}={expected}, or leave training.total_train_batch_size out.",
                )

"""Parameters that select the model: the section ``model`` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from transformer_foundry.core.base.options import Options, check_options, option

__all__ = ["KINDS", "TASKS", "TEXT_TASKS", "TRIAL_RUN_SECONDS", "ModelOptions", "normalize_kind"]

KINDS = ("decoder-only", "encoder-only", "encoder-decoder")
TEXT_TASKS = ("sequence_classification", "multi_label_classification", "regression")
"""Tasks of models with one row of scores per text; unless the task is set, the labels decide which of them it is."""

TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", *TEXT_TASKS, "token_classification")

TRIAL_RUN_SECONDS = 120.0
"""Default limit of wall and CPU time; the largest model for a free Colab session needs a third of it."""


@dataclass(frozen=True)
class ModelOptions(Options):
    """Source, approval and kind of the exported model."""

    source: str = option("data/01_raw/exports/gpt", "The export: a folder, a zip file, a gist id or a gist URL.")
    revision: str | None = option(None, "Revision of a gist (40 hexadecimal characters); null means the newest.")
    trust_code: bool = option(
        False, "Approve all code from a gist or a zip file, without checking its digest; local folders are trusted."
    )
    sha256: str | None = option(
        None, "Required digest of model.py and config.json together (64 hexadecimal characters); approves this content."
    )
    first_run_seconds: float = option(
        TRIAL_RUN_SECONDS,
        "Time limit of the trial run: the first import, construction and call of the model, in a separate process.",
        above=0,
        unit="s",
    )
    init_from: str | None = option(
        None,
        "Pretrained weights to start from: a run (its name or folder), the folder of a package, or a Hub repository "
        "OWNER/NAME; null starts from the model's own initialization.",
    )
    kind: str | None = option(None, "Kind of the model; null infers it.", choices=KINDS)
    task: str | None = option(
        None,
        "Training task; null infers it from the model, and for scores of whole texts from the labels: one class, "
        "several classes or a number.",
        choices=TASKS,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", normalize_kind(self.kind))
        check_options(self, "model")


def normalize_kind(kind: str | None) -> str | None:
    """Return ``kind`` in lower case with hyphens: ``decoder_only`` and ``Decoder-Only`` become ``decoder-only``.

    Example:
        >>> normalize_kind("encoder_decoder")
        'encoder-decoder'
    """
    return kind.strip().lower().replace("_", "-") if isinstance(kind, str) else kind

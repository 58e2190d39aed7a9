"""The parameters that say which model is meant: the section ``model`` of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from transformer_foundry.core.base.options import check_options, option

__all__ = ["KINDS", "TASKS", "ModelOptions", "normalize_kind"]

KINDS = ("decoder-only", "encoder-only", "encoder-decoder")
TASKS = ("causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification", "token_classification")


@dataclass(frozen=True)
class ModelOptions:
    """Which exported model is used, and what is known about it beforehand."""

    source: str = option("data/01_raw/exports/gpt", "The export: a folder, a zip file, a gist id or a gist URL.")
    revision: str | None = option(None, "Revision of a gist (40 hexadecimal characters); null means the newest.")
    trust_code: bool = option(False, "Run code from a gist or a zip file, whatever it holds; own folders are trusted.")
    sha256: str | None = option(
        None, "Digest that model.py and config.json together must have (64 hexadecimal characters); it is trusted."
    )
    first_run_seconds: float = option(
        120.0, "Limit of the model's first import, construction and call, in a process of its own.", above=0, unit="s"
    )
    init_from: str | None = option(
        None,
        "Trained weights to begin with: a run (its name or folder), the folder of a package, or a Hub repository "
        "OWNER/NAME; null begins with the model's own.",
    )
    kind: str | None = option(None, "Family of the model; null means that it is found.", choices=KINDS)
    task: str | None = option(None, "What the model is trained for; null means that it is found.", choices=TASKS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", normalize_kind(self.kind))
        check_options(self, "model")


def normalize_kind(kind: str | None) -> str | None:
    """Return ``kind`` with hyphens: ``decoder_only`` and ``Decoder-Only`` mean ``decoder-only``.

    Example:
        >>> normalize_kind("encoder_decoder")
        'encoder-decoder'
    """
    return kind.strip().lower().replace("_", "-") if isinstance(kind, str) else kind

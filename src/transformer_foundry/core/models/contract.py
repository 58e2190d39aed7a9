"""The contract of a model: everything that is needed to call and train it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.models.options import TEXT_TASKS

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["IGNORE_INDEX", "Contract"]

IGNORE_INDEX = -100
"""Label of a position without a target, as in Hugging Face and ``torch.nn.functional.cross_entropy``."""


@dataclass(frozen=True)
class Contract:
    """Everything that is needed to call and train a model.

    Attributes:
        kind: ``decoder-only``, ``encoder-only`` or ``encoder-decoder``.
        task: One of ``core.models.options.TASKS``. ``sequence_classification`` is any model with one row of scores per
            text whose task is not set: the labels of the data decide what it learns.
        ids_argument: Name of the argument of ``forward`` that takes the (B, T) token ids.
        batch_argument: Name of the argument that takes all inputs as one mapping, None if there are several arguments;
            the other names are then its keys.
        time_first: Whether ids are passed as (T, B), and logits returned as (T, B, V).
        next_token_only: Whether a causal language model returns logits for the token after the last one only.
        mask_argument: Name of the argument that takes the padding mask, None without one.
        mask_meaning: ``real`` (1 where a token is real) or ``padding`` (True where it is padding).
        mask_dtype: Type of the mask that is passed: ``int64``, ``bool`` or ``float32``.
        mask_dims: 2 for a mask of shape (B, T), 3 for (B, 1, T), 4 for (B, 1, 1, T).
        decoder_ids_argument: Name of the argument that takes the (B, S) decoder ids.
        decoder_mask_argument: Name of the argument that takes the padding mask of the decoder ids.
        labels_argument: Name of the argument that takes labels.
        fixed_arguments: (argument, value) pairs that are passed on every call. Values: ``zeros`` and ``positions``
            (shaped like the ids), ``ids`` (the ids themselves), ``mask`` (the padding mask, if one is passed),
            ``mask_or_none``, ``none``, ``false``, ``zero``, and ``causal_...`` (a (T, T) mask that ``forward``
            requires, in one of several forms).
        required_masks: The mask arguments that ``forward`` requires: all ones if the caller gives none.
        output: Form of the output: ``tensor``, ``tuple``, ``mapping``, ``attribute`` or ``nested``.
        logits_key: Index, key or attribute of the logits, None when the output is the tensor itself; for ``nested`` the
            (form, key) pairs from the outside to the inside.
        vocab_size: Number of token ids that the model accepts.
        decoder_vocab_size: The same for the decoder of an encoder-decoder; None for other kinds.
        max_length: Largest number of tokens in a sequence; None without a limit.
        output_size: Size of the last dimension of the logits: vocabulary or number of classes.
        num_labels: Number of classes of a classifier; None for language models.
        pad_token_id: Padding token. All special tokens come from the configuration; None if it has none.
        bos_token_id: Token that begins a text.
        eos_token_id: Token that ends a text.
        mask_token_id: Token that replaces a masked token.
        unk_token_id: Token that replaces an unknown token.
        decoder_start_token_id: First token of the decoder of an encoder-decoder.
        tied_weights: Groups of parameter names that share one tensor.
        computes_loss: Whether the model returns a loss if it gets labels.
        loss_shift: ``shifted`` if its own loss compares position t with label t + 1, ``unshifted`` if it compares
            position t with label t, None without such a loss.
        ends_with_eos: Whether every text has to end with ``eos_token_id``: some classifiers classify that position.
        output_activation: ``sigmoid`` if the model ends with one, which is undone: losses expect raw scores.
        output_scale: Mean and standard deviation (a number each) by which the raw scores become numbers in the units
            of the data; only in packages of regressions.
    """

    kind: str
    task: str
    ids_argument: str
    vocab_size: int
    output_size: int
    output: str = "tensor"
    logits_key: int | str | tuple[tuple[str, int | str], ...] | None = None
    mask_argument: str | None = None
    mask_meaning: str | None = None
    mask_dtype: str = "int64"
    mask_dims: int = 2
    decoder_ids_argument: str | None = None
    decoder_mask_argument: str | None = None
    labels_argument: str | None = None
    fixed_arguments: tuple[tuple[str, str], ...] = ()
    required_masks: tuple[str, ...] = ()
    decoder_vocab_size: int | None = None
    max_length: int | None = None
    num_labels: int | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    mask_token_id: int | None = None
    unk_token_id: int | None = None
    decoder_start_token_id: int | None = None
    tied_weights: tuple[tuple[str, ...], ...] = ()
    computes_loss: bool = False
    loss_shift: str | None = None
    ends_with_eos: bool = False
    batch_argument: str | None = None
    time_first: bool = False
    next_token_only: bool = False
    output_activation: str | None = None
    output_scale: tuple[float, float] | None = None

    @property
    def scores_texts(self) -> bool:
        """Whether the output is one row of scores per text, (B, C), and not one per token."""
        return self.task in TEXT_TASKS

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as a dictionary of lists and plain values, which every JSON and YAML writer takes."""
        return {name: _as_list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Contract:
        """Return the contract that ``to_dict`` has described, also after a round trip through JSON; ignore other keys.

        Example:
            >>> contract = Contract("decoder-only", "causal_lm", "input_ids", vocab_size=9, output_size=9)
            >>> Contract.from_dict(contract.to_dict() | {"made_from": {}}) == contract
            True
        """
        return cls(**{item.name: _as_tuple(values[item.name]) for item in fields(cls) if item.name in values})

    def end_with_eos(self, ids: Tensor) -> Tensor:
        """Return (B, T) ids, with ``eos_token_id`` as the last token if the model needs it."""
        if not self.ends_with_eos or self.eos_token_id is None:
            return ids
        replaced = ids.clone()
        replaced[:, -1] = self.eos_token_id
        return replaced

    def with_fixed_arguments(self, names: Iterable[str], value: str) -> Contract:
        """Return the contract with ``value`` passed for each of ``names`` on every call."""
        return replace(
            self, fixed_arguments=tuple({**dict(self.fixed_arguments), **dict.fromkeys(names, value)}.items())
        )

    def with_special_tokens(self, tokens: Mapping[str, int | None]) -> Contract:
        """Return the contract with special tokens set: role, as in ``pad_token_id``, -> id or None."""
        known: dict[str, Any] = dict(tokens)
        return replace(self, **known)


def _as_list(value: Any) -> Any:
    """Return nested tuples, which YAML writers refuse, as lists."""
    return [*map(_as_list, value)] if isinstance(value, list | tuple) else value


def _as_tuple(value: Any) -> Any:
    """Return nested lists, which JSON has, as tuples."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value

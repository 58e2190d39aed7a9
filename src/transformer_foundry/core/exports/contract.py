"""The contract of a model: its kind and task, the role of each argument, its output, its sizes and special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from transformer_foundry.core.errors import ExportError, suggestion
from transformer_foundry.core.exports import hints
from transformer_foundry.core.exports.behaviour import is_causal, largest_vocabulary, loss_behaviour, watch_sizes
from transformer_foundry.core.exports.isolation import undisturbed
from transformer_foundry.core.exports.masks import settle_mask
from transformer_foundry.core.exports.options import KINDS, TASKS, normalise_kind
from transformer_foundry.core.exports.outputs import describe_output, find_logits
from transformer_foundry.core.exports.probe import Probe
from transformer_foundry.core.exports.roles import Roles, read_roles

__all__ = ["Contract", "find_contract"]

# (batch, length) of the first call. The later ones find models that run in one shape only: what is wrong with
# that is for the checks to say.
SHAPES = ((2, 7), (2, 3), (1, 7), (8, 7), (4, 8), (16, 8), (32, 8))
LONGEST_FIRST_CALL = 1024
# Ids 0 to 3 fit any table of words; token types, with two rows, are never fed random ids.
SAFE_VOCABULARY = 4


@dataclass(frozen=True)
class Contract:
    """What has to be known about a model to call and train it.

    Attributes:
        kind: ``decoder-only``, ``encoder-only`` or ``encoder-decoder``.
        task: ``causal_lm``, ``masked_lm``, ``seq2seq_lm``, ``sequence_classification`` or ``token_classification``.
        ids_argument: Name of the argument of ``forward`` that takes the (B, T) token ids.
        mask_argument: Name of the argument that takes the padding mask, None if there is none.
        mask_meaning: ``real`` (1 where a token is real) or ``padding`` (True where it is padding).
        mask_dtype: Type in which the mask is passed: ``int64``, ``bool`` or ``float32``.
        mask_dims: 2 for a mask of shape (B, T), 3 for (B, 1, T), 4 for (B, 1, 1, T).
        decoder_ids_argument: Name of the argument that takes the (B, S) decoder ids.
        decoder_mask_argument: Name of the argument that takes the padding mask of the decoder ids.
        labels_argument: Name of the argument that takes labels.
        fixed_arguments: (argument, value) pairs passed on every call. Values: ``zeros`` and ``positions`` (shaped like
            the ids), ``mask`` (the padding mask of the ids), ``ids`` (the ids themselves), ``causal`` and
            ``decoder_causal`` ((T, T) masks that a forward demands), ``none``, ``false``.
        required_masks: The mask arguments that ``forward`` demands: all ones when the caller gives none.
        output: Form of the output: ``tensor``, ``tuple``, ``mapping`` or ``attribute``.
        logits_key: Index, key or attribute of the logits, None when the output is the tensor itself.
        vocab_size: Number of token ids that the model takes.
        decoder_vocab_size: The same for the decoder of an encoder-decoder, None for other kinds.
        max_length: Most tokens in a sequence, None when nothing limits it.
        output_size: Size of the last dimension of the logits: vocabulary or number of classes.
        num_labels: Number of classes of a classifier, None for language models.
        pad_token_id: Padding token; like all special tokens from the configuration only, None when unsaid.
        bos_token_id: Token that begins a text.
        eos_token_id: Token that ends a text.
        mask_token_id: Token that stands for a masked one.
        unk_token_id: Token that stands for an unknown one.
        decoder_start_token_id: Token that an encoder-decoder's decoder begins with.
        tied_weights: Groups of parameter names that share one tensor.
        computes_loss: Whether the model returns a loss when it is given labels.
        loss_shift: ``shifted`` when its own loss compares position t with label t + 1, ``unshifted`` when it compares
            position t with label t, None when it computes no such loss.
    """

    kind: str
    task: str
    ids_argument: str
    vocab_size: int
    output_size: int
    output: str = "tensor"
    logits_key: int | str | None = None
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

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as a dictionary that ``json`` can write."""
        return asdict(self)


def find_contract(
    model: nn.Module, export_config: Mapping[str, Any], *, kind: str | None = None, task: str | None = None
) -> Contract:
    """Find the contract of ``model`` by its configuration, its signature and its behaviour.

    The model is called a few dozen times on tiny inputs; its weights, training flags, buffers and the global random
    state are afterwards what they were.

    Args:
        model: The model.
        export_config: Content of its ``config.json``.
        kind: The kind, if the user knows it.
        task: The task, if the user knows it.

    Raises:
        ExportError: If the model cannot be called, or returns nothing that looks like logits.
    """
    kind, task = _checked(normalise_kind(kind), KINDS, "kind"), _checked(task, TASKS, "task")
    roles = read_roles(model, export_config)
    with undisturbed(model):
        probe = _first_probe(model, roles, export_config)
        probe = _settle_sizes(probe, export_config)
        probe = _settle_output(probe, export_config)
        probe = _settle_purpose(probe, export_config, kind, task)
        probe = settle_mask(settle_mask(probe), decoder=True)
        if roles.labels is not None:
            computes_loss, shift = loss_behaviour(probe)
            probe = probe.knowing(computes_loss=computes_loss, loss_shift=shift)
    return probe.knowing(tied_weights=_tied_weights(model)).contract


def _checked(value: str | None, choices: tuple[str, ...], what: str) -> str | None:
    if value is not None and value not in choices:
        raise ExportError(
            f"The {what} of the model is given as '{value}'.{suggestion(value, choices)}",
            f"Expected one of: {', '.join(choices)}.",
            f"Correct model.{what}, or leave it out: it is then found.",
        )
    return value


def _first_probe(model: nn.Module, roles: Roles, config: Mapping[str, Any]) -> Probe:
    """Return the first probe with which the model runs; its first failure is raised when none does."""
    limit = hints.max_length_hint(config)
    whole = ((2, limit), (1, limit)) if limit is not None and limit <= LONGEST_FIRST_CALL else ()
    vocabularies = dict.fromkeys((hints.vocabulary_hint(config) or SAFE_VOCABULARY, SAFE_VOCABULARY))
    failure: ExportError | None = None
    for draft in _drafts(roles):
        for vocab_size in vocabularies:
            decoder_vocab_size = min(hints.vocabulary_hint(config, decoder=True) or vocab_size, vocab_size)
            tokens = hints.special_tokens(config, vocab_size)
            for batch, length in (*SHAPES, *whole):
                probe = Probe(model, draft, batch, length).knowing(
                    vocab_size=vocab_size, decoder_vocab_size=decoder_vocab_size, **tokens
                )
                try:
                    probe.run(probe.ids())
                    return probe
                except ExportError as err:
                    failure = failure or err
    raise failure or AssertionError("no shape was tried")


def _drafts(roles: Roles) -> list[Contract]:
    """Contracts by signature alone; several where ``forward`` demands masks whose form is not known yet."""
    fixed = [
        (roles.use_cache, "false"),
        (roles.memory_mask, "mask" if roles.mask else None),
        (roles.token_types if roles.token_types in roles.required else None, "zeros"),
        (roles.positions if roles.positions in roles.required else None, "positions"),
        (roles.causal_mask if roles.causal_mask in roles.required else None, "causal"),
    ]
    demanded = tuple(name for name in (roles.mask, roles.decoder_mask) if name in roles.required and name is not None)
    draft = Contract(
        kind="encoder-decoder" if roles.decoder_ids else "",
        task="",
        ids_argument=roles.ids,
        vocab_size=0,
        output_size=0,
        mask_argument=roles.mask,
        decoder_ids_argument=roles.decoder_ids,
        decoder_mask_argument=roles.decoder_mask,
        labels_argument=roles.labels,
        fixed_arguments=tuple((name, value) for name, value in fixed if name is not None and value is not None),
        required_masks=demanded,
    )
    if not demanded:
        return [draft]
    return [
        replace(draft, mask_meaning=meaning, mask_dtype=dtype, mask_dims=dims)
        for dims in (2, 4, 3)
        for meaning, dtype in (("real", "int64"), ("real", "bool"), ("padding", "bool"))
    ]


def _settle_sizes(probe: Probe, config: Mapping[str, Any]) -> Probe:
    rows, decoder_rows, limit = watch_sizes(probe)
    vocab_size = _smallest(hints.vocabulary_hint(config), rows) or largest_vocabulary(probe)
    decoder_vocab_size = None
    if probe.contract.decoder_ids_argument:
        decoder_vocab_size = _smallest(hints.vocabulary_hint(config, decoder=True), decoder_rows) or vocab_size
    return probe.knowing(
        vocab_size=vocab_size,
        decoder_vocab_size=decoder_vocab_size,
        max_length=_smallest(hints.max_length_hint(config), limit),
        **hints.special_tokens(config, min(vocab_size, decoder_vocab_size or vocab_size)),
    )


def _settle_output(probe: Probe, config: Mapping[str, Any]) -> Probe:
    contract = probe.contract
    sizes = (contract.decoder_vocab_size or contract.vocab_size, hints.num_labels_hint(config))
    output = probe.run(probe.ids())
    found = find_logits(output, probe.batch, probe.length, sizes)
    if found is not None and _is_one_position(found[2], probe) and contract.labels_argument:
        # Some models (nanoGPT's way) give all logits only when they get labels.
        fed = probe.knowing(fixed_arguments=(*contract.fixed_arguments, (contract.labels_argument, "ids")))
        again = find_logits(fed.run(probe.ids()), probe.batch, probe.length, sizes)
        if again is not None and not _is_one_position(again[2], probe):
            probe, found = fed, again
    if found is None or _is_one_position(found[2], probe) or _is_hidden(found, config, sizes):
        raise ExportError(
            f"forward of {type(probe.model).__name__} returns {describe_output(output)} "
            f"for token ids of shape {(probe.batch, probe.length)}.",
            f"Expected logits: {(probe.batch, probe.length, sizes[0])} for a language model, "
            f"{(probe.batch, sizes[1] or 'classes')} for a classifier.",
            "Connect the last block to an output block in Transformer Builder, and export again.",
        )
    form, key, logits = found
    return probe.knowing(output=form, logits_key=key, output_size=logits.shape[-1])


def _is_one_position(logits: Tensor, probe: Probe) -> bool:
    return logits.dim() == 3 and logits.shape[1] == 1 and probe.length > 1


def _is_hidden(found: tuple[str, int | str | None, Tensor], config: Mapping[str, Any], sizes: tuple[Any, ...]) -> bool:
    """Whether what was found are the states of the last layer, not logits."""
    _, key, logits = found
    named = isinstance(key, str) and key.endswith("logits")
    width = hints.find_int(config, hints.WIDTH_KEYS)
    return not named and logits.shape[-1] == width and logits.shape[-1] not in sizes


def _settle_purpose(probe: Probe, config: Mapping[str, Any], kind: str | None, task: str | None) -> Probe:
    contract = probe.contract
    per_token = probe.logits(probe.ids()).dim() == 3
    kind = _find_kind(probe, config, kind or hints.TASK_KINDS.get(task or ""), per_token)
    vocab_size = contract.decoder_vocab_size or contract.vocab_size
    found = _find_task(kind, contract.output_size, vocab_size, config, type(probe.model).__name__, per_token)
    is_classifier = (task or found).endswith("classification")
    return probe.knowing(kind=kind, task=task or found, num_labels=contract.output_size if is_classifier else None)


def _find_kind(probe: Probe, config: Mapping[str, Any], stated: str | None, per_token: bool) -> str:
    class_name = type(probe.model).__name__
    hint = stated or hints.kind_hint(config, class_name)
    if probe.contract.decoder_ids_argument:
        return "encoder-decoder"
    if hint == "encoder-decoder":
        raise ExportError(
            f"The model is said to be an encoder-decoder, but forward of {class_name} takes no decoder ids.",
            "Expected forward(self, input_ids, decoder_input_ids).",
            "Connect a second input block to the decoder, or set model.kind to what the model is.",
        )
    guess = hint or hints.kind_guess(config, class_name)
    if hint or guess == "decoder-only" or not per_token:
        return guess or "encoder-only"
    return "decoder-only" if is_causal(probe) else "encoder-only"


def _find_task(
    kind: str, output_size: int, vocab_size: int, config: Mapping[str, Any], class_name: str, per_token: bool
) -> str:
    if not per_token:
        return "sequence_classification"
    is_small = output_size != vocab_size and output_size < vocab_size / 2
    if output_size != vocab_size and (is_small or hints.task_hint(config, class_name) == "token_classification"):
        return "token_classification"
    return next(task for task, owner in hints.TASK_KINDS.items() if owner == kind)


def _smallest(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _tied_weights(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Names of the parameters that share storage, in groups; a transposed view counts as the same weights."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.numel() and not parameter.is_meta:
            key = (parameter.untyped_storage().data_ptr(), parameter.storage_offset(), parameter.numel())
            groups.setdefault(key, []).append(name)
    return tuple(tuple(sorted(names)) for names in groups.values() if len(names) > 1)

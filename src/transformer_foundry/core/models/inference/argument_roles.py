"""Assign a role to each argument of ``forward`` by its name, its position and whether it has a default."""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.failure_causes import remedy_for
from transformer_foundry.core.models.inference.config_hints import graph_nodes, kind_hint
from transformer_foundry.core.models.model_errors import argument_line
from transformer_foundry.core.models.source.syntax import undefined_names

__all__ = ["Roles", "forward_parameters", "read_roles"]

DECODER_IDS = re.compile(
    r"(decoder|dec|tgt|trg)_(input_?)?(ids?|inputs?|tokens?|seq(uence)?|sequences)|tgt|trg|decoder_inputs?|"
    r"(decoder|dec)_(idx|x)|output_(ids|tokens)|(tgt|target|trg)_in(put)?(_ids)?"
)
# These are decoder ids where they are required, labels where they have a default.
TARGETS = re.compile(r"targets?(_ids|_tokens|_seq)?|y")
LABELS = re.compile(r"(lm_|mlm_)?labels?|targets?|y|target_ids")
PADDING_MASK = re.compile(
    r"((src|source|enc|encoder|input|key|token|seq|sequence|pad|padding|attention|attn|x)_?)*mask"
)
DECODER_MASK = re.compile(r"(decoder|dec|tgt|trg|target)_((key|pad|padding|attention|attn|input)_?)*mask")
MEMORY_MASK = re.compile(r"(memory|cross|encoder_decoder)_((key|pad|padding|attention|attn)_?)*mask")
CAUSAL_MASK = re.compile(r"(causal|look_?ahead|subsequent|future|square_subsequent)_(attn_|attention_)?mask")
TOKEN_TYPES = re.compile(
    r"(token_?types?|tok_?types?|types?|seg(ment)?s?|sent(ence)?s?|sent(ence)?_?(a_?b|pair))"
    r"_?(ids?|idx|ind(ices|ex)|labels?|info|tokens?|types?|numbers?)?"
)
POSITIONS = re.compile(r"(position|pos)(_ids?|itions?)?|positions")
START = re.compile(r"start_pos(ition)?|(pos(ition)?_)?offset|past_length|cache_position")
INPUT_NODE = re.compile(r"input(_?\d+)?(_(tokens?|ids?))?")
INTERMEDIATE = re.compile(r"(?!input)[a-z][a-z0-9_]*(_\d+(_[a-z]+)*|_(output|out|result))")


@dataclass(frozen=True)
class Roles:
    """Argument names by role; None or empty where ``forward`` has no such argument.

    Attributes:
        start: Argument for the position of the first token, in models with a key-value cache.
        other_masks: Masks of no known role, (T, T) masks among them.
        required: The arguments without a default.
    """

    ids: str
    decoder_ids: str | None = None
    labels: str | None = None
    mask: str | None = None
    decoder_mask: str | None = None
    memory_mask: str | None = None
    token_types: str | None = None
    positions: str | None = None
    use_cache: str | None = None
    start: str | None = None
    other_masks: tuple[str, ...] = ()
    required: frozenset[str] = field(default_factory=frozenset)

    @property
    def required_masks(self) -> tuple[str, ...]:
        """The masks without a default, except that of the encoder's output, which equals the source mask."""
        named = (self.mask, self.decoder_mask, *self.other_masks)
        return tuple(name for name in named if name is not None and name in self.required)


def read_roles(
    model: nn.Module, config: Mapping[str, Any], kind: str | None = None, keys: Mapping[str, bool] | None = None
) -> Roles:
    """Read the roles from the signature of ``model.forward``.

    Args:
        model: The model.
        config: Content of ``config.json``; its blocks and its kind resolve ambiguous names.
        kind: The kind, if the user sets it.
        keys: The keys of the mapping that the model takes, and whether each is required; they stand for arguments.

    Raises:
        ModelError: If ``forward`` takes no ids, requires its own intermediate results as arguments, or requires an
            argument whose role is unknown.
    """
    stated = kind or kind_hint(config, type(model).__name__)
    if keys is None:
        keys = {name: item.default is item.empty for name, item in forward_parameters(model).items()}
    required = frozenset(name for name, is_required in keys.items() if is_required)
    names = list(keys)
    ids = _ids_argument(model, names, config)
    rest = [name for name in names if name != ids]
    decoder_ids = _decoder_ids(rest, required, stated)
    rest = [name for name in rest if name != decoder_ids]
    roles = Roles(
        ids=ids,
        decoder_ids=decoder_ids,
        labels=_first(LABELS, rest),
        mask=_padding_mask(rest, decoder_ids is not None),
        decoder_mask=_first(DECODER_MASK, rest, prefer="pad"),
        memory_mask=_memory_mask(rest),
        token_types=_first(TOKEN_TYPES, rest),
        positions=_first(POSITIONS, rest),
        use_cache="use_cache" if "use_cache" in rest else None,
        start=_first(START, rest),
        required=required,
    )
    known = {value for value in vars(roles).values() if isinstance(value, str)}
    roles = replace(roles, other_masks=tuple(name for name in rest if name.endswith("mask") and name not in known))
    unknown = [name for name in names if name in required - known - set(roles.other_masks)]
    _refuse_intermediates(model, config, unknown, ids)
    _refuse_unknown(model, unknown)
    return roles


def forward_parameters(model: nn.Module) -> dict[str, inspect.Parameter]:
    """Return the parameters of ``forward`` that can be given by name."""
    parameters = inspect.signature(model.forward).parameters
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name: parameter for name, parameter in parameters.items() if parameter.kind in keywords}


def _ids_argument(model: nn.Module, names: list[str], config: Mapping[str, Any]) -> str:
    if not names:
        raise ModelError(
            f"{argument_line(model.forward, 'self')}: forward of {type(model).__name__} takes no named argument.",
            "Expected an argument for the token ids, for example forward(self, input_ids).",
            remedy_for(
                config,
                "Name the argument, in place of *args or none.",
                "Connect an input block in Transformer Builder, and export again.",
            ),
        )
    return "input_ids" if "input_ids" in names else names[0]


def _decoder_ids(names: list[str], required: frozenset[str], kind: str | None) -> str | None:
    """Return the second input; ``target`` and ``y`` count only if required or if an encoder-decoder is stated."""
    needed = [name for name in names if name in required]
    named = _first(DECODER_IDS, names) or _first(INPUT_NODE, needed)
    if named is not None or kind not in (None, "encoder-decoder"):
        return named
    return _first(TARGETS, names if kind is not None else needed)


def _padding_mask(names: list[str], has_decoder: bool) -> str | None:
    """Return the (B, T) mask: names with padding or attention first, since a bare ``mask`` may be (T, T)."""
    masks = [name for name in names if PADDING_MASK.fullmatch(name) and not CAUSAL_MASK.fullmatch(name)]
    if not has_decoder:
        # A decoder with optional cross-attention: this masks the encoder output, not its own ids.
        masks = [name for name in masks if not name.startswith("encoder")]
    return min(masks, key=lambda name: ("pad" not in name, "attention" not in name), default=None)


def _memory_mask(names: list[str]) -> str | None:
    """Return the source mask for cross-attention; a bare ``memory_mask`` is (S, T), which is never passed."""
    name = _first(MEMORY_MASK, names, prefer="pad")
    return name if name is not None and ("pad" in name or "attention" in name) else None


def _first(pattern: re.Pattern[str], names: Iterable[str], prefer: str = "") -> str | None:
    found = [name for name in names if pattern.fullmatch(name)]
    return next((name for name in found if prefer in name), found[0] if found else None)


def _refuse_intermediates(model: nn.Module, config: Mapping[str, Any], unknown: list[str], ids: str) -> None:
    inner = [name for name in unknown if _is_intermediate(model, config, name)]
    if inner:
        shown = ", ".join(inner[:3]) + (f" and {len(inner) - 3} more" if len(inner) > 3 else "")
        raise ModelError(
            f"{argument_line(model.forward, inner[0])}: forward requires the arguments {shown}, "
            f"which are results that the model has to compute itself{_never_computed(model)}.",
            f"Expected a forward that takes only the model's inputs: forward(self, {ids}).",
            remedy_for(
                config,
                f"Compute {shown} inside forward, and take only {ids}.",
                "Connect every block in Transformer Builder, and export again.",
            ),
        )


def _never_computed(model: nn.Module) -> str:
    """Return the end of a sentence that names what ``forward`` uses without a definition, or an empty string."""
    code = inspect.unwrap(model.forward).__code__
    source = "".join(linecache.getlines(code.co_filename))
    found = [item for item in undefined_names(source) if item.line >= code.co_firstlineno] if source else []
    return f"; line {found[0].line} uses {found[0].name}, which is not defined" if found else ""


def _is_intermediate(model: nn.Module, config: Mapping[str, Any], name: str) -> bool:
    """Return whether ``name`` is the result of a drawn block, as ``mhsa_0_output`` is of the block ``mhsa_0``."""
    inputs = {node.get("id") for node in graph_nodes(config) if node.get("type") == "input"}
    blocks = {node.get("id") for node in graph_nodes(config)} - inputs
    blocks |= {child for child, _ in model.named_children() if re.search(r"_\d+$", child)}
    if any(name == block or name.startswith(f"{block}_") for block in blocks if isinstance(block, str)):
        return True
    return INTERMEDIATE.fullmatch(name) is not None


def _refuse_unknown(model: nn.Module, unknown: list[str]) -> None:
    if unknown:
        raise ModelError(
            f"{argument_line(model.forward, unknown[0])}: forward requires the argument '{unknown[0]}', "
            "which has no known meaning.",
            "Expected token ids, masks, decoder ids, labels, token types or positions, by their usual names.",
            f"Give '{unknown[0]}' a default value, or rename it, for example to attention_mask or decoder_input_ids.",
        )

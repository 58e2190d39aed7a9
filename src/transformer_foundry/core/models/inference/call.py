"""Build a model from the text of its constructor call; arguments of its forward call and the logits in its output."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["CAUSAL_FORMS", "ConfigMapping", "call_arguments", "construct", "express_mask", "follow", "pick_logits"]

# core.models.contract.Contract, or anything with its attributes: a package contains only this file, and transformers
# requires that everything it imports is installed, even imports for type checkers.
Contract: TypeAlias = Any

# Values of Contract.fixed_arguments.
CONSTANTS: Mapping[str, Any] = {"none": None, "false": False, "zero": 0}
LONGEST_CALL = 2**16
"""Characters of a constructor call: the parser takes quadratic time for some texts, 0.3 s for the worst of these."""
SAME_MASK = ("mask", "mask_or_none")
CAUSAL_FORMS = (
    "causal_blocked", "causal_allowed", "causal_additive", "causal_allowed_rows", "causal_blocked_rows",
)  # fmt: skip
# Shares nearer to 0 or 1 have no exact logit in float32.
SMALLEST_SHARE = 1e-6
MASK_DTYPES: Mapping[str, torch.dtype] = {"int64": torch.int64, "bool": torch.bool, "float32": torch.float32}


class ConfigMapping(dict[str, Any]):
    """A configuration whose values are items and attributes."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.__dict__.update(values)


_CONFIG_CLASSES = {"SimpleNamespace": SimpleNamespace, "ConfigMapping": ConfigMapping}


def construct(expression: str, names: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """Return the value of a constructor call without evaluating code: the expression may come from a JSON file.

    Args:
        expression: A call of a class or function of ``model.py``, such as ``Net(d_model=32)`` or ``Net({**config})``.
            Arguments are literals, ``config`` and further such calls.
        names: The names of ``model.py``.
        config: The content of ``config.json``; a copy is passed, since constructors may change it.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> construct("SimpleNamespace(width=2, **config)", {}, {"depth": 1})
        namespace(width=2, depth=1)
    """
    try:
        if len(expression) > LONGEST_CALL:
            raise ValueError(f"it has {len(expression):,} characters")
        node = ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as err:
        raise ValueError(f"{str(expression)[:60]!r} is not a call") from err
    if not isinstance(node, ast.Call):
        raise ValueError(f"{expression[:60]!r} is not a call")
    function, arguments, keywords = _parse_call(node, names, copy.deepcopy(dict(config)))
    return function(*arguments, **keywords)


def _parse_call(node: ast.Call, names: Mapping[str, Any], config: dict[str, Any]) -> Any:
    function = _function(node.func, names)
    arguments = [_argument(item, names, config) for item in node.args]
    keywords: dict[str, Any] = {}
    for item in node.keywords:
        value = _argument(item.value, names, config)
        keywords |= value if item.arg is None else {item.arg: value}
    return function, arguments, keywords


def _function(node: ast.expr, names: Mapping[str, Any]) -> Any:
    name = node.id if isinstance(node, ast.Name) else ""
    found = names.get(name)
    # What model.py has imported does not count: "from os import system" must not be callable from here.
    if callable(found) and getattr(found, "__module__", None) == names.get("__name__"):
        return found
    if name in _CONFIG_CLASSES:
        return _CONFIG_CLASSES[name]
    raise ValueError(f"{ast.unparse(node)[:60]!r} is no class or function of model.py")


def _argument(node: ast.expr, names: Mapping[str, Any], config: dict[str, Any]) -> Any:
    if isinstance(node, ast.Name) and node.id == "config":
        return config
    if isinstance(node, ast.Call):
        function, arguments, keywords = _parse_call(node, names, config)
        return function(*arguments, **keywords)
    if isinstance(node, ast.Dict):
        merged: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            found = _argument(value, names, config)
            merged |= found if key is None else {ast.literal_eval(key): found}
        return merged
    return ast.literal_eval(node)


class BatchMapping(dict[str, Any]):
    """A batch whose tensors are items and attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as err:
            raise AttributeError(name) from err


def call_arguments(
    contract: Contract,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    decoder_input_ids: Tensor | None = None,
    decoder_attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments of one call of the model.

    Args:
        contract: The contract of the model.
        input_ids: (B, T) int64 token ids.
        attention_mask: (B, T) int64, 1 where a token is real; None if all are.
        decoder_input_ids: (B, S) int64 ids for the decoder of an encoder-decoder.
        decoder_attention_mask: (B, S) int64, 1 where a decoder token is real.
        labels: Labels; ignored if the model takes none.
    """
    arguments: dict[str, Any] = {contract.ids_argument: input_ids}
    if contract.decoder_ids_argument and decoder_input_ids is not None:
        arguments[contract.decoder_ids_argument] = decoder_input_ids
    for name, value in contract.fixed_arguments:
        if value not in SAME_MASK and not value.startswith("causal"):
            arguments[name] = _fixed_value(value, input_ids)
    if labels is not None and contract.labels_argument:
        arguments[contract.labels_argument] = labels
    if contract.time_first:  # as torch's own layers have it: masks stay (B, T)
        arguments = {name: _transposed(value) for name, value in arguments.items()}
    for name, value in contract.fixed_arguments:
        if value.startswith("causal"):
            arguments[name] = _causal_mask(value, input_ids if decoder_input_ids is None else decoder_input_ids)
    for argument, mask, ids in (
        (contract.mask_argument, attention_mask, input_ids),
        (contract.decoder_mask_argument, decoder_attention_mask, decoder_input_ids),
    ):
        if mask is None and argument in contract.required_masks and ids is not None:
            mask = torch.ones_like(ids)
        if argument is not None and mask is not None:
            arguments[argument] = express_mask(mask, contract.mask_meaning, contract.mask_dtype, contract.mask_dims)
    for name, value in contract.fixed_arguments:
        if value in SAME_MASK and (value == "mask_or_none" or contract.mask_argument in arguments):
            arguments[name] = arguments.get(str(contract.mask_argument))
    # A window of longer ids is a strided view, which ``view(-1)`` in a model's code refuses.
    arguments = {name: value.contiguous() if isinstance(value, Tensor) else value for name, value in arguments.items()}
    return arguments if contract.batch_argument is None else {contract.batch_argument: BatchMapping(arguments)}


def express_mask(mask: Tensor, meaning: str | None, dtype: str = "int64", dims: int = 2) -> Tensor:
    """Return a (B, T) mask in the form that a model expects.

    Args:
        mask: (B, T), 1 where a token is real.
        meaning: ``real`` keeps it, ``padding`` inverts it.
        dtype: ``int64``, ``bool`` or ``float32``.
        dims: 2 for (B, T), 3 for (B, 1, T), 4 for (B, 1, 1, T).
    """
    expressed = (mask == 0 if meaning == "padding" else mask != 0).to(MASK_DTYPES[dtype])
    for _ in range(dims - 2):
        expressed = expressed.unsqueeze(1)
    return expressed


def pick_logits(contract: Contract, output: Any) -> Tensor:
    """Return the logits in the output of the model: (B, T, V), (B, 1, V) for the next token only, or (B, C).

    They are raw scores also if the model ends with a sigmoid.
    """
    path: Any = ((contract.output, contract.logits_key),)
    if contract.output in ("tensor", "nested"):
        path = contract.logits_key or ()
    logits = follow(output, path)
    if contract.next_token_only:
        last = logits[:, -1] if logits.dim() == 3 else logits
        return last.unsqueeze(1) if contract.task == "causal_lm" else last
    if contract.time_first and logits.dim() == 3:
        return logits.transpose(0, 1)
    if logits.dim() == 1:
        logits = logits.unsqueeze(-1)
    if contract.output_activation == "sigmoid":
        logits = torch.logit(logits.float(), eps=SMALLEST_SHARE)
    return logits if contract.output_scale is None else logits * contract.output_scale[1] + contract.output_scale[0]


def follow(output: Any, path: Sequence[Sequence[Any]]) -> Tensor:
    """Return the tensor that the (form, key) pairs of ``path`` lead to in ``output``."""
    for form, key in path:
        output = getattr(output, str(key)) if form == "attribute" else output[key]
    tensor: Tensor = output
    return tensor


def _transposed(value: Any) -> Any:
    return value.t() if isinstance(value, Tensor) and value.dim() == 2 else value


def _fixed_value(value: str, input_ids: Tensor) -> Any:
    if value in CONSTANTS:
        return CONSTANTS[value]
    if value == "zeros":
        return torch.zeros_like(input_ids)
    if value == "positions":
        return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    return input_ids


def _causal_mask(form: str, ids: Tensor) -> Tensor:
    """Return a causal mask: (T, T), or (B, T, T) if the form ends in ``rows``."""
    batch, length = ids.shape
    blocked = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
    if form == "causal_additive":
        return torch.zeros(length, length, device=ids.device).masked_fill(blocked, float("-inf"))
    mask = blocked if form.startswith("causal_blocked") else ~blocked
    return mask.expand(batch, length, length) if form.endswith("rows") else mask

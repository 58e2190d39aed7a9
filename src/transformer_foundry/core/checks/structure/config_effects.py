"""Check that settings which model.py reads change the model: build it with another value and compare."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import (
    Inputs,
    ModelUnderTest,
    declared_length,
    generic_weights,
)
from transformer_foundry.core.checks.probing.source_map import SourceLine
from transformer_foundry.core.checks.structure.configuration import HEAD_KEYS, stated_value
from transformer_foundry.core.models.adapter import Adapter
from transformer_foundry.core.models.building.constructor_calls import SYNONYMS

__all__ = ["check_config_effects"]

# Words of settings that describe the computation, and of those that describe something else.
STRUCTURAL = re.compile(
    r"head|layer|depth|dropout|drop_?path|pdrop|window|expert|top_?k|group|theta|rope|rotary|softcap|ffn|ff$|feedforward"
    r"|intermediate|inner|eps|norm|bias|qk_|kernel|d_state|conv"
)
OTHER = re.compile(
    r"max_|seq|block_size|context|vocab|_ids?$|idx|version|name|type|cache|checkpoint|init|coef|loss|multiple|scaling"
    r"|capacity|label|class|token|seed|lr|path$|format"
)
# Settings of designs that a plain transformer does not have.
SELECTING = re.compile(r"window(_size)?$|(num|n)_(local_)?experts$|(kv|key_value)_heads?$")
LENGTH = 24
# Larger models are built with a small vocabulary and two layers, because each build costs seconds.
LARGE_MODEL = 5_000_000
SMALL_VOCABULARY = 1024
LAYER_KEYS = next(group for group in SYNONYMS if "num_layers" in group)
# Module whose name contains the word -> where a setting with the other word is used.
PLACES = (("head", "att"), ("group", "att"), ("rope", "ro"), ("theta", "ro"), ("drop", "drop"), ("expert", "expert"))


def check_config_effects(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that another value of each structural setting that the code reads builds another model."""
    keys = [key for key in subject.config if _is_tried(subject, str(key))]
    if subject.rebuild_with is None or subject.graph or not keys:
        return
    spare = _reduced(subject)
    base = _built(spare, {})
    if base is None:
        return
    idle = [key for key in keys if not _has_effect(spare, base, key)]
    if len(idle) == len(keys) and not _has_effect(spare, base, _vocabulary_key(subject)):
        return  # The constructor takes no settings: the configuration describes the model only.
    for key in idle:
        if not any(_has_effect(spare, base, key, switch) for switch in _switches(subject, key)):
            yield _no_effect(subject, key)


def _reduced(subject: ModelUnderTest) -> ModelUnderTest:
    """Return ``subject`` as it is, or with a small vocabulary and few layers in its builds if it is large."""
    rebuild, contract = subject.rebuild_with, subject.contract
    if subject.parameter_count < LARGE_MODEL or rebuild is None:
        return subject
    numbers = {key: value for key, value in subject.config.items() if isinstance(value, int)}
    special = max((value for key, value in numbers.items() if str(key).endswith(("_id", "_idx"))), default=0)
    smaller = {key: SMALL_VOCABULARY for key, value in numbers.items() if "vocab" in str(key) and value > 2 * special}
    smaller = smaller if special < SMALL_VOCABULARY else {}
    smaller |= {key: 2 for key, value in numbers.items() if key in LAYER_KEYS and value > 2}
    small_contract = replace(
        contract,
        vocab_size=min(contract.vocab_size, SMALL_VOCABULARY),
        decoder_vocab_size=min(contract.decoder_vocab_size or SMALL_VOCABULARY, SMALL_VOCABULARY),
    )
    spare = replace(
        subject,
        adapter=Adapter(subject.model, small_contract),
        rebuild_with=lambda overrides: rebuild({**smaller, **overrides}),
    )
    return subject if _built(spare, {}) is None else spare


def _is_tried(subject: ModelUnderTest, key: str) -> bool:
    value, name = subject.config[key], key.lower()
    if not isinstance(value, bool | int | float) or OTHER.search(name) or not STRUCTURAL.search(name):
        return False
    is_read = any(other in subject.source.main.text for other in _spellings(key))
    return is_read or _describes_another_model(subject, name, value)


def _describes_another_model(subject: ModelUnderTest, name: str, value: float) -> bool:
    """Return whether a setting that nothing reads changes the architecture: window, experts, groups of heads."""
    if not SELECTING.search(name) or isinstance(value, bool) or value < 2:
        return False
    _, heads = stated_value(subject.config, HEAD_KEYS)
    return value < declared_length(subject) if "window" in name else value != heads


def _spellings(key: str) -> tuple[str, ...]:
    return next((group for group in SYNONYMS if key in group), (key,))


def _vocabulary_key(subject: ModelUnderTest) -> str:
    return next((key for key in subject.config if "vocab" in str(key).lower()), "vocab_size")


def _other_values(key: str, value: Any) -> list[Any]:
    """Return values to try instead, the likeliest to fit first."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float):
        return [0.5, 0.9] if value < 1 else [value / 10, value * 2]
    if "window" in key:
        return [2, 1] if value != 2 else [1, 3]
    return [other for other in (value // 2, 2 * value, value + 1, value - 1) if other > 0 and other != value]


def _has_effect(subject: ModelUnderTest, base: nn.Module, key: str, switch: Mapping[str, Any] | None = None) -> bool:
    """Return whether some other value builds a model that differs; also if no other value can be built."""
    if switch:
        changed = _built(subject, switch)
        if changed is None:
            return False
        base = changed
    equal = False
    for value in _other_values(key.lower(), subject.config.get(key, 2)):
        other = _built(subject, {**(switch or {}), key: value})
        if other is not None and not _are_equal(subject, base, other):
            return True
        equal |= other is not None
    return not equal


def _built(subject: ModelUnderTest, overrides: Mapping[str, Any]) -> nn.Module | None:
    assert subject.rebuild_with is not None
    try:
        return subject.rebuild_with(overrides).eval()
    except ModelError:
        return None


def _are_equal(subject: ModelUnderTest, one: nn.Module, other: nn.Module) -> bool:
    """Return whether two builds have the same weights, and give the same logits and loss in both modes."""
    first, second = dict(one.named_parameters()), dict(other.named_parameters())
    if [(name, item.shape) for name, item in first.items()] != [(name, item.shape) for name, item in second.items()]:
        return False
    if any(not torch.equal(item, second[name]) for name, item in first.items()):
        return False
    length = min(LENGTH, subject.contract.max_length or LENGTH)
    inputs = subject.inputs(batch=2, length=length)
    try:
        pairs = zip(_results(subject, one, inputs), _results(subject, other, inputs), strict=True)
        return all(torch.equal(left, right) for left, right in pairs)
    except Exception:  # The model's code may raise anything with a value that was not intended: it has an effect.
        return False


def _results(subject: ModelUnderTest, model: nn.Module, inputs: Inputs) -> Iterator[torch.Tensor]:
    spare = replace(subject, adapter=Adapter(model, subject.contract))
    for training in (False, True):
        with generic_weights(model):
            result = spare.logits(inputs, seed=5, training=training).nan_to_num()
        yield result


def _switches(subject: ModelUnderTest, key: str) -> Iterator[dict[str, Any]]:
    """Yield settings under which an idle one may count: options that are off, and other choices that the code has."""
    for name, value in subject.config.items():
        if name != key and value is False:
            yield {name: True}
        elif isinstance(value, str) and not OTHER.search(str(name).lower()):
            yield from ({name: choice} for choice in _choices(subject.source.main.tree, value))


def _choices(tree: ast.Module, value: str) -> list[str]:
    """Return the other texts that the code compares with: alternatives of an option."""
    found = [
        item.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        for part in (node.left, *node.comparators)
        for item in ast.walk(part)
        if isinstance(item, ast.Constant) and isinstance(item.value, str)
    ]
    return [text for text in dict.fromkeys(found) if text != value][:8]


def _no_effect(subject: ModelUnderTest, key: str) -> Finding:
    value = subject.config[key]
    other = _other_values(key.lower(), value)[0]
    return finding_at(
        "configuration",
        "warning",
        f"The setting {key}: {value} has no effect: with {key}: {other} the model has the same weights "
        "and gives the same logits bit for bit, in training too. A number in the code counts instead, or the part is "
        "never used.",
        _place(subject, key),
        f"use config['{key}'] where the part is built and in its forward, or remove the setting.",
    )


def _place(subject: ModelUnderTest, key: str) -> Location:
    """Return where the value is lost: an attribute that nothing reads, the part it is for, the line that reads it."""
    file = subject.source.main
    names = {name for name in _spellings(key) if name in file.text}
    loaded = {
        node.attr for node in ast.walk(file.tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Assign) and _mentions(node.value, names):
            kept = {
                item.attr
                for item in ast.walk(node)
                if isinstance(item, ast.Attribute) and item.ctx.__class__ is ast.Store
            }
            if kept and not kept & loaded:
                return subject.locator.at(SourceLine(file.path, node.lineno))
    reads = [node for node in ast.walk(file.tree) if isinstance(node, ast.expr) and _is_named(node, names)]
    if reads:
        return subject.locator.at(SourceLine(file.path, reads[-1].lineno))
    return _part(subject, key)


def _part(subject: ModelUnderTest, key: str) -> Location:
    """Return where the module that the setting is for is created."""
    if re.search(r"layer|depth", key.lower()):
        lists = [(len(module), path) for path, module in subject.submodules(nn.ModuleList)]
        lists += [(len(module), path) for path, module in subject.submodules(nn.Sequential)]
        if lists:
            return subject.locator.module(max(lists)[1])
    word = next((word for name, word in PLACES if name in key.lower()), key.lower())
    path = next((path for path in subject.locator.modules if word in path.lower()), None)
    return subject.locator.module(path) if path is not None else subject.locator.forward()


def _mentions(node: ast.expr, names: set[str]) -> bool:
    return any(_is_named(item, names) for item in ast.walk(node))


def _is_named(node: ast.AST, names: set[str]) -> bool:
    """Return whether an expression reads one of these names: as a variable, an attribute or a key."""
    if isinstance(node, ast.Name):
        return node.id in names and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Attribute):
        return node.attr in names and isinstance(node.ctx, ast.Load)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names

"""Possible calls of a constructor or factory with the values of ``config.json``, as Python expressions."""

from __future__ import annotations

import ast
import dis
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.failure_causes import remedy_for
from transformer_foundry.core.models.inference import config_hints
from transformer_foundry.core.models.model_errors import argument_line, constructor

__all__ = ["SYNONYMS", "ConstructorCall", "constructor_calls_for"]

CONFIG_NAMES = frozenset(
    ("config", "configuration", "cfg", "conf", "args", "hparams", "hyperparameters", "params", "opts", "options",
     "settings", "model_config", "model_args", "model_cfg", "opt", "hp")
)  # fmt: skip
CONFIG_CLASS_ENDINGS = ("Config", "Configuration", "Args", "Arguments", "Params", "Settings", "HParams", "Options")
# Names of one size: a constructor may use d_model where the configuration has hidden_size.
SYNONYMS = (
    config_hints.VOCABULARY_KEYS,
    config_hints.LENGTH_KEYS,
    config_hints.LABEL_KEYS,
    config_hints.WIDTH_KEYS,
    ("nhead", "num_heads", "n_head", "n_heads", "num_attention_heads", "heads", "attention_heads"),
    ("num_layers", "n_layer", "n_layers", "num_hidden_layers", "depth", "num_blocks", "n_blocks"),
    ("num_encoder_layers", "n_encoder_layers", "encoder_layers", "num_enc_layers"),
    ("num_decoder_layers", "n_decoder_layers", "decoder_layers", "num_dec_layers"),
    ("dim_feedforward", "d_ff", "ffn_dim", "intermediate_size", "ff_dim", "n_inner", "d_hid", "mlp_dim", "ffn_hidden"),
    ("dropout", "dropout_rate", "dropout_prob", "dropout_p", "hidden_dropout_prob", "drop_rate"),
    *config_hints.SPECIAL_TOKENS.values(),
)
# Replacements for required arguments that are not configured: one vocabulary for source and target.
FALLBACKS = (
    (config_hints.SOURCE_VOCABULARY_KEYS, config_hints.VOCABULARY_KEYS),
    (config_hints.TARGET_VOCABULARY_KEYS, config_hints.VOCABULARY_KEYS),
    (("num_encoder_layers", "n_encoder_layers", "encoder_layers"), ("num_layers", "n_layers", "num_hidden_layers")),
    (("num_decoder_layers", "n_decoder_layers", "decoder_layers"), ("num_layers", "n_layers", "num_hidden_layers")),
)
NOT_ARGUMENTS = frozenset(("model_name", "version", "nodes", "edges"))


@dataclass(frozen=True)
class ConstructorCall:
    """An expression that builds a model.

    Attributes:
        expression: Python source that ``construct`` reads: its names are those of ``model.py``, ``config`` (the content
            of ``config.json``), ``SimpleNamespace`` and ``ConfigMapping``.
        style: What the constructor takes: ``none``, ``keywords``, ``mapping``, ``class`` (a dataclass or the like),
            ``namespace``, ``both`` (a mapping with attributes).
    """

    expression: str
    style: str


@dataclass(frozen=True)
class _ArgumentSource:
    """Where the arguments come from: the configuration with overrides, and the classes of the module."""

    config: Mapping[str, Any]
    overrides: Mapping[str, Any]
    module: ModuleType
    tree: ast.Module

    @property
    def mapping(self) -> str:
        """Expression of the configuration with its overrides."""
        if not self.overrides:
            return "config"
        return "{**config, " + ", ".join(f"{key!r}: {value!r}" for key, value in self.overrides.items()) + "}"


def constructor_calls_for(
    target: Callable[..., Any],
    config: Mapping[str, Any],
    overrides: Mapping[str, Any],
    module: ModuleType,
    tree: ast.Module,
) -> list[ConstructorCall]:
    """Return the calls that ``target`` (a class or a factory of ``module``) may expect, the most likely first.

    Args:
        target: Class or function of ``module``.
        config: The configuration, with ``overrides`` already in it.
        overrides: The values that replace those of ``config.json``.
        module: The imported ``model.py``.
        tree: Its syntax tree.

    Raises:
        ModelError: If the target requires an argument that the configuration does not have.
    """
    source = _ArgumentSource(config, overrides, module, tree)
    parameters = inspect.signature(target).parameters
    config_parameter = next((name for name in parameters if _wants_config(parameters, name, source)), None)
    if config_parameter is None:
        calls = _keyword_calls(target, source)
        _refuse_unused_overrides(calls, target, source)
        return calls
    forms = _config_forms(parameters[config_parameter], source)
    return [
        ConstructorCall(_call(target.__name__, _arguments(target, source, {config_parameter: expression})), style)
        for style, expression in forms
    ]


def _refuse_unused_overrides(calls: list[ConstructorCall], target: Callable[..., Any], source: _ArgumentSource) -> None:
    """Raise if an override changes none of ``calls``: it would have no effect."""
    for key in source.overrides:
        config = {name: value for name, value in source.config.items() if name != key}
        try:
            if _keyword_calls(target, replace(source, config=config)) != calls:
                continue
        except ModelError:
            continue
        raise ModelError(
            f"{key} cannot be set to {source.overrides[key]!r}: {target.__name__} takes no such argument.",
            f"Expected one of its arguments: {', '.join(inspect.signature(target).parameters) or 'it has none'}.",
            remedy_for(
                source.config,
                f"Let the constructor take {key}, or leave it out.",
                "Change the size in Transformer Builder, and export again.",
            ),
        )


def _keyword_calls(target: Callable[..., Any], source: _ArgumentSource) -> list[ConstructorCall]:
    arguments = _arguments(target, source, {})
    plain = ConstructorCall(_call(target.__name__, arguments), "keywords" if arguments else "none")
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in inspect.signature(target).parameters.values()):
        return [plain]
    extra = {
        key: repr(value)
        for key, value in source.config.items()
        if key.isidentifier() and key not in NOT_ARGUMENTS and key not in dict(arguments)
    }
    full = ConstructorCall(_call(target.__name__, [*arguments, *extra.items()]), "keywords")
    return [full, plain] if _reads_extra_keywords(target) else [plain, full]


def _reads_extra_keywords(target: Callable[..., Any]) -> bool:
    """Return whether the constructor reads its ``**kwargs``."""
    code = getattr(constructor(target), "__code__", None)
    if code is None or not code.co_flags & inspect.CO_VARKEYWORDS:
        return False
    name = code.co_varnames[code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)]
    return any(step.argval == name and step.opname.startswith("LOAD_") for step in dis.get_instructions(code))


def _arguments(target: Callable[..., Any], source: _ArgumentSource, given: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return (name, expression) for each argument that has a value."""
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    found: list[tuple[str, str]] = []
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty
        value = _value_of(name, set(parameters), source, required)
        if name in given:
            found.append((name, given[name]))
        elif value is not None or (required and name in source.config):
            found.append((name, repr(value)))
        elif required:
            raise _missing_argument(target, name, source)
    return found


def _value_of(name: str, taken: set[str], source: _ArgumentSource, required: bool) -> Any:
    """Return the value of an argument by its name or a synonym; of a required one also from the drawn blocks."""
    if name in NOT_ARGUMENTS:
        return source.config.get(name) if required else None
    flat = {**source.config, "nodes": None}
    value = config_hints.find_value(flat, (name,))
    if value is not None:
        return value
    names = next((group for group in SYNONYMS if name in group), ())
    value = config_hints.find_value(flat, [other for other in names if other not in taken])
    if value is not None or not required:
        return value
    wider = next((second for first, second in FALLBACKS if name in first), ())
    return config_hints.find_value(source.config, (name, *names, *wider))


def _missing_argument(target: Callable[..., Any], name: str, source: _ArgumentSource) -> ModelError:
    keys = ", ".join(list(source.config)[:12]) or "nothing"
    return ModelError(
        f"{argument_line(constructor(target), name)}: {target.__name__} requires '{name}', "
        "which config.json does not have.",
        f"config.json has: {keys}.",
        f"Add '{name}' to config.json, or give it a default value in model.py.",
    )


def _call(name: str, arguments: list[tuple[str, str]]) -> str:
    if len(arguments) == 1 and arguments[0][0] in CONFIG_NAMES:
        return f"{name}({arguments[0][1]})"
    return f"{name}({', '.join(f'{key}={value}' for key, value in arguments)})"


def _wants_config(parameters: Mapping[str, inspect.Parameter], name: str, source: _ArgumentSource) -> bool:
    """Return whether this argument is the whole configuration."""
    parameter = parameters[name]
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    if name in CONFIG_NAMES or _config_class(parameter, source) is not None:
        return True
    annotation = str(parameter.annotation).lower()
    if any(word in annotation for word in ("dict", "mapping", "namespace")) and parameter.default is parameter.empty:
        return True
    is_only_argument = len(parameters) == 1 and parameter.default is parameter.empty and name not in source.config
    return is_only_argument and _value_of(name, {name}, source, required=True) is None


def _config_class(parameter: inspect.Parameter, source: _ArgumentSource) -> type | None:
    """Return the class of the module in the annotation of the argument, or of its default value."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        names = re.findall(r"\w+", annotation)
        annotation = next((vars(source.module)[name] for name in names if name in vars(source.module)), None)
    candidates = [annotation, *getattr(annotation, "__args__", ()), type(parameter.default)]
    return next((item for item in candidates if _is_module_class(item, source)), None)


def _is_module_class(item: Any, source: _ArgumentSource) -> bool:
    return isinstance(item, type) and item.__module__ == source.module.__name__ and not issubclass(item, nn.Module)


def _config_forms(parameter: inspect.Parameter, source: _ArgumentSource) -> list[tuple[str, str]]:
    """Return (style, expression) of the configuration as an object, the most likely first."""
    forms = {
        "mapping": source.mapping,
        "namespace": f"SimpleNamespace(**{source.mapping})",
        "both": f"ConfigMapping({source.mapping})",
    }
    attributes, items, is_inspected = _config_usage(source.tree, parameter.name)
    if attributes and items:
        order = ["mapping", "both", "namespace"] if is_inspected else ["both", "namespace", "mapping"]
    else:
        order = ["namespace", "both", "mapping"] if attributes else ["mapping", "both", "namespace"]
    ordered = [(style, forms[style]) for style in order]
    annotated = _config_class(parameter, source)
    config_class = annotated or _usual_config_class(source)
    if config_class is None or (annotated is None and items and not attributes):
        return ordered
    try:
        arguments = _arguments(config_class, source, {})
    except ModelError:
        return ordered
    return [("class", f"{config_class.__name__}({', '.join(f'{key}={value}' for key, value in arguments)})"), *ordered]


def _usual_config_class(source: _ArgumentSource) -> type | None:
    """Return the class of the module that is named like a configuration, if there is exactly one."""
    found = [
        item
        for name, item in vars(source.module).items()
        if name.endswith(CONFIG_CLASS_ENDINGS) and _is_module_class(item, source)
    ]
    return found[0] if len(found) == 1 else None


def _config_usage(tree: ast.Module, name: str) -> tuple[bool, bool, bool]:
    """Return whether the code reads attributes, reads items, and checks the type of its configuration."""
    names = CONFIG_NAMES | {name, "c"}
    attributes = items = is_inspected = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and _is_named(node.value, names):
            items = True
        elif isinstance(node, ast.Attribute) and _is_named(node.value, names):
            items |= hasattr(dict, node.attr)
            attributes |= not hasattr(dict, node.attr)
        elif isinstance(node, ast.keyword) and node.arg is None and _is_named(node.value, names):
            items = True
        elif isinstance(node, ast.Call) and node.args and _is_named(node.args[0], names):
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            is_inspected |= called == "isinstance"
            attributes |= called in ("getattr", "hasattr", "vars")
    return attributes, items, is_inspected


def _is_named(node: ast.expr, names: frozenset[str] | set[str]) -> bool:
    """Return whether the expression is ``config`` or ``self.config``."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr in names
    return isinstance(node, ast.Name) and node.id in names

"""Build the model of an export from ``config.json``, with any usual constructor."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.python_text import parse_python
from transformer_foundry.core.models.building.constructor_calls import SYNONYMS, ConstructorCall, constructor_calls_for
from transformer_foundry.core.models.building.model_code import find_model_class, import_model_code
from transformer_foundry.core.models.inference.call import construct
from transformer_foundry.core.models.model_errors import argument_line, constructor, running_model_code
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.system.random_state import preserve_random

__all__ = ["ConstructorCall", "build_model", "find_constructor_call"]

MODEST_ELEMENTS = 2**26
INITIALIZERS = frozenset(("normal_", "uniform_", "trunc_normal_", "bernoulli_", "exponential_", "random_"))
FACTORIES = ("build_model", "create_model", "make_model", "get_model")


def build_model(
    export: ModelSource, overrides: Mapping[str, Any] | None = None, *, seed: int | None = None
) -> nn.Module:
    """Build the model of ``export``.

    Args:
        export: The export.
        overrides: Values that replace those of ``config.json``, for example ``{"d_model": 96}``.
        seed: Seed of the initial weights; the global random state stays the same. None uses the global state.

    Raises:
        ModelError: If the code cannot be imported or the model cannot be built; names the line.
    """
    call = find_constructor_call(export, overrides)
    # Import again: tensors that the code cached during the trial on the meta device must not get into the model.
    module = import_model_code(export)
    if seed is None:
        return _build(call, export, module)
    with preserve_random(seed=seed):
        return _build(call, export, module)


def find_constructor_call(export: ModelSource, overrides: Mapping[str, Any] | None = None) -> ConstructorCall:
    """Return the expression that builds the model of ``export``, after trying it.

    Raises:
        ModelError: If no call works; names the line at which the most likely one fails.
    """
    module = import_model_code(export)
    calls = _candidates(export, _as_configured(export.config, overrides or {}), module)
    failure: ModelError | None = None
    # On the meta device a model needs no memory; code that fails there is tried on the CPU.
    for device in ("cpu",) if _is_surely_small(export, overrides) else ("meta", "cpu"):
        for call in calls:
            try:
                with preserve_random(), torch.device(device), _SkipInitialization():
                    model = _build(call, export, module)
            except ModelError as err:
                failure = failure or err
                continue
            _refuse_beyond_memory(model, export)
            return call
    raise failure or AssertionError("no call was tried")


def _as_configured(config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``overrides`` under the names that the configuration uses, such as ``hidden_size`` for ``d_model``."""
    renamed: dict[str, Any] = {}
    for key, value in overrides.items():
        names = next((group for group in SYNONYMS if key in group), ())
        name = key if key in config else next((other for other in names if other in config), key)
        renamed[name] = value
    return renamed


def _is_surely_small(export: ModelSource, overrides: Mapping[str, Any] | None) -> bool:
    """Return whether the product of the two largest configured sizes is small, so that the meta device is not needed.

    Operations on the meta device import torch._dynamo, which takes longer than building a small model.
    """
    sizes = sorted(_whole_numbers({**export.config, **(overrides or {})}))
    return len(sizes) > 1 and sizes[-1] * sizes[-2] <= MODEST_ELEMENTS


def _whole_numbers(value: Any) -> list[int]:
    if isinstance(value, Mapping):
        return [number for item in value.values() for number in _whole_numbers(item)]
    if isinstance(value, list | tuple):
        return [number for item in value for number in _whole_numbers(item)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


class _SkipInitialization(TorchFunctionMode):
    """Skip random initialization on the meta device: it would import torch._dynamo, which takes seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Skip the operation if it fills a tensor without memory."""
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        if isinstance(tensor, torch.Tensor) and tensor.is_meta and getattr(func, "__name__", "") in INITIALIZERS:
            return tensor
        return func(*args, **kwargs)


def _candidates(export: ModelSource, overrides: Mapping[str, Any], module: ModuleType) -> list[ConstructorCall]:
    tree = parse_python(export.model_code)
    config = {**export.config, **overrides}
    calls: list[ConstructorCall] = []
    failure: ModelError | None = None
    for target in _targets(module, tree, config, bool(overrides)):
        try:
            calls += constructor_calls_for(target, config, overrides, module, tree)
        except ModelError as err:
            failure = failure or err
    if not calls and failure is not None:
        raise failure
    return calls


def _targets(
    module: ModuleType, tree: ast.Module, config: Mapping[str, Any], has_overrides: bool
) -> list[Callable[..., Any]]:
    """Return the factory of the module, then its class; overrides exclude a factory without arguments."""
    named = [getattr(module, name, None) for name in FACTORIES]
    factories: list[Any] = [item for item in named if inspect.isfunction(item) and item.__module__ == module.__name__]
    if has_overrides:
        factories = [item for item in factories if item.__code__.co_argcount]
    try:
        return [*factories, find_model_class(module, tree, config)]
    except ModelError:
        if factories:
            return factories
        raise


def _build(call: ConstructorCall, export: ModelSource, module: ModuleType) -> nn.Module:
    try:
        with running_model_code(f"{_shortened(call.expression)} to build the model", export.model_file):
            model = construct(call.expression, vars(module), export.config)
    except ModelError as err:
        raise _name_missing_size(err, export) from err.__cause__
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{_shortened(call.expression)} returns {type(model).__name__}.",
            "Expected a torch.nn.Module.",
            "Return the model there.",
        )
    if "_modules" not in vars(model):
        line, name = argument_line(constructor(type(model)), "self"), type(model).__name__
        raise ModelError(
            f"{line}: {name} never calls super().__init__().",
            "Expected that call first in __init__: without it the model has no parameters.",
            "Add super().__init__() there.",
        )
    return model


def _name_missing_size(error: ModelError, export: ModelSource) -> ModelError:
    """Return an error that names the size missing in ``config.json``, if that is the cause."""
    cause = error.__cause__
    name = None
    if isinstance(cause, KeyError) and cause.args:
        name = cause.args[0]
    elif isinstance(cause, AttributeError) and not isinstance(cause.obj, nn.Module | ModuleType):
        name = cause.name
    if not isinstance(name, str) or name in export.config:
        return error
    return ModelError(
        error.problem,
        f"config.json has: {', '.join(list(export.config)[:12]) or 'nothing'}.",
        f"Add '{name}' to config.json, with the value that the code expects.",
    )


def _shortened(expression: str) -> str:
    return expression if len(expression) <= 100 else f"{expression[:97]}..."


def _refuse_beyond_memory(model: nn.Module, export: ModelSource) -> None:
    sizes = {
        name: tensor.numel() * tensor.element_size()
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    needed = sum(sizes.values())
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    if installed is not None and needed > installed:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ModelError(
            f"The weights of '{export.name}' need {needed / 2**30:,.0f} GiB; "
            f"the largest, {largest}, needs {sizes[largest] / 2**30:,.0f} GiB.",
            f"Expected less than the memory of this machine, {installed / 2**30:,.0f} GiB.",
            "Make the sizes in config.json smaller (vocab_size, d_model, num_layers, max_seq_len).",
        )

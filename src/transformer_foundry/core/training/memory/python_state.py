"""What a model's code keeps outside the model: caches of functions, classes and modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

__all__ = ["forget_caches"]

_CONTAINERS = (dict, list, set)


@contextlib.contextmanager
def forget_caches(adapter: nn.Module) -> Iterator[None]:
    """Put back what the code of ``adapter`` has cached within: a tensor without data must not meet a real pass.

    Covered are containers and tensors in the modules and classes of the model's code, and ``functools`` caches.
    """
    spaces = _spaces(adapter)
    kept = [{name: value for name, value in vars(space).items() if _is_cache(name, value)} for space in spaces]
    # Plain ones only: transformers' table of activations makes a module of each value that is read, copies included.
    contents = [(value, value.copy()) for found in kept for value in found.values() if type(value) in _CONTAINERS]
    try:
        yield
    finally:
        for space, before in zip(spaces, kept, strict=True):
            _restore(space, before)
        for container, content in contents:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)


class _Globals:
    """The globals of a module of code, as attributes."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.__dict__ = names


def _spaces(adapter: nn.Module) -> list[Any]:
    """Classes of the model's code and the modules in which their forward passes are written, torch's excepted."""
    found: dict[int, Any] = {}
    for module in adapter.modules():
        for owner in type(module).__mro__:
            if owner is object or owner.__module__.partition(".")[0] == "torch":
                continue
            found[id(owner)] = owner
            names = getattr(vars(owner).get("forward"), "__globals__", None)
            if names is not None:
                found[id(names)] = _Globals(names)
    return list(found.values())


def _is_cache(name: str, value: Any) -> bool:
    return not name.startswith("__") and (value is None or isinstance(value, (Tensor, *_CONTAINERS)))


def _restore(space: Any, before: dict[str, Any]) -> None:
    for name, value in list(vars(space).items()):
        if callable(getattr(value, "cache_clear", None)):
            value.cache_clear()
        if name in before and value is not before[name]:
            setattr(space, name, before[name])
        elif name not in before and isinstance(value, Tensor):
            delattr(space, name)

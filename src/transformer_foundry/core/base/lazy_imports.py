"""Lazy exports of a package (PEP 562): naming a function costs no import of torch, reading it does."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """Return ``__getattr__`` and ``__all__`` for a package whose public names live in submodules.

    Args:
        package: ``__name__`` of the package.
        modules: Public name -> submodule that defines it.

    Example:
        In ``core/training/__init__.py``::

            __getattr__, __all__ = lazy_exports(__name__, {"fit": "loop", "TrainingOptions": "options"})
    """

    # Importing a submodule sets it on the package, where it would hide a function of the same name.
    assert not set(modules) & set(modules.values()), set(modules) & set(modules.values())

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return load, sorted(modules)

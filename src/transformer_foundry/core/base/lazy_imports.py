"""Lazy exports of a package (PEP 562): importing the package loads no torch, reading one of its names does."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from importlib.abc import InspectLoader
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports public names when they are read.

    The names are those that the package imports under ``if TYPE_CHECKING``: one list serves type checkers and the
    interpreter.

    Args:
        package: ``__name__`` of the package.

    Example:
        In ``core/training/__init__.py``::

            if TYPE_CHECKING:
                from transformer_foundry.core.training.loop import fit as fit
            else:
                __getattr__, __dir__, __all__ = lazy_exports(__name__)
    """
    modules = dict(_typed_imports(package))
    # Importing a submodule sets it on the package, where it would hide a function of the same name.
    submodules = {module.removeprefix(f"{package}.").split(".")[0] for module in modules.values()}
    assert not set(modules) & submodules, set(modules) & submodules
    names = sorted(modules)

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    return load, lambda: names, names


def _typed_imports(package: str) -> Iterator[tuple[str, str]]:
    """Yield (name, module) of each import under ``if TYPE_CHECKING`` in the source of ``package``."""
    spec = importlib.util.find_spec(package)
    source = spec.loader.get_source(package) if spec and isinstance(spec.loader, InspectLoader) else None
    assert source is not None, f"{package} has no source"
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            for statement in block.body:
                assert isinstance(statement, ast.ImportFrom), ast.unparse(statement)
                assert statement.module, ast.unparse(statement)
                yield from ((alias.name, statement.module) for alias in statement.names)

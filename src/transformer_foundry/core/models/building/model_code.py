"""Import ``model.py`` of an export and find the class of the model in it."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Mapping
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any, ClassVar

from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.python_text import parse_python
from transformer_foundry.core.models.failure_causes import remedy_for
from transformer_foundry.core.models.model_errors import running_model_code
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.support_modules import module_name, redirect_imports
from transformer_foundry.core.models.source.syntax import parse_model_code
from transformer_foundry.core.models.source.trust import require_trusted
from transformer_foundry.core.system.random_state import preserve_random

__all__ = ["find_model_class", "import_model_code"]

CLASS_KEYS = ("model_name", "class_name", "model_class", "name")
DEFAULT_NAME = "CustomTransformer"


def import_model_code(export: ModelSource) -> ModuleType:
    """Run ``model.py`` and return it as a module; modules beside it are imported from this module, as its parts.

    The text that was read and hashed runs, even if the file has changed since, and the folder of the export gets no
    ``__pycache__``. The module is registered in ``sys.modules``, which dataclasses and pickling need.

    Raises:
        ModelError: If it is not trusted, does not parse, or raises during the import; names the line.
    """
    require_trusted(export)
    parse_model_code(export.model_code)
    file_name = str(export.model_file)
    module = ModuleType(f"transformer_foundry_export_{export.identity[:16]}")
    module.__file__ = file_name
    for name in [name for name in sys.modules if name.startswith(f"{module.__name__}.")]:
        del sys.modules[name]
    sys.modules[module.__name__] = module
    linecache.checkcache(file_name)
    _SupportFinder.add(export, module)
    try:
        # Code that seeds or draws during the import must not change the global random state.
        with preserve_random(), running_model_code("model.py to be imported without an error", file_name):
            # Without dont_inherit the code would get the __future__ imports of this module.
            exec(_compile(export, export.model_code, file_name, module.__name__), module.__dict__)
    except ModelError:
        sys.modules.pop(module.__name__, None)
        raise
    return module


def _compile(export: ModelSource, code: str, file_name: str, package: str) -> CodeType:
    tree = parse_python(code, file_name)
    if export.support:
        tree = redirect_imports(tree, {module_name(file): file for file in export.support}, package)
    return compile(tree, file_name, "exec", dont_inherit=True)


class _SupportFinder:
    """Imports the modules beside ``model.py`` from the texts that were read and hashed."""

    exports: ClassVar[dict[str, ModelSource]] = {}
    """Name of the module of ``model.py`` -> export."""

    @classmethod
    def add(cls, export: ModelSource, module: ModuleType) -> None:
        """Let ``module`` import the modules of ``export``."""
        if not export.support:
            return
        module.__path__ = []  # a package, so that its relative imports are those of its parts
        module.__package__ = module.__name__
        sys.modules[f"{module.__name__}.{export.model_file.stem}"] = module
        cls.exports[module.__name__] = export
        if cls not in sys.meta_path:
            sys.meta_path.append(cls)

    @classmethod
    def find_spec(cls, name: str, *_paths: object) -> ModuleSpec | None:
        """Return how to import ``name`` if it is a module of an export."""
        package, _, inner = name.partition(".")
        export = cls.exports.get(package)
        files = {module_name(file): file for file in export.support} if export is not None else {}
        folders = {file.rpartition("/")[0].replace("/", ".") for file in files.values()}
        if export is None or (inner not in files and inner not in folders):
            return None
        is_package = inner not in files or files[inner].endswith("__init__.py")
        spec = ModuleSpec(name, _SupportLoader(export, files.get(inner), package), is_package=is_package)
        if inner in files:
            spec.origin, spec.has_location = str(export.folder / files[inner]), True
        return spec


class _SupportLoader(Loader):
    """Runs one module of an export; a folder without ``__init__.py`` has no code."""

    def __init__(self, export: ModelSource, file: str | None, package: str) -> None:
        self._export, self._file, self._package = export, file, package

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make the module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the code of the module."""
        if self._file is not None:
            path = str(self._export.folder / self._file)
            linecache.checkcache(path)
            exec(_compile(self._export, self._export.support[self._file], path, self._package), module.__dict__)


def find_model_class(module: ModuleType, tree: ast.Module, config: Mapping[str, Any]) -> type[nn.Module]:
    """Return the class of the model: the one named by the configuration, otherwise the one that no other class uses.

    Without a name it is ``CustomTransformer``, the default of Transformer Builder. Of several unused classes it is the
    one that uses most of the others, directly or not, then the one defined last.

    Raises:
        ModelError: If the module defines no ``torch.nn.Module``.
    """
    classes = _module_classes(module)
    if not classes:
        raise ModelError(
            "model.py defines no class that derives from torch.nn.Module.",
            "Expected the class of the model, for example class CustomTransformer(nn.Module).",
            remedy_for(
                config,
                "Derive the class of the model from nn.Module, or import it in model.py.",
                "Export the model again from Transformer Builder.",
            ),
        )
    for name in _stated_names(config):
        for candidate in classes:
            if _plain(candidate) == _plain(name):
                return classes[candidate]
    return classes.get(DEFAULT_NAME) or classes[_outermost(tree, list(classes))]


def _module_classes(module: ModuleType) -> dict[str, type[nn.Module]]:
    classes = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and _is_of(value.__module__, module.__name__)
    }
    own = {name: value for name, value in classes.items() if value.__module__ == module.__name__}
    return own or classes


def _is_of(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


def _stated_names(config: Mapping[str, Any]) -> list[str]:
    architectures = config.get("architectures")
    listed = list(architectures) if isinstance(architectures, list | tuple) else []
    return [name for name in [*(config.get(key) for key in CLASS_KEYS), *listed] if isinstance(name, str)]


def _plain(name: str) -> str:
    """Return letters and digits only: ``My GPT-2`` equals ``MyGPT2``."""
    return "".join(character for character in name.lower() if character.isalnum())


def _outermost(tree: ast.Module, names: list[str]) -> str:
    """Return the class that no other uses; of several, the one that uses most others, then the last."""
    order = {node.name: node.lineno for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    uses = {
        node.name: {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)} & set(names) - {node.name}
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    used = set().union(*uses.values()) if uses else set()
    free = [name for name in names if name not in used] or names
    return max(free, key=lambda name: (len(_reach(name, uses)), order.get(name, 0)))


def _reach(name: str, uses: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        for used in uses.get(waiting.pop(), set()) - reached:
            reached.add(used)
            waiting.append(used)
    return reached

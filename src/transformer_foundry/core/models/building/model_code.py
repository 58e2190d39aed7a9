"""Import ``model.py`` of an export and find the class of the model in it."""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from torch import nn

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.model_errors import running_model_code
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.syntax import parse_model_code
from transformer_foundry.core.models.source.trust import require_trusted
from transformer_foundry.core.system.random_state import preserve_random

__all__ = ["find_model_class", "import_model_code"]

CLASS_KEYS = ("model_name", "class_name", "model_class", "name")
DEFAULT_NAME = "CustomTransformer"


def import_model_code(export: ModelSource) -> ModuleType:
    """Run ``model.py`` and return it as a module.

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
    sys.modules[module.__name__] = module
    linecache.checkcache(file_name)
    try:
        # Code that seeds or draws during the import must not change the global random state.
        with preserve_random(), running_model_code("model.py to be imported without an error", file_name):
            # Without dont_inherit the code would get the __future__ imports of this module.
            exec(compile(export.model_code, file_name, "exec", dont_inherit=True), module.__dict__)
    except ModelError:
        sys.modules.pop(module.__name__, None)
        raise
    return module


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
            "Export the model again from Transformer Builder.",
        )
    for name in _stated_names(config):
        for candidate in classes:
            if _plain(candidate) == _plain(name):
                return classes[candidate]
    return classes.get(DEFAULT_NAME) or classes[_outermost(tree, list(classes))]


def _module_classes(module: ModuleType) -> dict[str, type[nn.Module]]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == module.__name__
    }


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

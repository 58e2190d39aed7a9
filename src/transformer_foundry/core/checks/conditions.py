"""Parts of a model that its source runs under a condition only: an optional input, a switch."""

from __future__ import annotations

import ast

from torch import nn

from transformer_foundry.core.checks.subject import Subject

__all__ = ["runs_on_condition"]


def runs_on_condition(subject: Subject, path: str, called: set[str]) -> bool:
    """Whether a module that did not run is one the source runs under a condition only: an optional input, a switch."""
    if any(name == path or name.startswith(f"{path}.") for name in called):
        return False
    owner_path, _, attribute = path.rpartition(".")
    owner = subject.places.modules.get(owner_path)
    if isinstance(owner, nn.ModuleList | nn.ModuleDict):
        owner_path, _, attribute = owner_path.rpartition(".")
        owner = subject.places.modules.get(owner_path)
    if owner is None:
        return False
    for base in type(owner).__mro__:
        file = subject.source.class_file(base)
        if file is not None and _only_under_if(file.classes[base.__name__], attribute):
            return True
    return False


def _only_under_if(definition: ast.ClassDef, attribute: str) -> bool:
    """Whether the class uses ``self.attribute``, yet no call of ``forward`` is bound to get there."""
    methods = {item.name: item for item in definition.body if isinstance(item, ast.FunctionDef)}
    methods.pop("__init__", None)
    bound, waiting = set[str](), ["forward"]
    while waiting:
        name = waiting.pop()
        if name in methods and name not in bound:
            bound.add(name)
            waiting += [other for other in methods if _uses_always(methods[name], other)]
    used = any(_uses(node, attribute) for method in methods.values() for node in ast.walk(method))
    return used and not any(_uses_always(methods[name], attribute) for name in bound)


def _uses_always(method: ast.FunctionDef, attribute: str) -> bool:
    branches = [item for item in ast.walk(method) if isinstance(item, ast.If | ast.IfExp)]
    conditional = {id(inner) for branch in branches for inner in ast.walk(branch)}
    return any(_uses(node, attribute) and id(node) not in conditional for node in ast.walk(method))


def _uses(node: ast.AST, attribute: str) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr == attribute
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )

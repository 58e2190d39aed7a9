"""What names in ``model.py`` stand for: imported paths, followed through the installed modules to the thing itself."""

from __future__ import annotations

import ast
import functools
import importlib
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, TypeVar

__all__ = [
    "ALLOWED_IMPORTS",
    "Chain",
    "Names",
    "assigned",
    "bound_names",
    "constant_attribute",
    "is_module",
    "unusual_part",
]

ALLOWED_IMPORTS = frozenset((
    "__future__", "abc", "collections", "copy", "dataclasses", "einops", "enum", "flash_attn", "functools", "inspect",
    "itertools", "logging", "math", "numbers", "numpy", "operator", "random", "string", "time", "torch", "transformers",
    "types", "typing", "typing_extensions", "warnings", "xformers",
))  # fmt: skip
"""Top-level modules that model code uses for computing."""

# Not loaded only to be looked at: they are large, or may be broken here. What is loaded already is looked at.
_NOT_IMPORTED = frozenset(("flash_attn", "transformers", "xformers"))

# Parts of allowed modules that read, load, run or find something.
RISKY_PARTS = (
    "torch.load", "torch.hub", "torch.utils.cpp_extension", "torch.ops.load_library", "torch.classes.load_library",
    "torch.save", "torch.jit.load", "torch.jit.save", "torch.jit.CompilationUnit", "torch.package", "torch.fx",
    "torch.multiprocessing", "torch.distributed", "torch.from_file", "torch.UntypedStorage", "torch.storage",
    "torch.export.load", "torch.export.save", "torch.onnx.export", "torch.utils.model_zoo", "torch.utils.tensorboard",
    "torch.utils.collect_env", "torch.utils.file_baton", "torch.utils.bottleneck", "torch.testing",
    "numpy.load", "numpy.fromfile", "numpy.memmap", "numpy.ctypeslib", "numpy.save", "numpy.savez",
    "numpy.savez_compressed", "numpy.savetxt", "numpy.loadtxt", "numpy.genfromtxt", "numpy.f2py", "numpy.testing",
    "numpy.lib.format", "numpy.lib.npyio", "numpy.rec.fromfile",
    "logging.FileHandler", "logging.handlers", "logging.config", "types.CodeType", "types.FunctionType",
    "types.ModuleType", "inspect.currentframe", "inspect.stack", "inspect.trace", "inspect.getmembers",
    "inspect.getmembers_static", "inspect.getmodule", "inspect.getattr_static", "inspect.get_annotations",
    "operator.attrgetter", "operator.methodcaller", "typing.get_type_hints", "string.Formatter",
    "transformers.pipeline", "transformers.dynamic_module_utils",
)  # fmt: skip
# Private names that published models use.
_USUAL_PRIVATE = frozenset(("torch._assert", "torch.nn.modules.utils._pair"))

# Aliases of aliases: more of them are in no code that is meant to be read, and would take quadratic time.
_MOST_ROUNDS, _MOST_MEANINGS, _LONGEST_PATH = 4, 8, 32

_LONGEST_MODULE = 512
"""Characters: each name imported from it would be as long. No installed module has a longer name."""

_Item = TypeVar("_Item")
Names = Mapping[str, frozenset[str]]
"""Name in the code -> the imported paths that it may stand for."""


class Chain:
    """``a.b.c`` or ``getattr(a.b, "c")``, read without recursion.

    Attributes:
        base: The expression that it begins with.
        attributes: Names after it, in order.
        inner: The nodes that it consists of, without the outermost.
    """

    def __init__(self, node: ast.expr) -> None:
        self.inner: list[ast.expr] = []
        attributes: list[str] = []
        while True:
            if isinstance(node, ast.Attribute):
                attributes.append(node.attr)
                node = node.value
            elif (name := constant_attribute(node)) is not None:
                assert isinstance(node, ast.Call)
                attributes.append(name)
                self.inner.append(node.func)
                node = node.args[0]
            else:
                break
            self.inner.append(node)
        self.base, self.attributes = node, attributes[::-1]

    def paths(self, names: Names) -> list[tuple[str, ...]]:
        """Return the imported paths that it may stand for, each in its parts."""
        if not isinstance(self.base, ast.Name):
            return []
        return [(*path.split("."), *self.attributes) for path in sorted(names.get(self.base.id, ()))]


def constant_attribute(node: ast.expr) -> str | None:
    """Return the name that ``getattr(thing, "name")`` reads, None for any other expression."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
        name = node.args[1] if len(node.args) > 1 else None
        return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else None
    return None


def bound_names(nodes: Iterable[ast.AST], end_s: float = math.inf) -> Names:
    """Return what the names in the code stand for, by imports and by assignments such as ``t = torch``.

    Args:
        nodes: All nodes of the code.
        end_s: When to stop, by ``time.monotonic``.

    Raises:
        TimeoutError: If it takes longer.
    """

    def in_time(items: Iterable[_Item]) -> Iterator[_Item]:
        for number, item in enumerate(items):
            if number % 256 == 0 and time.monotonic() > end_s:
                raise TimeoutError
            yield item

    found: dict[str, set[str]] = {}
    aliases: list[tuple[str, Chain]] = []
    for node in in_time(nodes):
        for name, path in in_time(_imported(node)):
            found.setdefault(name, set()).add(path)
        aliases += [(name, Chain(value)) for name, value in in_time(assigned(node))]
    for _ in range(_MOST_ROUNDS):
        names = {name: frozenset(paths) for name, paths in found.items()}
        for name, chain in in_time(aliases):
            paths = [path for path in chain.paths(names) if len(path) <= _LONGEST_PATH]
            if paths and len(found.setdefault(name, set())) < _MOST_MEANINGS:
                found[name].update(map(".".join, paths))
        if names == found:
            break
    return {name: frozenset(paths) for name, paths in found.items() if paths}


def _imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (name in the code, imported path)."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.split(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        if len(node.module) > _LONGEST_MODULE:
            return
        for alias in node.names:
            if alias.name != "*":
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
                continue
            module = _find(tuple(node.module.split(".")))[-1]
            public = getattr(module, "__all__", None) or [name for name in _attributes(module) if name[0] != "_"]
            yield from ((name, f"{node.module}.{name}") for name in public)


def assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield (name, value) of assignments and defaults that may give something imported another name."""
    pairs: list[tuple[ast.expr, ast.expr]]
    if isinstance(node, ast.Assign):
        pairs = [(target, node.value) for target in node.targets]
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        pairs = [(node.target, node.value)]
    elif isinstance(node, ast.arguments):
        given = [*node.posonlyargs, *node.args]
        defaults = [*zip(given[::-1], node.defaults[::-1], strict=False)]
        defaults += [(name, value) for name, value in zip(node.kwonlyargs, node.kw_defaults, strict=True) if value]
        yield from ((name.arg, value) for name, value in defaults if isinstance(value, ast.Name | ast.Attribute))
        return
    else:
        return
    for target, value in pairs:
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            yield from (
                (one.id, part) for one, part in zip(target.elts, value.elts, strict=False) if isinstance(one, ast.Name)
            )
        elif isinstance(target, ast.Name) and isinstance(value, ast.Name | ast.Attribute | ast.Call):
            yield target.id, value


@functools.lru_cache(maxsize=4096)
def unusual_part(path: tuple[str, ...]) -> str | None:
    """Return the part of an imported path that computing does not need, with what it is; None if there is none.

    Example:
        >>> unusual_part(("inspect", "os", "system"))
        'inspect.os, which is os'
        >>> unusual_part(("torch", "nn", "Linear")) is None
        True
    """
    if path[0] not in ALLOWED_IMPORTS:
        return _shown(path)
    for length, thing in enumerate(_find(path), start=1):
        part, home = ".".join(path[:length]), _home(thing)
        known = _risky_things().get(id(thing)) if thing is not None else None
        if known is not None:
            return part if known == part else f"{part}, which is {known}"
        if home is not None and home.lstrip("_").split(".")[0] not in ALLOWED_IMPORTS | {"builtins"}:
            return f"{part}, which is {home}" if home != part else part
    text = ".".join(path[:12])
    if any(text == name or text.startswith(f"{name}.") for name in RISKY_PARTS):
        return _shown(path)
    if path[0] in ("torch", "numpy") and any(part[0] == "_" and part[:2] != "__" for part in path[1:] if part):
        return None if text in _USUAL_PRIVATE else _shown(path)
    return None


@functools.lru_cache(maxsize=4096)
def is_module(path: tuple[str, ...]) -> bool:
    """Return whether an imported path is a module."""
    found = _find(path)
    return len(path) == 1 or (len(found) == len(path) and isinstance(found[-1], ModuleType))


def _shown(path: tuple[str, ...]) -> str:
    return ".".join(path[:8]) + ("..." if len(path) > 8 else "")


def _home(thing: Any) -> str | None:
    """Return the name of a module, or that of the module that defines a function or class."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    home = getattr(thing, "__module__", None) if callable(thing) else None
    return f"{home}.{getattr(thing, '__qualname__', '')}" if isinstance(home, str) else None


def _find(path: tuple[str, ...]) -> list[Any]:
    """Return the things that ``path`` leads through, as far as they can be found without running anything."""
    top = path[0]
    if top not in ALLOWED_IMPORTS or (top in _NOT_IMPORTED and top not in sys.modules):
        return [None]
    try:
        thing: Any = importlib.import_module(top)
    except Exception:  # a module of another platform may raise anything; what cannot be imported has no aliases
        return [None]
    found = [thing]
    for name in path[1:]:
        attributes = _attributes(thing)
        if name in attributes:
            thing = attributes[name]
        elif isinstance(thing, ModuleType) and f"{thing.__name__}.{name}" in sys.modules:
            thing = sys.modules[f"{thing.__name__}.{name}"]
        else:
            break
        found.append(thing)
    return found


def _attributes(thing: Any) -> Mapping[str, Any]:
    # Not getattr: modules and classes may compute attributes.
    return vars(thing) if isinstance(thing, ModuleType | type) else {}


@functools.cache
def _risky_things() -> dict[int, str]:
    """Return the risky parts themselves, by identity: an alias is the thing itself."""
    found = {}
    for name in RISKY_PARTS:
        path = tuple(name.split("."))
        things = _find(path)
        if len(things) == len(path) and (isinstance(things[-1], ModuleType) or callable(things[-1])):
            found[id(things[-1])] = name
    return found

"""Scan ``model.py`` for what a model does not need: unusual imports, and calls that access files, programs or network.

The scan is no sandbox: it shows a reader which lines to read first. Code can be written to evade it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["ALLOWED_IMPORTS", "RiskyLine", "scan_code"]

ALLOWED_IMPORTS = frozenset((
    "__future__", "abc", "collections", "copy", "dataclasses", "einops", "enum", "flash_attn", "functools", "inspect",
    "itertools", "logging", "math", "numbers", "numpy", "operator", "random", "string", "time", "torch", "transformers",
    "types", "typing", "typing_extensions", "warnings", "xformers",
))  # fmt: skip
"""Top-level modules that model code uses for computing."""

# Parts of allowed modules that read, load or run something.
RISKY_PARTS = (
    "torch.load", "torch.hub", "torch.utils.cpp_extension", "torch.ops.load_library",
    "torch.classes.load_library", "torch.save", "torch.jit.load", "torch.package", "torch.multiprocessing",
    "torch.distributed", "numpy.load", "numpy.fromfile", "numpy.memmap", "numpy.ctypeslib", "numpy.save",
    "numpy.savez", "logging.FileHandler", "logging.handlers", "logging.config", "types.CodeType", "types.FunctionType",
    "inspect.currentframe", "inspect.stack",
)  # fmt: skip
BUILTINS = frozenset((
    "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "globals", "input", "locals", "open",
))  # fmt: skip
METHODS = frozenset((
    "extractall", "from_pretrained", "load_state_dict_from_url", "popen", "read_bytes", "read_text", "rmtree", "system",
    "unlink", "urlopen", "urlretrieve", "write_bytes", "write_text",
))  # fmt: skip
DUNDERS = frozenset((
    "__bases__", "__builtins__", "__closure__", "__code__", "__globals__", "__loader__", "__mro__", "__reduce__",
    "__reduce_ex__", "__spec__", "__subclasses__",
))  # fmt: skip


@dataclass(frozen=True)
class RiskyLine:
    """A line that does what a model does not need.

    Attributes:
        line: The line in ``model.py``.
        what: What it does, as the end of the sentence "line N ...".
    """

    line: int
    what: str

    def __str__(self) -> str:
        return f"line {self.line} {self.what}"


def scan_code(code: str) -> list[RiskyLine]:
    """Return the lines of ``code`` to read first, in order, without running it.

    Code that does not parse has none, since it cannot run either.

    Example:
        >>> [str(item) for item in scan_code("import os\\nos.system('ls')\\n")]
        ['line 1 imports os', 'line 2 uses os.system']
    """
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = dict(_imported(tree))
    found = {item for node in ast.walk(tree) for item in _risky_lines(node, names)}
    return sorted(found, key=lambda item: (item.line, item.what))


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield (name in the code, imported path) of everything that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _risky_lines(node: ast.AST, names: dict[str, str]) -> Iterator[RiskyLine]:
    if isinstance(node, ast.Import):
        yield from (RiskyLine(node.lineno, f"imports {name.name}") for name in node.names if _is_unusual(name.name))
    elif isinstance(node, ast.ImportFrom):
        modules = [f"{node.module or '.'}.{name.name}" for name in node.names]
        yield from (RiskyLine(node.lineno, f"imports {name}") for name in modules if node.level or _is_unusual(name))
    elif isinstance(node, ast.Attribute):
        yield from _risky_attribute(node, names)
    elif isinstance(node, ast.Name) and node.id in BUILTINS | DUNDERS:
        yield RiskyLine(node.lineno, f"uses {node.id}")
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
        if len(node.args) > 1 and not isinstance(node.args[1], ast.Constant):
            yield RiskyLine(node.lineno, f"calls {node.func.id} with a computed name")
    elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and _is_packed(node.value):
        yield RiskyLine(node.lineno, f"contains {len(node.value):,} characters without a space, like packed code")


def _risky_attribute(node: ast.Attribute, names: dict[str, str]) -> Iterator[RiskyLine]:
    path = _dotted(node, names)
    if node.attr in DUNDERS or node.attr in METHODS:
        yield RiskyLine(node.lineno, f"uses {path or node.attr}")
    elif path and path.split(".")[0] in names.values() and _is_unusual(path):
        yield RiskyLine(node.lineno, f"uses {path}")


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def _is_unusual(path: str) -> bool:
    if path.split(".")[0] not in ALLOWED_IMPORTS:
        return True
    return any(path == name or path.startswith(f"{name}.") for name in RISKY_PARTS)


def _is_packed(text: str | bytes) -> bool:
    words = text.split()
    return len(text) > 400 and max((len(word) for word in words), default=0) > 400

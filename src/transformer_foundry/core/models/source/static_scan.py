"""Scan ``model.py`` for what a model does not need: unusual imports, and calls that access files, programs or network.

The scan is no sandbox: it shows a reader which lines to read first. Code can be written to evade it. Its time grows
linearly with the code, which is external: nothing here recurses.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from transformer_foundry.core.base.python_text import CodeTooLargeError, parse_python
from transformer_foundry.core.models.source.scan_names import (
    ALLOWED_IMPORTS,
    Chain,
    Names,
    assigned,
    bound_names,
    constant_attribute,
    is_module,
    unusual_part,
)

__all__ = ["ALLOWED_IMPORTS", "RiskyLine", "scan_code"]

BUILTINS = frozenset((
    "__import__", "breakpoint", "compile", "delattr", "eval", "exec", "globals", "input", "locals", "open",
))  # fmt: skip
METHODS = frozenset((
    "dump", "execv", "extractall", "fork", "from_file", "from_pretrained", "fromfile", "load_library",
    "load_state_dict_from_url", "load_url", "memmap", "popen", "read_bytes", "read_text", "rmtree", "system", "tofile",
    "unlink", "urlopen", "urlretrieve", "write_bytes", "write_text",
))  # fmt: skip
DUNDERS = frozenset((
    "__base__", "__bases__", "__builtins__", "__closure__", "__code__", "__getattribute__", "__globals__",
    "__import__", "__loader__", "__mro__", "__reduce__", "__reduce_ex__", "__self__", "__spec__", "__subclasses__",
    "__traceback__", "__wrapped__", "ag_frame", "cr_frame", "f_back", "f_builtins", "f_globals", "f_locals", "gi_frame",
    "tb_frame",
))  # fmt: skip
_REFLECTION = ("getattr", "setattr", "vars", "hasattr")
_SPECIAL_METHODS = frozenset(("__del__", "__reduce__", "__reduce_ex__"))
_DUNDER_IN_TEXT = re.compile("|".join(name for name in sorted(DUNDERS) if name.startswith("__")))
_LONGEST_WORD = 400
_MOST_SECONDS = 5.0
_MOST_FINDINGS = 1000


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

    Names are followed through imports, assignments and the installed modules: ``inspect.os`` is ``os``. Code that does
    not parse has no such lines, since it cannot run either. What cannot be scanned in bounded time and memory is itself
    a finding.

    Example:
        >>> [str(item) for item in scan_code("import os\\nos.system('ls')\\n")]
        ['line 1 imports os', 'line 2 uses os.system']
    """
    end = time.monotonic() + _MOST_SECONDS
    try:
        nodes = list(ast.walk(parse_python(code)))
    except CodeTooLargeError as err:
        return [RiskyLine(1, f"begins code that the scan does not read: {err}")]
    except (SyntaxError, ValueError):
        return []
    except (RecursionError, MemoryError):
        return [RiskyLine(1, "begins code that is nested too deeply to be read")]
    try:
        names = bound_names(nodes, end)
    except TimeoutError:
        return [RiskyLine(1, f"begins code that the scan does not read within {_MOST_SECONDS:g} s")]
    scan = _Scan(names, {node.arg for node in nodes if isinstance(node, ast.arg)})
    found: set[RiskyLine] = set()
    for number, node in enumerate(nodes):
        found.update(scan.risky_lines(node))
        if len(found) > _MOST_FINDINGS or (number % 1024 == 0 and time.monotonic() > end):
            found.add(RiskyLine(getattr(node, "lineno", 1), "is where the scan stopped: the code is too much for it"))
            break
    return sorted(found, key=lambda item: (item.line, item.what))


class _Scan:
    """Looks at each node once, the outer ones first.

    Args:
        names: What the names of the code stand for.
        parameters: Names of arguments in the code.
    """

    def __init__(self, names: Names, parameters: set[str]) -> None:
        self._names = names
        self._parameters = parameters
        self._seen: set[int] = set()
        """Nodes that were judged as parts of outer ones."""
        self._aliases: set[int] = set()
        """Values that get another name, which is followed."""
        self._attributes: set[int] = set()
        """Assignments in the body of a class: not names, and not followed."""

    def risky_lines(self, node: ast.AST) -> Iterator[RiskyLine]:
        line = getattr(node, "lineno", 1)
        yield from (RiskyLine(line, what) for what in self._judge(node))

    def _judge(self, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (f"imports {part}" for name in node.names if (part := unusual_part(tuple(name.name.split(".")))))
        elif isinstance(node, ast.ImportFrom):
            yield from self._imported_from(node)
        elif isinstance(node, ast.Call):
            yield from self._called(node)
        elif isinstance(node, ast.Attribute | ast.Name):
            yield from self._chain(node)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield from self._defined(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.arguments) and id(node) not in self._attributes:
            self._aliases |= {id(value) for _, value in assigned(node)}
        elif isinstance(node, ast.MatchClass):
            yield from (f"uses {name}" for name in node.kwd_attrs if name in DUNDERS | METHODS)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            yield from _text(node.value)

    def _imported_from(self, node: ast.ImportFrom) -> Iterator[str]:
        if node.level:
            yield from (f"imports {node.module or '.'}.{name.name}" for name in node.names)
            return
        module = tuple((node.module or "").split("."))
        for name in node.names:
            part = unusual_part(module if name.name == "*" else (*module, name.name))
            if part:
                yield f"imports {part}"

    def _defined(self, node: ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
        if isinstance(node, ast.FunctionDef):
            if node.name in _SPECIAL_METHODS:
                yield f"defines {node.name}"
            return
        self._attributes |= {id(item) for item in node.body if isinstance(item, ast.Assign | ast.AnnAssign)}
        if any(isinstance(item, ast.Import | ast.ImportFrom) for item in node.body):
            yield "imports in the body of a class"

    def _called(self, node: ast.Call) -> Iterator[str]:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in _REFLECTION or not node.args:
            return
        self._seen.add(id(node.func))
        if constant_attribute(node) is not None:
            yield from self._chain(node)
            return
        subject = node.args[0]
        if name == "hasattr":  # asks for the version of a library
            self._seen.add(id(subject))
        elif name == "vars" and any(map(is_module, Chain(subject).paths(self._names))):
            yield "reads the names of a module"
        elif len(node.args) > 1:
            if not isinstance(node.args[1], ast.Constant):
                yield f"calls {name} with a computed name"
            elif node.args[1].value in DUNDERS | METHODS:
                yield f"calls {name} with {node.args[1].value}"

    def _chain(self, node: ast.expr) -> Iterator[str]:
        if id(node) in self._seen:
            return
        chain = Chain(node)
        self._seen |= set(map(id, chain.inner))
        paths = chain.paths(self._names)
        for name in chain.attributes:
            if name in DUNDERS or name in METHODS:
                yield f"uses {'.'.join(paths[0][:8]) if paths else name}"
        if isinstance(chain.base, ast.Name):
            yield from self._base_name(chain.base.id, has_attributes=bool(chain.attributes))
        for path in paths:
            yield from self._imported_thing(node, path, is_bare=not chain.attributes)

    def _imported_thing(self, node: ast.expr, path: tuple[str, ...], *, is_bare: bool) -> Iterator[str]:
        shown, part = ".".join(path[:8]), unusual_part(path)
        is_read = isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
        if part is not None:
            # A bare name was judged where it was imported.
            yield from [] if is_bare and len(path) == 1 else [f"uses {part}"]
        elif not is_read and not is_bare:
            yield f"changes {shown}"
        elif "__dict__" in path and is_module(path[: path.index("__dict__")]):
            yield f"reads the names of {shown}"
        elif is_read and id(node) not in self._aliases and is_module(path):
            yield f"passes on the module {shown}"

    def _base_name(self, name: str, *, has_attributes: bool) -> Iterator[str]:
        if name == "input" and name in self._parameters:  # the usual name of an argument
            return
        if name in BUILTINS | DUNDERS or (name in _REFLECTION[:3] and not has_attributes):
            yield f"uses {name}"


def _text(value: str | bytes) -> Iterator[str]:
    words = value.split() if len(value) > _LONGEST_WORD else []
    if max(map(len, words), default=0) > _LONGEST_WORD:
        yield f"contains {len(value):,} characters without a space, like packed code"
    if isinstance(value, str) and (name := _DUNDER_IN_TEXT.search(value)):
        yield f"contains the text {name[0]}"

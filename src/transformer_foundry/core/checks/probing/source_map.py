"""Source of a model: the lines of its attributes, classes, calls and forward methods."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
from torch import nn

from transformer_foundry.core.base.errors import cause_chain
from transformer_foundry.core.base.python_text import parse_python
from transformer_foundry.core.base.secrets import redact

__all__ = ["SourceFile", "SourceLine", "SourceMap", "current_frame"]

_TORCH_FOLDER = str(Path(torch.__file__).parent)
_GRADIENT_SWITCHES = ("no_grad", "inference_mode", "set_grad_enabled")


class SourceLine(NamedTuple):
    """A line of a source file; the first line has number 1."""

    path: str
    number: int


class SourceFile:
    """One Python file and its syntax tree."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.name = Path(path).name
        self.text = text
        self.lines = text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree; an empty one when the text is not valid Python."""
        try:
            return parse_python(self.text)
        except (SyntaxError, ValueError):
            return ast.Module(body=[], type_ignores=[])

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """Name -> definition of every class."""
        return {node.name: node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)}

    @cached_property
    def switches_of_gradients(self) -> list[tuple[range, int]]:
        """Lines of every block or function without gradients, and the line that says so."""
        return [
            (range(node.lineno, (node.end_lineno or node.lineno) + 1), switch.lineno)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.With | ast.FunctionDef)
            for switch in _switches(node)
            if any(name in ast.unparse(switch) for name in _GRADIENT_SWITCHES)
        ]

    def method(self, class_name: str, method: str) -> ast.FunctionDef | None:
        """Return the definition of a method, None when the class itself does not define it."""
        node = self.classes.get(class_name)
        for item in node.body if node is not None else ():
            if isinstance(item, ast.FunctionDef) and item.name == method:
                return item
        return None

    def statement_at(self, line: int) -> ast.stmt | None:
        """Return the innermost simple statement that covers ``line``."""
        found: ast.stmt | None = None
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.stmt) or not node.lineno <= line <= (node.end_lineno or node.lineno):
                continue
            if found is None or node.lineno >= found.lineno:
                found = node
        return found

    def text_of(self, number: int) -> str:
        """Return the text of line ``number``, stripped; an empty string when there is no such line."""
        return self.lines[number - 1].strip() if 0 < number <= len(self.lines) else ""


class SourceMap:
    """The files that define the classes of a model.

    Args:
        model: The model, None when it could not be built.
        model_file: ``model.py`` of an export; the files of the classes of ``model`` are added, except those of torch.
    """

    def __init__(self, model: nn.Module | None, model_file: Path | None = None) -> None:
        self.files: dict[str, SourceFile] = {}
        if model_file is not None:
            self._add(str(model_file))
        for cls in {type(module) for module in model.modules()} if model is not None else ():
            for base in cls.__mro__:
                self._add_class(base)
        self.main = next(iter(self.files.values()), SourceFile("model.py", ""))

    def _add_class(self, cls: type) -> None:
        if cls.__module__.partition(".")[0] in ("torch", "builtins"):
            return
        try:
            path = inspect.getsourcefile(cls)
        except (TypeError, OSError):
            return
        if path is not None and not path.startswith(_TORCH_FOLDER):
            self._add(path)

    def _add(self, path: str) -> None:
        if path not in self.files and Path(path).is_file():
            self.files[path] = SourceFile(path, Path(path).read_text(encoding="utf-8-sig", errors="replace"))

    def text(self, line: SourceLine | None) -> str:
        """Return the text of ``line``, stripped; an empty string when it is not in the files."""
        file = self.files.get(line.path) if line is not None else None
        return file.text_of(line.number) if file is not None and line is not None else ""

    def quoted(self, line: SourceLine | None) -> str:
        """Return ``" (in: TEXT)"`` with the beginning of ``line``, for a message; an empty string when unknown."""
        text = redact(self.text(line))
        return f" (in: {text[:100]})" if text else ""

    def caller(self, frame: FrameType | None) -> SourceLine | None:
        """Return the line of the innermost frame, from ``frame`` outwards, that runs code of the model."""
        while frame is not None:
            if frame.f_code.co_filename in self.files:
                return SourceLine(frame.f_code.co_filename, frame.f_lineno)
            frame = frame.f_back
        return None

    def gradients_off(self, frame: FrameType | None) -> SourceLine | None:
        """Return the line of the ``with`` or the decorator that switches gradients off around ``frame``."""
        while frame is not None:
            file = self.files.get(frame.f_code.co_filename)
            for lines, switch in file.switches_of_gradients if file is not None else ():
                if frame.f_lineno in lines:
                    return SourceLine(frame.f_code.co_filename, switch)
            frame = frame.f_back
        return None

    def raised_at(self, error: BaseException) -> SourceLine | None:
        """Return the line of the model that raised ``error`` or its first cause; None when no line of it did."""
        return next((line for line, _ in self.raising_calls(error)), None)

    def raising_calls(self, error: BaseException) -> list[tuple[SourceLine, object]]:
        """Return (line, self) of the calls that led to the first cause of ``error``, the innermost first."""
        found: list[tuple[SourceLine, object]] = []
        for item in cause_chain(error):
            frames, trace = [], item.__traceback__
            while trace is not None:
                path = trace.tb_frame.f_code.co_filename
                if path in self.files:
                    frames.append((SourceLine(path, trace.tb_lineno), trace.tb_frame.f_locals.get("self")))
                trace = trace.tb_next
            found = frames[::-1] or found
        return found

    def class_file(self, cls: type) -> SourceFile | None:
        """Return the file that defines ``cls``."""
        for file in self.files.values():
            if cls.__name__ in file.classes and _defines(file, cls):
                return file
        return None

    def class_line(self, cls: type, method: str | None = None) -> SourceLine | None:
        """Return the line of a class, or of its method when ``method`` is given, in the class or its bases."""
        for base in cls.__mro__:
            file = self.class_file(base)
            if file is None:
                continue
            node = file.method(base.__name__, method) if method else file.classes[base.__name__]
            if node is not None:
                return SourceLine(file.path, node.lineno)
        return None

    def attribute_line(self, owner: type, attribute: str) -> SourceLine | None:
        """Return the line that sets ``self.attribute`` in ``owner`` or its bases."""
        for base in owner.__mro__:
            file = self.class_file(base)
            if file is None:
                continue
            for node in ast.walk(file.classes[base.__name__]):
                if attribute in _attributes_set(node):
                    return SourceLine(file.path, getattr(node, "lineno", 1))
        return None

    def call_line(self, names: set[str]) -> SourceLine | None:
        """Return the first line that calls a function or method in ``names``."""
        for file in self.files.values():
            for node in ast.walk(file.tree):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    if name in names:
                        return SourceLine(file.path, node.lineno)
        return None


def current_frame(depth: int = 1) -> FrameType:
    """Return the frame ``depth`` levels above the caller."""
    return sys._getframe(depth + 1)


def _switches(node: ast.With | ast.FunctionDef) -> list[ast.expr]:
    return [item.context_expr for item in node.items] if isinstance(node, ast.With) else node.decorator_list


def _defines(file: SourceFile, cls: type) -> bool:
    module = sys.modules.get(cls.__module__)
    path = getattr(module, "__file__", None)
    if path is None:
        forward = cls.__dict__.get("forward") or cls.__dict__.get("__init__")
        path = getattr(getattr(forward, "__code__", None), "co_filename", None)
    return path is None or path == file.path


def _attributes_set(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Assign):
        targets: list[ast.expr] = []
        for target in node.targets:
            targets += target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        return {target.attr for target in targets if _is_self(target)}  # type: ignore[attr-defined]
    if isinstance(node, ast.AnnAssign) and _is_self(node.target):
        return {node.target.attr}  # type: ignore[union-attr]
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in (
        "register_buffer",
        "register_parameter",
        "add_module",
    ):
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            return {first.value}
    return set()


def _is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"

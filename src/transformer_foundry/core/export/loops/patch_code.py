"""Give functions rewritten code while a capture lasts: loops over time, paddings to a multiple.

A capture follows the model's Python code, and a loop over a dynamic size would fix that size. Running the model shows
which functions it calls. Those with a loop, or with the padding ``m - n % m``, are compiled again from their source,
with calls of ``runtime`` in place of the loops. The result is verified like any other file.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import inspect
import sys
from collections.abc import Callable, Collection, Iterator
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch

from transformer_foundry.core.export.loops.rewriter import Rewriter
from transformer_foundry.core.export.loops.syntax import PREFIX

__all__ = ["called_code", "rewritten"]

_TORCH_FOLDER = torch.__path__[0]
_RUNTIME = "transformer_foundry.core.export.loops.runtime"


def called_code(run: Callable[[], Any]) -> set[CodeType]:
    """Return the code of the functions outside torch that ``run()`` calls."""
    found: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            found.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        # A profiler written in C cannot be restored from here.
        sys.setprofile(before if callable(before) else None)
    return {
        code for code in found if not code.co_filename.startswith((_TORCH_FOLDER, "<")) and code.co_name.isidentifier()
    }


@contextlib.contextmanager
def rewritten(codes: set[CodeType]) -> Iterator[int]:
    """Give the functions with one of ``codes`` their rewritten code while the block lasts; yields how many."""
    exchanged = {code: new for code in codes if (new := _recompiled(code)) is not None}
    before = [(function, function.__code__) for function in _functions_of(exchanged)]
    try:
        for function, code in before:
            function.__code__ = exchanged[code]
        yield len(before)
    finally:
        for function, code in before:
            function.__code__ = code


def _functions_of(codes: Collection[CodeType]) -> list[FunctionType]:
    # gc.get_referrers does not search frozen objects.
    is_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    found = gc.get_referrers(*codes) if codes else []
    if is_frozen:
        gc.freeze()
    return [item for item in found if isinstance(item, FunctionType) and item.__code__ in codes]


def _recompiled(code: CodeType) -> CodeType | None:
    """Return the rewritten code, None if there is nothing to rewrite or no source."""
    try:
        source = inspect.getsource(code)
        # A method is indented, its docstring perhaps not, so that dedenting would fail.
        tree = ast.parse(f"if True:\n{source}" if source[:1].isspace() else source)
    except (OSError, SyntaxError, ValueError):
        return None
    statement = tree.body[0] if tree.body else None
    function = statement.body[0] if isinstance(statement, ast.If) else statement
    # Branches are recorded by file and line.
    ast.increment_lineno(tree, code.co_firstlineno - (2 if isinstance(statement, ast.If) else 1))
    # Outside of its class, a private name (__x) would mean another attribute.
    if not isinstance(function, ast.FunctionDef) or any(_is_mangled(node) for node in ast.walk(function)):
        return None
    rewriter = Rewriter(function)
    changed = rewriter.changed_function()
    if changed is None:
        return None
    changed.decorator_list = []
    changed.body.insert(0, ast.parse(f"import {_RUNTIME} as {PREFIX}").body[0])
    outer = ast.parse(f"def outer({', '.join(code.co_freevars)}):\n    pass")
    holder = outer.body[0]
    assert isinstance(holder, ast.FunctionDef)
    holder.body = [changed]
    made = compile(ast.fix_missing_locations(outer), code.co_filename, "exec")
    new = _inner(_inner(made, "outer"), code.co_name)
    return new if new.co_freevars == code.co_freevars else None


def _inner(code: CodeType, name: str) -> CodeType:
    return next(item for item in code.co_consts if isinstance(item, CodeType) and item.co_name == name)


def _is_mangled(node: ast.AST) -> bool:
    name = getattr(node, "attr", None) or getattr(node, "id", "")
    return isinstance(name, str) and name.startswith("__") and not name.endswith("__")

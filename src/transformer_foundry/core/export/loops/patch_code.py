"""Code that a graph cannot hold, rewritten for the time of a capture: loops over time, paddings to a multiple.

A capture follows the model's Python code, and a loop over a size that may vary would fix that size. The functions that
a model runs are found by running it; those that hold a loop, or the padding ``m - n % m``, are compiled again from
their source with the loop as a call of ``loops``, and have that code while a capture lasts. What comes of it is
verified like everything else.
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

__all__ = ["called_code", "rewritten"]

_TORCH_FOLDER = torch.__path__[0]
_RUNTIME = "transformer_foundry.core.export.loops.scan"


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
        # A profiler written in C cannot be set again from here.
        sys.setprofile(before if callable(before) else None)
    return {
        code for code in found if not code.co_filename.startswith((_TORCH_FOLDER, "<")) and code.co_name.isidentifier()
    }


@contextlib.contextmanager
def rewritten(codes: set[CodeType]) -> Iterator[int]:
    """Give the functions that have one of ``codes`` their rewritten code while the block lasts; yields how many."""
    exchanged = {code: new for code in codes if (new := _compiled_again(code)) is not None}
    before = [(function, function.__code__) for function in _functions_of(exchanged)]
    try:
        for function, code in before:
            function.__code__ = exchanged[code]
        yield len(before)
    finally:
        for function, code in before:
            function.__code__ = code


def _functions_of(codes: Collection[CodeType]) -> list[FunctionType]:
    # What is frozen is not looked through.
    is_frozen = gc.get_freeze_count() > 0
    gc.unfreeze()
    found = gc.get_referrers(*codes) if codes else []
    if is_frozen:
        gc.freeze()
    return [item for item in found if isinstance(item, FunctionType) and item.__code__ in codes]


def _compiled_again(code: CodeType) -> CodeType | None:
    """Return the rewritten code, None where there is nothing to rewrite or no source."""
    try:
        source = inspect.getsource(code)
        # A method is indented; what a docstring holds may be less so.
        tree = ast.parse(f"if True:\n{source}" if source[:1].isspace() else source)
    except (OSError, SyntaxError, ValueError):
        return None
    statement = tree.body[0] if tree.body else None
    function = statement.body[0] if isinstance(statement, ast.If) else statement
    # Places in the code are known by their lines.
    ast.increment_lineno(tree, code.co_firstlineno - (2 if isinstance(statement, ast.If) else 1))
    # A private name of a class means another one outside of it.
    if not isinstance(function, ast.FunctionDef) or any(_is_mangled(node) for node in ast.walk(function)):
        return None
    rewriter = Rewriter(function)
    changed = rewriter.changed_function()
    if changed is None:
        return None
    changed.decorator_list = []
    changed.body.insert(0, ast.parse(f"import {_RUNTIME} as {Rewriter.RUNTIME}").body[0])
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

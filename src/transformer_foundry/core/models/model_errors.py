"""Turn exceptions of a model's code into errors that name the line and say what to do."""

from __future__ import annotations

import ast
import inspect
import linecache
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformer_foundry.core.base.errors import FoundryError, ModelError
from transformer_foundry.core.models.error_meanings import explain

__all__ = ["argument_line", "constructor", "explain_failure", "running_model_code"]

MAX_MESSAGE_CHARACTERS = 240


@contextmanager
def running_model_code(expected: str, model_file: str | Path | None) -> Iterator[None]:
    """Run code of an export; its exceptions become a ``ModelError`` that names the line.

    Args:
        expected: What the code should do, as the end of the sentence "Expected ...".
        model_file: The file whose line is named; None names the innermost line of any file.

    Raises:
        ModelError: For any exception of the code.
    """
    try:
        yield
    except FoundryError:
        raise
    except (Exception, SystemExit) as err:  # a model's code may raise anything; SystemExit must not end Foundry
        raise explain_failure(err, expected, model_file) from err


def explain_failure(error: BaseException, expected: str, model_file: str | Path | None) -> ModelError:
    """Return the ``ModelError`` that names the line in ``model_file`` that raised ``error``, and says what to do."""
    place = _place(error, model_file)
    message = " ".join(str(error).split())[:MAX_MESSAGE_CHARACTERS].rstrip()
    fix = explain(error).fix
    problem = f"{place}{type(error).__name__}: {message}" if message else f"{place}{type(error).__name__}"
    return ModelError(f"{problem.rstrip('.')}.", f"Expected {expected}.", f"{fix[:1].upper()}{fix[1:]}.")


def argument_line(function: Callable[..., Any], name: str) -> str:
    """Return ``"model.py line 25"`` for the argument ``name`` of ``function``, or ``name`` if it has no source."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return name
    line = code.co_firstlineno
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:
        tree = ast.Module([], [])
    found = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg == name]
    return f"{Path(code.co_filename).name} line {min((at for at in found if at >= line), default=line)}"


def constructor(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that runs when ``target``, a class or a function, is called."""
    return inspect.getattr_static(target, "__init__") if isinstance(target, type) else target


def _place(error: BaseException, model_file: str | Path | None) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.lineno is not None]
    in_file = [frame for frame in frames if frame.filename == str(model_file)]
    if not frames:
        return ""
    frame = (in_file or frames)[-1]
    assert frame.lineno is not None
    line = linecache.getline(frame.filename, frame.lineno).strip()
    shown = f" ({line[:100]})" if line else ""
    return f"{Path(frame.filename).name} line {frame.lineno}{shown}: "

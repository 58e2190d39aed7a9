"""Turn exceptions of a model's code into errors that name the line and say what to do."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch

from transformer_foundry.core.base.errors import FoundryError, ModelError, error_message
from transformer_foundry.core.base.python_text import parse_python
from transformer_foundry.core.base.secrets import redact
from transformer_foundry.core.models.error_meanings import explain
from transformer_foundry.core.models.source.cache import MODEL_FILE

__all__ = [
    "argument_line",
    "constructor",
    "explain_failure",
    "raising_line",
    "running_model_code",
    "train_with_model_code",
]

ResultT = TypeVar("ResultT")

MAX_MESSAGE_CHARACTERS = 240
_TORCH_FOLDER = str(Path(torch.__file__).parent)


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


def train_with_model_code(
    work: Callable[[], ResultT], expected: str, model_file: str | None, *, only_of_model: bool = False
) -> ResultT:
    """Return the result of ``work``; exceptions of its forward and backward passes name a line of ``model_file``.

    A backward pass runs no line of the model: torch's anomaly mode finds the line whose gradient fails, in a second
    call of ``work``.

    Args:
        work: What is done with the model.
        expected: What it should do, as the end of the sentence "Expected ...".
        model_file: The file whose line is named.
        only_of_model: Whether exceptions that concern no line of ``model_file`` stay what they are.

    Raises:
        ModelError: For any exception of ``work``.
    """
    try:
        return work()
    except FoundryError:
        raise
    except (Exception, SystemExit) as err:
        line = None
        if model_file is not None and not _is_raised_in(err, model_file):
            line = _differentiated_line(work, model_file)
        if only_of_model and line is None and not _is_raised_in(err, model_file):
            raise
        raise explain_failure(err, expected, model_file, line) from err


def explain_failure(
    error: BaseException, expected: str, model_file: str | Path | None, line: int | None = None
) -> ModelError:
    """Return the ``ModelError`` that names the line in ``model_file`` that raised ``error``, and says what to do.

    Args:
        error: What was raised.
        expected: What the code should do, as the end of the sentence "Expected ...".
        model_file: The file whose line is named; None names the innermost line of any file.
        line: The line of ``model_file`` that is to be named, if another than the traceback has.
    """
    place = _place(error, model_file) if line is None else _shown_line(str(model_file), line)
    message = error_message(error, MAX_MESSAGE_CHARACTERS)
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
        tree = parse_python("".join(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError):
        tree = ast.Module([], [])
    found = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg == name]
    return f"{Path(code.co_filename).name} line {min((at for at in found if at >= line), default=line)}"


def constructor(target: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that runs when ``target``, a class or a function, is called."""
    return inspect.getattr_static(target, "__init__") if isinstance(target, type) else target


def raising_line(error: BaseException) -> str:
    """Return ``"model.py line 25 (CODE): "`` of the innermost line outside torch that was running."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.lineno is not None and not frame.filename.startswith(_TORCH_FOLDER)
    ]
    return _shown_line(frames[-1].filename, frames[-1].lineno or 1) if frames else ""


def _place(error: BaseException, model_file: str | Path | None) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.lineno is not None]
    in_file = [frame for frame in frames if _is_of_model(frame.filename, model_file)]
    if not frames:
        return ""
    frame = (in_file or frames)[-1]
    assert frame.lineno is not None
    return _shown_line(frame.filename, frame.lineno)


def _shown_line(file: str, number: int) -> str:
    line = redact(linecache.getline(file, number)).strip()
    shown = f" ({line[:100]})" if line else ""
    return f"{Path(file).name} line {number}{shown}: "


def _is_raised_in(error: BaseException, file: str | None) -> bool:
    return any(_is_of_model(frame.filename, file) for frame in traceback.extract_tb(error.__traceback__))


def _is_of_model(file: str, model_file: str | Path | None) -> bool:
    """Return whether ``file`` is ``model_file``, or a module beside the ``model.py`` of an export."""
    if model_file is None or Path(model_file).name != MODEL_FILE:
        return file == str(model_file)
    return Path(file).is_relative_to(Path(model_file).parent)


def _differentiated_line(work: Callable[[], object], file: str) -> int | None:
    """Return the line of ``file`` that computed what a backward pass in ``work`` cannot differentiate."""
    with warnings.catch_warnings(record=True) as caught, torch.autograd.set_detect_anomaly(True):
        warnings.simplefilter("always")
        with suppress(Exception):
            work()
    text = "".join(str(item.message) for item in caught)
    lines = re.findall(rf'File "{re.escape(file)}", line (\d+)', text)
    return int(lines[-1]) if lines else None

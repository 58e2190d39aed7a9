"""Turn what goes wrong inside somebody's ``model.py`` into an error that names the line and says what to do."""

from __future__ import annotations

import ast
import inspect
import linecache
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformer_foundry.core.errors import ExportError, FoundryError

__all__ = ["argument_line", "explain_failure", "running_model_code"]

MAX_MESSAGE_CHARACTERS = 240


@contextmanager
def running_model_code(doing: str, model_file: str | Path | None) -> Iterator[None]:
    """Run code of an export; what it raises becomes an ``ExportError`` that names its line.

    Args:
        doing: What Foundry was doing, as the end of the sentence "This happened while ...".
        model_file: The file whose lines are meant; the innermost line anywhere when None.

    Raises:
        ExportError: For whatever the code raised.
    """
    try:
        yield
    except FoundryError:
        raise
    # The code is somebody else's: it may raise anything, and SystemExit must not end Foundry.
    except (Exception, SystemExit) as err:
        raise explain_failure(err, doing, model_file) from err


def explain_failure(error: BaseException, doing: str, model_file: str | Path | None) -> ExportError:
    """Return the ``ExportError`` that says where in ``model_file`` ``error`` came from, and what to do."""
    place = _place(error, model_file)
    message = " ".join(str(error).split())[:MAX_MESSAGE_CHARACTERS].rstrip()
    problem = f"{place}{type(error).__name__}: {message}" if message else f"{place}{type(error).__name__}"
    return ExportError(f"{problem.rstrip('.')}.", f"This happened while {doing}.", _remedy(error))


def argument_line(function: Callable[..., Any], name: str) -> str:
    """Return ``"model.py line 25"`` for the argument ``name`` of ``function``, or ``"forward"`` if it has no source."""
    function = inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    if code is None:
        return "forward"
    line = code.co_firstlineno
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(inspect.cleandoc("\n" + "".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return f"{Path(code.co_filename).name} line {line}"
    found = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.arg) and node.arg == name]
    return f"{Path(code.co_filename).name} line {first + min(found) - 1 if found else line}"


def _place(error: BaseException, model_file: str | Path | None) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.lineno is not None]
    own = [frame for frame in frames if frame.filename == str(model_file)]
    if not frames:
        return ""
    frame = (own or frames)[-1]
    assert frame.lineno is not None
    line = linecache.getline(frame.filename, frame.lineno).strip()
    shown = f" ({line[:100]})" if line else ""
    return f"{Path(frame.filename).name} line {frame.lineno}{shown}: "


def _remedy(error: BaseException) -> str:
    message = str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"Install '{error.name}', or export a model that needs only torch."
    if isinstance(error, NameError):
        return "Connect the block that computes this value in Transformer Builder, and export again."
    if isinstance(error, MemoryError) or "allocate" in message:
        return "Make the sizes in config.json smaller (vocab_size, d_model, num_layers, max_seq_len)."
    if "CUDA" in message or "cuda" in message:
        return "Remove .cuda() and device='cuda' from that line: Foundry chooses the device."
    return "Correct that line or the block it comes from in Transformer Builder, and export again."

"""Check ``model.py`` without running it: whether it parses and defines a model, and which names are undefined."""

from __future__ import annotations

import ast
import builtins
import symtable
from dataclasses import dataclass

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.python_text import CodeTooLargeError, parse_python

__all__ = ["UndefinedName", "parse_model_code", "undefined_names"]

# The interpreter defines these in every module.
MODULE_NAMES = frozenset(("__file__", "__name__", "__doc__", "__builtins__", "__spec__", "__package__", "__path__"))


@dataclass(frozen=True)
class UndefinedName:
    """A name that is read but not defined.

    Attributes:
        name: The name.
        line: First line that reads it.
        function: The function that reads it.
    """

    name: str
    line: int
    function: str


def parse_model_code(code: str, file_name: str = "model.py") -> ast.Module:
    """Parse ``code`` without running it.

    Raises:
        ModelError: If it is no valid Python, with the line, or defines neither a class nor a function.
    """
    try:
        tree = parse_python(code, file_name)
    except SyntaxError as err:
        shown = f" ({err.text.strip()[:100]})" if err.text and err.text.strip() else ""
        raise ModelError(
            f"{file_name} line {err.lineno}{shown} is not valid Python: {err.msg}.",
            f"Expected Python code that defines a torch.nn.Module; the file has {len(code.splitlines())} lines.",
            "Correct that line.",
        ) from err
    except CodeTooLargeError as err:
        raise ModelError(
            f"{file_name} cannot be read as Python: {err}.",
            "Expected code of a model as people write it; what is larger could take the memory of this machine.",
            f"Move data out of {file_name}, or split it into modules beside it.",
        ) from err
    except (ValueError, RecursionError, MemoryError) as err:
        raise ModelError(
            f"{file_name} cannot be read as Python: {err}.",
            "Expected the text of a Python module.",
            "Save model.py as the text of a Python module.",
        ) from err
    if not any(isinstance(node, ast.ClassDef | ast.FunctionDef | ast.ImportFrom) for node in ast.walk(tree)):
        raise ModelError(
            f"{file_name} defines no class ({len(code.splitlines())} lines).",
            "Expected a class that derives from torch.nn.Module.",
            "Write the class of the model into model.py, or import it there from a module beside it.",
        )
    return tree


def undefined_names(code: str, file_name: str = "model.py") -> list[UndefinedName]:
    """Return the undefined names that functions of ``code`` read, ordered by line.

    This explains failures; it does not prove one, since the code that reads such a name may never run.

    Example:
        >>> undefined_names("def f(x):\\n    return y\\n")
        [UndefinedName(name='y', line=2, function='f')]
    """
    tree = parse_python(code, file_name)
    if any(alias.name == "*" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names):
        return []
    table = symtable.symtable(code, file_name, "exec")
    known = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    known |= {child.get_name() for child in table.get_children()} | set(dir(builtins)) | MODULE_NAMES
    known |= {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    missing = {(name, function, first) for name, function, first in _global_reads(table) if name not in known}
    lines = {(name, function, first): _line_of(tree, name, first) for name, function, first in missing}
    found = [UndefinedName(name, line, function) for (name, function, _), line in lines.items()]
    return sorted(found, key=lambda item: (item.line, item.name))


def _global_reads(table: symtable.SymbolTable) -> list[tuple[str, str, int]]:
    """Return (name, function, line of the function) for the global names that functions read."""
    reads: list[tuple[str, str, int]] = []
    for child in table.get_children():
        if child.get_type() == "function":
            reads += [
                (symbol.get_name(), child.get_name(), child.get_lineno())
                for symbol in child.get_symbols()
                if symbol.is_global() and symbol.is_referenced()
            ]
        reads += _global_reads(child)
    return reads


def _line_of(tree: ast.Module, name: str, first: int) -> int:
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load) and node.lineno >= first
    ]
    return min(lines, default=first)

"""Modules beside ``model.py`` that it imports: which ones they are, and imports of them within the export."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.python_text import parse_python
from transformer_foundry.core.models.source.cache import MODEL_FILE

__all__ = ["LIBRARIES", "collect_support", "module_name", "redirect_imports"]

MAX_MODULES = 64
MAX_TOTAL_BYTES = 2 * 2**20
"""Of all modules together: four times what one may have, whose parsing takes up to 2 s and 750 MiB."""
MAX_FILES_TRIED = 2**16
"""Files that imports may mean: each may be looked for on the disk."""
MAX_LEVELS, MAX_NAME_LENGTH = 16, 1024
"""Of a module beside ``model.py``; a longer name is that of none."""
LIBRARIES = frozenset(("torch", "numpy", "transformers", "einops", "tokenizers", "safetensors"))
"""Names that always mean the library; so do those of the standard library."""

MAIN = PurePosixPath(MODEL_FILE).stem


def collect_support(code: bytes, read: Callable[[str], bytes | None]) -> dict[str, bytes]:
    """Return the files that ``code``, the text of ``model.py``, imports, directly or not: name -> content.

    Args:
        code: The text of ``model.py``.
        read: Returns the content of a file by its path relative to ``model.py``, with ``/``; None if there is none.

    Raises:
        ModelError: If there are more than ``MAX_MODULES``, they have more than ``MAX_TOTAL_BYTES`` together, or import
            more names than code that is written does.
    """
    found: dict[str, bytes] = {}
    tried = {MODEL_FILE}
    waiting = [("", code)]
    count, total = 0, len(code)
    while waiting:
        package, text = waiting.pop()
        for name in _imported_names(text, package):
            for file in _files_of(name):
                count += 1
                if count > MAX_FILES_TRIED:
                    raise _too_much(f"more than {MAX_FILES_TRIED // 2:,} names")
                content = None if file in tried else read(file)
                tried.add(file)
                if content is None:
                    continue
                found[file] = content
                total += len(content)
                if len(found) > MAX_MODULES:
                    raise _too_much(f"more than {MAX_MODULES} modules beside it")
                if total > MAX_TOTAL_BYTES:
                    raise _too_much(f"modules with more than {MAX_TOTAL_BYTES // 2**20} MiB together")
                waiting.append((_package_of(file), content))
    return dict(sorted(found.items()))


def _too_much(what: str) -> ModelError:
    return ModelError(
        f"model.py imports {what}.",
        "Expected the code of one model.",
        "Copy what the model needs into fewer and smaller files.",
    )


def module_name(file: str) -> str:
    """Return the dotted name of a file.

    Example:
        >>> module_name("layers/__init__.py"), module_name("layers/block.py")
        ('layers', 'layers.block')
    """
    parts = PurePosixPath(file).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def redirect_imports(tree: ast.Module, modules: Mapping[str, str], package: str) -> ast.Module:
    """Let ``tree`` import ``modules`` from ``package``, where they cannot replace a library of the same name.

    Args:
        tree: The parsed code of one file; it is changed.
        modules: Dotted names of the modules of the export.
        package: The name under which the export is imported; ``model`` means the package itself.
    """
    _Redirection(modules, package).visit(tree)
    return ast.fix_missing_locations(tree)


class _Redirection(ast.NodeTransformer):
    def __init__(self, modules: Mapping[str, str], package: str) -> None:
        self._modules, self._package = modules, package

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.level == 0 and node.module is not None and self._is_own(node.module):
            node.module = self._own_name(node.module)
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for alias in node.names:
            names = [alias]
            if self._is_own(alias.name):
                names = [ast.alias(self._own_name(alias.name), alias.asname or alias.name.replace(".", "__"))]
                if alias.asname is None and "." in alias.name:
                    # "import a.b" binds a.
                    first = alias.name.partition(".")[0]
                    names.append(ast.alias(self._own_name(first), first))
            statements.append(ast.copy_location(ast.Import(names), node))
        return statements

    def _is_own(self, name: str) -> bool:
        first = name.partition(".")[0]
        return name == MAIN or any(own == first or own.startswith(f"{first}.") for own in self._modules)

    def _own_name(self, name: str) -> str:
        return self._package if name == MAIN else f"{self._package}.{name}"


def _imported_names(code: bytes, package: str) -> Iterator[str]:
    """Yield the dotted names that ``code`` may import from beside ``model.py``."""
    try:
        tree = parse_python(code.decode("utf-8-sig"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # reported when it is imported
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _may_be_own(alias.name))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                if node.level - 1 > len(parts):
                    continue
                kept = parts[: len(parts) - (node.level - 1)]
                base = ".".join([*kept, *([base] if base else [])])
            elif not _may_be_own(base):
                continue
            if len(base) > MAX_NAME_LENGTH:
                continue
            if base:
                yield base
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _may_be_own(name: str) -> bool:
    first = name.partition(".")[0]
    return first not in LIBRARIES and first not in sys.stdlib_module_names


def _files_of(name: str) -> Iterator[str]:
    """Yield the files that an import of ``name`` runs, if they exist: those of the packages above it too."""
    parts = [part for part in name.split(".") if part.isidentifier()] if len(name) <= MAX_NAME_LENGTH else []
    if len(parts) > MAX_LEVELS:
        return
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        yield f"{path}.py"
        yield f"{path}/__init__.py"


def _package_of(file: str) -> str:
    return ".".join(PurePosixPath(file).parts[:-1])

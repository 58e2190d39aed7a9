"""Structure of the package, read from its source: ``python -m tests.architecture`` prints what the tests require.

Imports count wherever they stand, inside functions too; those under ``if TYPE_CHECKING`` do not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src"
PACKAGE = SOURCE / "transformer_foundry"
NAME = PACKAGE.name
DOCUMENT = PROJECT / "docs" / "architecture.md"

LAYERS = (
    ("core.base",),
    ("core.files", "core.system"),
    ("core.models",),
    ("core.data",),
    ("core.checks", "core.evaluation"),
    ("core.training",),
    ("core.export", "core.studies"),
    ("core.publishing",),
    ("core.reports",),
    ("config", "console"),
    ("datasets", "pipelines"),
    ("hooks",),
    ("cli", "notebook"),
    ("pipeline_registry", "settings"),
    ("__main__",),
)
"""Parts of the package from the lowest layer to the highest: a part imports itself and lower layers only."""

FORBIDDEN = {"pipelines": ("hooks", "datasets"), "datasets": ("pipelines", "hooks"), "hooks": ("pipelines",)}
"""What a part may not reach, not even through other modules."""

MOST_ENTRIES = 12
MOST_ENTRIES_AT_THE_TOP = 10
LONGEST_PATHS = {"One optimizer step": 6, "One checkpoint": 8, "One exported file": 8}
"""Heading in ``docs/architecture.md`` -> how many files a reader may have to open for it."""

Graph = Mapping[str, frozenset[str]]


@cache
def modules() -> Mapping[str, Path]:
    """Return the modules by dotted name below the package; ``""`` is the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found["" if name == "__init__" else name.removesuffix(".__init__")] = path
    return found


@cache
def facades() -> Mapping[str, Mapping[str, str]]:
    """Return, for each package that exports lazily, its public names and the module that defines each."""
    found = {}
    for name, path in modules().items():
        if path.name == "__init__.py" and "lazy_exports(__name__)" in path.read_text(encoding="utf-8"):
            blocks = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if _is_type_checking(node)]
            typed = [node for block in blocks for node in ast.walk(block) if isinstance(node, ast.ImportFrom)]
            found[name] = {alias.name: _below(node.module or "") for node in typed for alias in node.names}
    return found


@cache
def graph() -> Graph:
    """Return the modules of the package that each module imports; a name of a facade counts for its module."""
    return {name: frozenset(_imported(ast.parse(path.read_text(encoding="utf-8")))) for name, path in modules().items()}


def external_imports(path: Path) -> list[str]:
    """Return the dotted names that the module at ``path`` imports anywhere, of this package and of others."""
    return _names(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def top_level_imports(path: Path) -> list[str]:
    """Return the dotted names that importing the module at ``path`` imports by statements of its own."""
    return _names(ast.parse(path.read_text(encoding="utf-8")).body)


def _names(nodes: Iterable[ast.AST]) -> list[str]:
    names = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def circles(of: Graph) -> list[list[str]]:
    """Return the groups of nodes that reach each other (strongly connected components, Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for other in of.get(node, ()):
            if other not in index:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == index[node]:
            position = stack.index(node)
            group = stack[position:]
            del stack[position:]
            if len(group) > 1:
                found.append(sorted(group))

    for node in of:
        if node not in index:
            visit(node)
    return found


def folder_circles() -> list[list[str]]:
    """Return the circles between sibling folders; a folder and the one that holds it may use each other."""
    found = []
    for parent in sorted({name.rpartition(".")[0] for name, path in modules().items() if path.name == "__init__.py"}):
        siblings: dict[str, set[str]] = {}
        for name, targets in graph().items():
            own = _child(name, parent)
            others = {child for child in (_child(target, parent) for target in targets) if child}
            if own:
                siblings.setdefault(own, set()).update(others - {own})
        found += circles({name: frozenset(targets) for name, targets in siblings.items()})
    return found


def upward_imports() -> list[str]:
    """Return the imports that lead to a higher layer, or to another part of the same one."""
    ranks = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}
    found = []
    for name, targets in graph().items():
        for target in sorted(targets):
            source, goal = _part(name), _part(target)
            if source and goal and source != goal and ranks[goal] >= ranks[source]:
                found.append(f"{name} -> {target}")
    return found


def forbidden_paths() -> list[str]:
    """Return the chains of imports that lead from a part to one that it may not reach."""
    found = []
    for name in graph():
        for target, chain in _reached(name).items():
            if _part(target) in FORBIDDEN.get(_part(name), ()):
                found.append(" -> ".join(chain))
    return found


def crowded_folders() -> dict[str, int]:
    """Return the folders with more entries than a reader takes in at a glance."""
    sizes = {folder: len(entries(folder)) for folder in {path.parent for path in modules().values()}}
    return {
        folder.relative_to(SOURCE).as_posix(): size
        for folder, size in sorted(sizes.items())
        if size > (MOST_ENTRIES_AT_THE_TOP if folder == PACKAGE else MOST_ENTRIES)
    }


def entries(folder: Path) -> list[str]:
    """Return the modules and folders in ``folder``, without ``__init__``, ``__main__`` and ``py.typed``."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if not path.name.startswith("__") and path.name != "py.typed" and not _is_left_over(path)
    )


def _is_left_over(path: Path) -> bool:
    """Return whether a folder holds compiled modules only: git does not delete those of a folder that was renamed."""
    return path.is_dir() and all(file.suffix == ".pyc" for file in path.rglob("*") if file.is_file())


def reading_paths() -> dict[str, list[str]]:
    """Return the files that ``docs/architecture.md`` lists under each heading of ``LONGEST_PATHS``."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return {
        heading: re.findall(r"^\d+\. `([\w/]+\.py)`", section, flags=re.MULTILINE)
        for heading in LONGEST_PATHS
        for section in re.findall(rf"^### {heading}\n(.*?)(?=^##|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    }


def _imported(tree: ast.Module) -> Iterator[str]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if _is_type_checking(node):
            waiting += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == NAME and not node.level:
            yield from (_definer(_below(node.module or ""), alias.name) for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def _definer(module: str, name: str) -> str:
    full = f"{module}.{name}".lstrip(".")
    return full if full in modules() else facades().get(module, {}).get(name, module)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _below(module: str) -> str:
    return module.removeprefix(NAME).removeprefix(".")


def _part(name: str) -> str:
    steps = name.split(".")
    return ".".join(steps[: 2 if steps[0] == "core" else 1]) if name not in ("", "core") else ""


def _child(name: str, parent: str) -> str | None:
    """Return the folder below ``parent`` that holds ``name``; None for what lies elsewhere or directly in it."""
    inside = name[len(parent) :].lstrip(".") if not parent or name.startswith(f"{parent}.") else ""
    first = inside.split(".")[0]
    folder = f"{parent}.{first}".lstrip(".")
    return folder if first and modules().get(folder, Path()).name == "__init__.py" else None


@cache
def _reached(start: str) -> Mapping[str, tuple[str, ...]]:
    """Return every module that ``start`` reaches, with the chain of imports that leads to it."""
    chains: dict[str, tuple[str, ...]] = {start: (start,)}
    waiting = [start]
    while waiting:
        name = waiting.pop(0)
        for target in sorted(graph().get(name, ())):
            if target not in chains:
                chains[target] = (*chains[name], target)
                waiting.append(target)
    return chains


def report() -> str:
    """Return the figures as text."""
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values())
    largest = max({path.parent for path in modules().values()} - {PACKAGE}, key=lambda folder: len(entries(folder)))
    rows = [
        ("modules", f"{len(modules())}, {lines} lines"),
        (f"entries at the top (at most {MOST_ENTRIES_AT_THE_TOP})", str(len(entries(PACKAGE)))),
        (
            f"entries of a folder (at most {MOST_ENTRIES})",
            f"{len(entries(largest))} in {largest.relative_to(PACKAGE).as_posix()}",
        ),
        ("circles of modules", str(len(circles(graph())))),
        ("circles of sibling folders", str(len(folder_circles()))),
        ("imports of a higher layer", str(len(upward_imports()))),
        ("forbidden parts reached", str(len(forbidden_paths()))),
        ("facades", f"{len(facades())}, {sum(map(len, facades().values()))} public names"),
    ]
    rows += [
        (f"{heading}: files (at most {LONGEST_PATHS[heading]})", str(len(files)))
        for heading, files in reading_paths().items()
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in rows)


if __name__ == "__main__":
    print(report())

"""Extract the sentences that a program prints from its source, with a word in capitals for each value."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SOURCES", "Call", "calls", "render"]

SOURCES = Path(__file__).resolve().parents[2] / "src" / "transformer_foundry"
UNKNOWN = "…"
ALTERNATIVE = " / "
# Variables that hold a part of a sentence, not a value.
_PARTS = frozenset({
    "also", "cause", "consequence", "expected", "explanation", "fix", "hint", "later", "message", "meta", "mode",
    "more", "origin", "others", "problem", "remedy", "shown", "text", "verb", "what", "when", "why",
})  # fmt: skip
_MOST_ALTERNATIVES = 3

Names = Mapping[str, list[ast.expr]]


@dataclass(frozen=True)
class Call:
    """A call of a class or function by its unqualified name.

    Attributes:
        name: Name of the class or function.
        function: Name of the top-level function that contains the call.
        path: Module, relative to the package.
        line: Line of the call.
        arguments: The positional arguments as text.
    """

    name: str
    function: str
    path: Path
    line: int
    arguments: tuple[str, ...]


def calls(path: Path, names: frozenset[str]) -> Iterator[Call]:
    """Yield the calls of ``names`` in the module at ``path``, from top to bottom."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    constants = _assigned(tree.body)
    for statement in tree.body:
        known = constants | _assigned(ast.walk(statement)) if not isinstance(statement, ast.Assign) else constants
        found = [
            node
            for node in ast.walk(statement)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
        ]
        for node in sorted(found, key=lambda item: item.lineno):
            assert isinstance(node.func, ast.Name)
            arguments = tuple(render(argument, known) for argument in node.args)
            function = getattr(statement, "name", "")
            yield Call(node.func.id, function, path.relative_to(SOURCES), node.lineno, arguments)


def render(node: ast.expr, names: Names) -> str:
    """Return the text of ``node``; values become words in capitals, unknown text becomes ``…``."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_part(part) for part in parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return render(left, names) + render(right, names)
        case ast.IfExp(body=body, orelse=otherwise):
            return _either([render(body, names), render(otherwise, names)])
        case ast.Name(id=name) if name in names:
            others = {key: values for key, values in names.items() if key != name}
            return _either([render(value, others) for value in names[name]])
        case ast.Call(func=ast.Attribute(attr="instruction"), args=[sentence]):
            return render(sentence, names)
    return UNKNOWN


def _part(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.FormattedValue)
    match node.value:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name.strip("_") not in _PARTS:
            return name.strip("_").upper()
        case ast.Call(func=ast.Name(id="suggestion")):
            return ""
    return UNKNOWN


def _either(texts: list[str]) -> str:
    distinct = list(dict.fromkeys(text for text in texts if text not in ("", UNKNOWN)))
    return ALTERNATIVE.join(distinct[:_MOST_ALTERNATIVES]) or UNKNOWN


def _assigned(nodes: Iterator[ast.AST] | list[ast.stmt]) -> dict[str, list[ast.expr]]:
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    return found

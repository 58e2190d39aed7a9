"""Find the names that Python code reads, assigns and appends to."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import TypeGuard

__all__ = ["appended", "loaded_after", "loaded_first", "names_in", "stored_names"]


def loaded_after(function: ast.FunctionDef, loop: ast.For) -> set[str]:
    """Return the names that are read after ``loop``, or elsewhere in an outer loop that repeats it."""
    start, end = loop.lineno, loop.end_lineno or loop.lineno
    around = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.For | ast.While) and node.lineno < start and (node.end_lineno or 0) >= end
    ]
    first = min((node.lineno for node in around), default=end)
    return {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and node.lineno >= first
        and not start <= node.lineno <= end
    }


def loaded_first(body: Iterable[ast.stmt], known: Iterable[str]) -> set[str]:
    """Return the names that ``body`` may read before it assigns them; those in ``known`` are assigned already."""
    found: set[str] = set()
    _follow(body, set(known), found)
    return found


def _follow(body: Iterable[ast.stmt], known: set[str], found: set[str]) -> set[str]:
    for statement in body:
        if isinstance(statement, ast.If):
            found |= _loads(statement.test) - known
            known = _follow(statement.body, set(known), found) & _follow(statement.orelse, set(known), found)
        elif isinstance(statement, ast.For):
            found |= _loads(statement.iter) - known
            _follow(statement.body, known | stored_names([statement.target]), found)
        elif isinstance(statement, ast.With):
            found |= {name for item in statement.items for name in _loads(item.context_expr)} - known
            known = _follow(statement.body, known, found)
        else:
            found |= _loads(statement) - known
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                known |= {node.id for node in ast.walk(statement) if _is_stored(node)}
    return known


def _loads(node: ast.AST) -> set[str]:
    inside = {
        item.id for part in ast.walk(node) if isinstance(part, ast.comprehension) for item in names_in(part.target)
    }
    read = {item.id for item in names_in(node) if isinstance(item.ctx, ast.Load)} - inside
    return read | ({node.target.id} if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) else set())


def stored_names(nodes: Sequence[ast.AST]) -> set[str]:
    """Return the names that are assigned, or whose value is changed by an item assignment or an append."""
    found: set[str] = set()
    for node in (part for whole in nodes for part in ast.walk(whole)):
        if _is_stored(node):
            found.add(node.id)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
            found.add(node.value.id)
        elif addition := appended(node):
            found.add(addition[0])
    comprehended = {
        item.id
        for whole in nodes
        for part in ast.walk(whole)
        if isinstance(part, ast.comprehension)
        for item in names_in(part.target)
    }
    return found - comprehended


def _is_stored(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def names_in(node: ast.AST) -> list[ast.Name]:
    """Return the names that appear in ``node``."""
    return [part for part in ast.walk(node) if isinstance(part, ast.Name)]


def appended(node: ast.AST) -> tuple[str, ast.expr] | None:
    """Return ``a`` and ``value`` for the statements ``a.append(value)`` and ``a += [value]``."""
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.List):
        return (node.target.id, node.value.elts[0]) if len(node.value.elts) == 1 else None
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or call.func.attr != "append":
        return None
    return (call.func.value.id, call.args[0]) if isinstance(call.func.value, ast.Name) and len(call.args) == 1 else None

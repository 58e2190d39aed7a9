"""Build syntax nodes for rewritten code: statements from text, calls of ``runtime``, indices."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Sequence

__all__ = [
    "ITERATORS",
    "PREFIX",
    "IndexRewriter",
    "assign",
    "cut_from_end",
    "flatten",
    "index_expression",
    "load",
    "name_node",
    "runtime_call",
    "runtime_name",
    "statements",
]

PREFIX = "_foundry"
"""Name of ``runtime`` in rewritten code, and prefix of the variables that it adds."""

ITERATORS = frozenset({"range", "enumerate", "zip", "reversed"})
"""Functions whose result a loop may go over, with a replacement in ``runtime``."""


def statements(source: str) -> list[ast.stmt]:
    """Parse ``source`` to statements without line numbers: they get those of the code around them."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for attribute in node._attributes:
            if hasattr(node, attribute):
                delattr(node, attribute)
    return tree.body


def load(node: ast.expr) -> ast.expr:
    """Return a copy of the target of an assignment that reads it."""
    node = copy.deepcopy(node)
    if isinstance(node, ast.Name | ast.Subscript | ast.Attribute):
        node.ctx = ast.Load()
    return node


def flatten(body: Iterable[ast.stmt | list[ast.stmt]]) -> list[ast.stmt]:
    """Return the statements of ``body``, in which a list takes the place of several."""
    return [statement for item in body for statement in (item if isinstance(item, list) else [item])]


def runtime_name(name: str) -> ast.Attribute:
    """Return the expression for ``name`` of ``runtime``."""
    return ast.Attribute(name_node(PREFIX), name, ast.Load())


def runtime_call(name: str, *arguments: ast.expr, keywords: Sequence[ast.keyword] = ()) -> ast.Call:
    """Return the call of a function of ``runtime``."""
    return ast.Call(runtime_name(name), list(arguments), list(keywords))


def name_node(name: str) -> ast.Name:
    """Return the expression that reads the variable ``name``."""
    return ast.Name(name, ast.Load())


def assign(name: str, value: ast.expr) -> ast.Assign:
    """Return the statement ``name = value``."""
    return ast.Assign([ast.Name(name, ast.Store())], value)


def index_expression(node: ast.expr) -> ast.expr:
    """Return an index as an expression, with calls in place of slices."""
    node = copy.deepcopy(node)
    if isinstance(node, ast.Tuple):
        return ast.Tuple([index_expression(item) for item in node.elts], ast.Load())
    if not isinstance(node, ast.Slice):
        return node
    low, high = node.lower, node.upper
    if (number := cut_from_end(node)) is not None:
        return runtime_call("without_end", low or ast.Constant(None), number)
    if low and isinstance(high, ast.BinOp) and isinstance(high.op, ast.Add) and ast.dump(high.left) == ast.dump(low):
        return runtime_call("window", low, high.right)
    bounds = [item if item is not None else ast.Constant(None) for item in (low, high, node.step)]
    return ast.Call(name_node("slice"), bounds, [])


def cut_from_end(part: ast.expr) -> ast.expr | None:
    """Return ``n`` of the slice ``:-n``, None for a constant and for other slices."""
    end = part.upper if isinstance(part, ast.Slice) and part.step is None else None
    if not isinstance(end, ast.UnaryOp) or not isinstance(end.op, ast.USub):
        return None
    return None if isinstance(end.operand, ast.Constant) else end.operand


class IndexRewriter(ast.NodeTransformer):
    """Lets indices contain the position of a loop."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Replace ``a[i]`` by a call."""
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) or isinstance(node.slice, ast.Constant):
            return node
        return runtime_call("take", node.value, index_expression(node.slice))

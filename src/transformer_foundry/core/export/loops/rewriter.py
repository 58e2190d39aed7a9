"""Rewrite the loops of a function so that a capture can follow them: each becomes a call of ``runtime``."""

from __future__ import annotations

import ast
import copy

from transformer_foundry.core.export.loops.loop_body import LoopBody
from transformer_foundry.core.export.loops.syntax import (
    ITERATORS,
    PREFIX,
    IndexRewriter,
    assign,
    cut_from_end,
    flatten,
    index_expression,
    name_node,
    runtime_call,
    runtime_name,
)

__all__ = ["Rewriter"]

_JOINERS = frozenset({"stack", "cat", "concat", "concatenate"})


class Rewriter(ast.NodeTransformer):
    """Rewrites the loops over time and the paddings of one function.

    Args:
        function: The function; it is not changed.
    """

    def __init__(self, function: ast.FunctionDef) -> None:
        self._function = function
        self._loops = 0
        self._is_changed = False

    def changed_function(self) -> ast.FunctionDef | None:
        """Return the rewritten function, None if there is nothing to rewrite."""
        function = copy.deepcopy(self._function)
        function.body = flatten([self.visit(statement) for statement in function.body])
        return function if self._is_changed else None

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        """Replace a loop by ``if is_symbolic(items): (a call of loop) else: (the loop)``."""
        if not _may_vary(node.iter):
            return self.generic_visit(node)
        items, body = self._iterated(node.iter), LoopBody(node, self._function)
        plain = copy.deepcopy(node)
        plain.body = flatten([self.visit(statement) for statement in plain.body])
        self._is_changed = True
        self._loops += 1
        name = f"{PREFIX}_{self._loops}"
        plain.iter = name_node(f"{name}_items")
        start: list[ast.stmt] = [assign(f"{name}_items", runtime_call("steps", items))]
        if not body.can_be_carried:
            return [*start, plain]
        test = runtime_call("is_symbolic", name_node(f"{name}_items"))
        return [*start, ast.If(test, body.as_call(name), [plain])]

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        """Replace ``[f(x) for x in items]`` by a call."""
        (first, *others) = node.generators
        if others or first.ifs or not isinstance(first.target, ast.Name) or not _may_vary(first.iter):
            return self.generic_visit(node)
        self._is_changed = True
        argument = ast.arguments([], [ast.arg(first.target.id)], None, [], [], None, [])
        make = ast.Lambda(argument, IndexRewriter().visit(copy.deepcopy(node.elt)))
        return runtime_call("comprehend", make, self._iterated(first.iter))

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Let ``torch.stack`` and ``torch.cat`` take lists that a loop has filled; track what ``nonzero`` may find."""
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute):
            return node
        if node.func.attr in _JOINERS and (node.args or node.keywords):
            return runtime_call("join", node.func, *node.args, keywords=node.keywords)
        if node.func.attr == "unbind":
            return _unbind_call(node)
        if node.func.attr == "nonzero" and not node.args and not node.keywords:
            return runtime_call("candidates_of", node.func.value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Write the padding ``m - n % m`` so that it is 0 at a multiple, where the code's own test skips it."""
        self.generic_visit(node)
        rest = node.right
        if (
            isinstance(node.op, ast.Sub)
            and isinstance(rest, ast.BinOp)
            and isinstance(rest.op, ast.Mod)
            and ast.dump(rest.right) == ast.dump(node.left)
        ):
            self._is_changed = True
            return ast.BinOp(node, ast.Mod(), copy.deepcopy(node.left))
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Let ``a[:-n]``, which removes a padding, be all of ``a`` for ``n == 0``."""
        self.generic_visit(node)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if not isinstance(node.ctx, ast.Load) or not any(cut_from_end(part) for part in parts):
            return node
        self._is_changed = True
        return runtime_call("take", node.value, index_expression(node.slice))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leave functions inside the function as they are."""
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Leave lambdas as they are."""
        return node

    def _iterated(self, node: ast.expr) -> ast.expr:
        node = self.visit(copy.deepcopy(node))
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ITERATORS:
                call.func = runtime_name(call.func.id)
        return node


def _may_vary(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return True
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Attribute):
        return called.attr == "unbind"
    return isinstance(called, ast.Name) and called.id in ITERATORS


def _unbind_call(node: ast.Call) -> ast.AST:
    assert isinstance(node.func, ast.Attribute)
    is_function = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
    given = node.args if is_function else [node.func.value, *node.args]
    return runtime_call("unbind", *given, keywords=node.keywords)

"""The syntax of a loop over time: which names it carries, what it puts out, and the call that takes its place."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from transformer_foundry.core.export.loops.names import appended, loaded_after, loaded_first, names_in, stored_names

__all__ = ["Rewriter"]

_PREFIX = "_foundry"
_IS_FIRST = "_foundry_is_first"
# What a loop may go over, by the name it is called by.
_ITERATORS = frozenset({"range", "enumerate", "zip", "reversed"})
_JOINERS = frozenset({"stack", "cat", "concat", "concatenate"})
_LEAVES = (ast.Break, ast.Continue, ast.Return, ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class Rewriter(ast.NodeTransformer):
    """Rewrites one function.

    Args:
        function: The function; it is not changed.
    """

    RUNTIME = _PREFIX

    def __init__(self, function: ast.FunctionDef) -> None:
        self._function = function
        self._loops = 0
        self._is_changed = False

    def changed_function(self) -> ast.FunctionDef | None:
        """Return the rewritten function, None where there is nothing to rewrite."""
        function = copy.deepcopy(self._function)
        function.body = [self.visit(statement) for statement in function.body]
        function.body = _flat(function.body)
        return function if self._is_changed else None

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        """Put a call in the place of a loop; what Python does stays for a size that does not vary."""
        if not _may_vary(node.iter):
            return self.generic_visit(node)
        items, body = self._iterated(node.iter), _Body(node, self._function)
        plain = copy.deepcopy(node)
        plain.body = _flat([self.visit(statement) for statement in plain.body])
        self._is_changed = True
        self._loops += 1
        name = f"{_PREFIX}_{self._loops}"
        plain.iter = _name(f"{name}_items")
        start: list[ast.stmt] = [_assign(f"{name}_items", _call("steps", items))]
        if not body.can_be_carried:
            return [*start, plain]
        test = _call("is_symbolic", _name(f"{name}_items"))
        return [*start, ast.If(test, body.as_call(name), [plain])]

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        """Put a call in the place of ``[f(x) for x in items]``."""
        (first, *others) = node.generators
        if others or first.ifs or not isinstance(first.target, ast.Name) or not _may_vary(first.iter):
            return self.generic_visit(node)
        self._is_changed = True
        argument = ast.arguments([], [ast.arg(first.target.id)], None, [], [], None, [])
        return _call(
            "comprehend", ast.Lambda(argument, _Indices().visit(copy.deepcopy(node.elt))), self._iterated(first.iter)
        )

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Let ``torch.stack`` and ``torch.cat`` take what a loop has filled; note what ``nonzero`` may find."""
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute):
            return node
        if node.func.attr in _JOINERS and (node.args or node.keywords):
            return _call("join", node.func, *node.args, keywords=node.keywords)
        if node.func.attr == "unbind":
            return _unbound(node)
        if node.func.attr == "nonzero" and not node.args and not node.keywords:
            return _call("candidates_of", node.func.value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Write the padding ``m - n % m`` so that it is 0 for a multiple; the code's own test leaves that out."""
        self.generic_visit(node)
        taken = node.right
        if (
            isinstance(node.op, ast.Sub)
            and isinstance(taken, ast.BinOp)
            and isinstance(taken.op, ast.Mod)
            and ast.dump(taken.right) == ast.dump(node.left)
        ):
            self._is_changed = True
            return ast.BinOp(node, ast.Mod(), copy.deepcopy(node.left))
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Let ``a[:-n]``, by which a padding is taken away, be the whole of ``a`` for 0."""
        self.generic_visit(node)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if not isinstance(node.ctx, ast.Load) or not any(_taken_from_end(part) for part in parts):
            return node
        self._is_changed = True
        return _call("take", node.value, _index(node.slice))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leave functions inside the function as they are."""
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Leave them too."""
        return node

    def _iterated(self, node: ast.expr) -> ast.expr:
        node = self.visit(copy.deepcopy(node))
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in _ITERATORS:
                call.func = _runtime(call.func.id)
        return node


@dataclass
class _Output:
    """What a loop puts out at each step: into which list or tensor, and into which dimension."""

    name: str
    dim: int | None


class _Body(ast.NodeTransformer):
    """The body of a loop as a function of the item and of what is carried."""

    def __init__(self, loop: ast.For, function: ast.FunctionDef) -> None:
        self._loop = loop
        self._targets = stored_names([loop.target])
        self._counter = loop.target.id if isinstance(loop.target, ast.Name) and _counts_from_zero(loop.iter) else None
        self._asks_for_first = False
        self.outputs: list[_Output] = []
        self.can_be_carried = not loop.orelse and not any(
            isinstance(node, _LEAVES + _SCOPES) for statement in loop.body for node in ast.walk(statement)
        )
        written = self._written(loop.body)
        changed = stored_names(loop.body) - self._targets
        later = loaded_after(function, loop)
        before = loaded_first(loop.body, self._targets)
        self.carried = sorted(name for name in changed - written if name in later or name in before)

    def as_call(self, name: str) -> list[ast.stmt]:
        """Return the function, the call, and what the names mean after it."""
        body = _flat([self.visit(copy.deepcopy(statement)) for statement in self._loop.body])
        outputs = [_name(f"{_PREFIX}_out_{number}") for number in range(len(self.outputs))]
        result = ast.Return(_tuple([_tuple([_name(item) for item in self.carried]), _tuple(outputs)]))
        item = f"{name}_item"
        arguments = [ast.arg(_IS_FIRST), ast.arg(item), *(ast.arg(carried) for carried in self.carried)]
        function = ast.FunctionDef(
            f"{name}_body",
            ast.arguments([], arguments, None, [], [], None, []),
            [ast.Assign([copy.deepcopy(self._loop.target)], _name(item)), *body, result],
            [],
        )
        targets: list[ast.expr] = [_name(output.name) for output in self.outputs]
        before = [_call("before", ast.Call(_name("locals"), [], []), ast.Constant(name)) for name in self.carried]
        call = _call(
            "loop",
            _name(f"{name}_body"),
            _name(f"{name}_items"),
            _tuple(before),
            ast.List(targets, ast.Load()),
            ast.List([ast.Constant(output.dim) for output in self.outputs], ast.Load()),
            ast.Constant(self._asks_for_first),
        )
        stored = _tuple([_tuple([_name(item, ast.Store()) for item in self.carried], ast.Store())], ast.Store())
        stored.elts.append(ast.List([_name(output.name, ast.Store()) for output in self.outputs], ast.Store()))
        return [function, ast.Assign([stored], call)]

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        """Write ``a[i] = v`` as a new value of ``a``, or as what the step puts out."""
        (target, *others) = node.targets
        if others and any(isinstance(item, ast.Subscript) for item in node.targets):
            # Python gives the value to the targets from left to right.
            whole = _assign(f"{_PREFIX}_value", node.value)
            each = [ast.Assign([item], _name(f"{_PREFIX}_value")) for item in node.targets]
            return _flat([self.visit(statement) for statement in (whole, *each)])
        if not isinstance(target, ast.Subscript):
            return self.generic_visit(node)
        value = self.visit(node.value)
        if (number := self._output_of(target)) is not None:
            taken = _call("take", target.value, _index(target.slice))
            return _assign(f"{_PREFIX}_out_{number}", _call("shaped", value, _load(taken)))
        if not isinstance(target.value, ast.Name):
            return self.generic_visit(node)
        new = _call("put", _name(target.value.id), self.visit(_index(target.slice)), value)
        return _assign(target.value.id, new)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """Write ``a += b`` as ``a = a + b``: what is carried may not be changed in place."""
        if (put_out := self._put_out(node)) is not None:
            return put_out
        value = ast.BinOp(_load(node.target), node.op, node.value)
        return self.visit(ast.Assign([node.target], value))

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Let the step put out what it appends to a list."""
        return self._put_out(node) or self.generic_visit(node)

    def _put_out(self, node: ast.stmt) -> ast.Assign | None:
        name, value = appended(node) or ("", None)
        number = next(
            (at for at, output in enumerate(self.outputs) if output.name == name and output.dim is None), None
        )
        return None if value is None or number is None else _assign(f"{_PREFIX}_out_{number}", self.visit(value))

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Ask the loop whether this is its first step: that one is taken before the others."""
        is_count = self._counter and isinstance(node.left, ast.Name) and node.left.id == self._counter
        is_so = _is_so_first(node.ops[0], node.comparators[0]) if is_count and len(node.ops) == 1 else None
        if is_so is None:
            return self.generic_visit(node)
        self._asks_for_first = True
        return _name(_IS_FIRST) if is_so else ast.UnaryOp(ast.Not(), _name(_IS_FIRST))

    def visit_If(self, node: ast.If) -> ast.AST:
        """Answer ``if t:`` likewise."""
        return self.generic_visit(ast.If(self._as_answer(node.test), node.body, node.orelse))

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """And ``a if t else b``."""
        return self.generic_visit(ast.IfExp(self._as_answer(node.test), node.body, node.orelse))

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Let an index hold a position."""
        return _Indices().visit(node) if isinstance(node.ctx, ast.Load) else self.generic_visit(node)

    def _as_answer(self, test: ast.expr) -> ast.expr:
        if self._counter and isinstance(test, ast.Name) and test.id == self._counter:
            return ast.Compare(test, [ast.Gt()], [ast.Constant(0)])
        return test

    def _written(self, body: list[ast.stmt]) -> set[str]:
        """Find lists that each step appends to once, and tensors it writes one position of and does not read."""
        names = [node.id for statement in body for node in names_in(statement)]
        for statement in body:
            addition = appended(statement)
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if addition and names.count(addition[0]) == 1:
                self.outputs.append(_Output(addition[0], None))
            elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                dim = _written_dim(target.slice, self._targets) if _is_range(self._loop.iter) else None
                if dim is not None and names.count(target.value.id) == 1:
                    self.outputs.append(_Output(target.value.id, dim))
        return {output.name for output in self.outputs}

    def _output_of(self, target: ast.Subscript) -> int | None:
        if not isinstance(target.value, ast.Name):
            return None
        name = target.value.id
        return next(
            (at for at, output in enumerate(self.outputs) if output.name == name and output.dim is not None), None
        )


class _Indices(ast.NodeTransformer):
    """Lets indices hold positions in a loop."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Put a call in the place of ``a[i]``."""
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) or isinstance(node.slice, ast.Constant):
            return node
        return _call("take", node.value, _index(node.slice))


def _index(node: ast.expr) -> ast.expr:
    """Return an index as an expression of its own, slices as calls."""
    node = copy.deepcopy(node)
    if isinstance(node, ast.Tuple):
        return _tuple([_index(item) for item in node.elts])
    if not isinstance(node, ast.Slice):
        return node
    low, high = node.lower, node.upper
    if (number := _taken_from_end(node)) is not None:
        return _call("without_end", low or ast.Constant(None), number)
    if low and isinstance(high, ast.BinOp) and isinstance(high.op, ast.Add) and ast.dump(high.left) == ast.dump(low):
        return _call("window", low, high.right)
    bounds = [item if item is not None else ast.Constant(None) for item in (low, high, node.step)]
    return ast.Call(_name("slice"), bounds, [])


def _taken_from_end(part: ast.expr) -> ast.expr | None:
    """Return ``n`` for the slice ``:-n`` where that is no constant."""
    end = part.upper if isinstance(part, ast.Slice) and part.step is None else None
    if not isinstance(end, ast.UnaryOp) or not isinstance(end.op, ast.USub):
        return None
    return None if isinstance(end.operand, ast.Constant) else end.operand


def _written_dim(index: ast.expr, targets: set[str]) -> int | None:
    """Return the dimension of the loop's variable in an index that is full everywhere else."""
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    places = [at for at, part in enumerate(parts) if isinstance(part, ast.Name) and part.id in targets]
    others = [ast.dump(part) for part in parts if not isinstance(part, ast.Name)]
    is_full = all(part == ast.dump(ast.Slice()) for part in others) and len(others) == len(parts) - 1
    return places[0] if len(places) == 1 and is_full else None


def _may_vary(node: ast.expr) -> bool:
    if isinstance(node, ast.Name):
        return True
    called = node.func if isinstance(node, ast.Call) else None
    if isinstance(called, ast.Attribute):
        return called.attr == "unbind"
    return isinstance(called, ast.Name) and called.id in _ITERATORS


def _is_range(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"


def _counts_from_zero(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not _is_range(node) or len(node.args) > 2:
        return False
    first = node.args[0] if len(node.args) == 2 else ast.Constant(0)
    return isinstance(first, ast.Constant) and first.value == 0


def _is_so_first(op: ast.cmpop, bound: ast.expr) -> bool | None:
    """Return whether ``t op bound`` holds at the first step only, False for all but that, None for neither."""
    value = bound.value if isinstance(bound, ast.Constant) else None
    known: dict[tuple[type[ast.cmpop], object], bool] = {
        (ast.Eq, 0): True, (ast.LtE, 0): True, (ast.Lt, 1): True,
        (ast.NotEq, 0): False, (ast.Gt, 0): False, (ast.GtE, 1): False,
    }  # fmt: skip
    return known.get((type(op), value))


def _unbound(node: ast.Call) -> ast.AST:
    assert isinstance(node.func, ast.Attribute)
    is_function = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
    given = node.args if is_function else [node.func.value, *node.args]
    return _call("unbind", *given, keywords=node.keywords)


def _load(node: ast.expr) -> ast.expr:
    node = copy.deepcopy(node)
    if isinstance(node, ast.Name | ast.Subscript | ast.Attribute):
        node.ctx = ast.Load()
    return node


def _flat(body: Iterable[Any]) -> list[ast.stmt]:
    return [statement for item in body for statement in (item if isinstance(item, list) else [item])]


def _runtime(name: str) -> ast.Attribute:
    return ast.Attribute(_name(_PREFIX), name, ast.Load())


def _call(name: str, *arguments: ast.expr, keywords: Sequence[ast.keyword] = ()) -> ast.Call:
    return ast.Call(_runtime(name), list(arguments), list(keywords))


def _name(name: str, context: ast.expr_context | None = None) -> ast.Name:
    return ast.Name(name, context or ast.Load())


def _tuple(items: Sequence[ast.expr], context: ast.expr_context | None = None) -> ast.Tuple:
    return ast.Tuple(list(items), context or ast.Load())


def _assign(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([_name(name, ast.Store())], value)

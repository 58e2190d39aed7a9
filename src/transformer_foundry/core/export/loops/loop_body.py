"""Turn the body of a loop over time into a function of the item and of the carried values."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

from transformer_foundry.core.export.loops.names import appended, loaded_after, loaded_first, names_in, stored_names
from transformer_foundry.core.export.loops.syntax import (
    PREFIX,
    IndexRewriter,
    assign,
    flatten,
    index_expression,
    load,
    name_node,
    runtime_call,
    statements,
)

__all__ = ["LoopBody"]

_IS_FIRST = f"{PREFIX}_is_first"
_EXITS = (ast.Break, ast.Continue, ast.Return, ast.Yield, ast.YieldFrom, ast.Await, ast.Global, ast.Nonlocal)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


@dataclass(frozen=True)
class _Output:
    """A list that each step appends to (``dim`` is None), or a tensor that it writes at one position of ``dim``."""

    name: str
    dim: int | None


class LoopBody(ast.NodeTransformer):
    """The body of a loop as a function of the item and of the carried values.

    Args:
        loop: The loop; it is not changed.
        function: The function that contains it.

    Attributes:
        can_be_carried: Whether the body has this form: it neither leaves the loop nor defines functions.
    """

    def __init__(self, loop: ast.For, function: ast.FunctionDef) -> None:
        self._loop = loop
        self._targets = stored_names([loop.target])
        self._counter = loop.target.id if isinstance(loop.target, ast.Name) and _counts_from_zero(loop.iter) else None
        self._tests_first_step = False
        self.can_be_carried = not loop.orelse and not any(
            isinstance(node, _EXITS + _SCOPES) for statement in loop.body for node in ast.walk(statement)
        )
        self._outputs = list(self._find_outputs(loop.body))
        changed = stored_names(loop.body) - self._targets - {output.name for output in self._outputs}
        self._carried = sorted(changed & (loaded_after(function, loop) | loaded_first(loop.body, self._targets)))

    def as_call(self, name: str) -> list[ast.stmt]:
        """Return the definition of the function, and the statement that calls ``runtime.loop`` with it.

        Args:
            name: Prefix of new variables; ``NAME_items`` holds the items.
        """
        # The body comes first: visiting it finds out whether it tests for the first step.
        body = flatten([self.visit(copy.deepcopy(statement)) for statement in self._loop.body])
        carried = "".join(f"{item}, " for item in self._carried)
        before = "".join(f"{PREFIX}.before(locals(), {item!r}), " for item in self._carried)
        outputs = "".join(f"{_output_variable(number)}, " for number in range(len(self._outputs)))
        targets = ", ".join(output.name for output in self._outputs)
        dims = [output.dim for output in self._outputs]
        function, call = statements(
            f"def {name}_body({_IS_FIRST}, {name}_item, {carried}):\n"
            f"    return ({carried}), ({outputs})\n"
            f"({carried}), [{targets}] = {PREFIX}.loop(\n"
            f"    {name}_body, {name}_items, ({before}), [{targets}], {dims}, {self._tests_first_step})"
        )
        assert isinstance(function, ast.FunctionDef), ast.dump(function)
        function.body[:0] = [ast.Assign([copy.deepcopy(self._loop.target)], name_node(f"{name}_item")), *body]
        return [function, call]

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        """Write ``a[i] = v`` as a new value of ``a``, or as an output of the step."""
        (target, *others) = node.targets
        if others and any(isinstance(item, ast.Subscript) for item in node.targets):
            # Python assigns the value to the targets from left to right.
            whole = assign(f"{PREFIX}_value", node.value)
            each = [ast.Assign([item], name_node(f"{PREFIX}_value")) for item in node.targets]
            return flatten([self.visit(statement) for statement in (whole, *each)])
        if not isinstance(target, ast.Subscript):
            return self.generic_visit(node)
        value = self.visit(node.value)
        if not isinstance(target.value, ast.Name):
            return self.generic_visit(node)
        if (number := self._output_number(target.value.id, is_list=False)) is not None:
            taken = runtime_call("take", target.value, index_expression(target.slice))
            return assign(_output_variable(number), runtime_call("shaped", value, taken))
        new = runtime_call("put", name_node(target.value.id), self.visit(index_expression(target.slice)), value)
        return assign(target.value.id, new)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """Write ``a += b`` as ``a = a + b``: carried values may not be changed in place."""
        if (output := self._appended_output(node)) is not None:
            return output
        plain: ast.AST = self.visit(ast.Assign([node.target], ast.BinOp(load(node.target), node.op, node.value)))
        return plain

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Write ``a.append(v)`` as an output of the step."""
        return self._appended_output(node) or self.generic_visit(node)

    def _appended_output(self, node: ast.stmt) -> ast.Assign | None:
        if (addition := appended(node)) is None:
            return None
        number = self._output_number(addition[0], is_list=True)
        return None if number is None else assign(_output_variable(number), self.visit(addition[1]))

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Replace ``t == 0`` and the like by whether this is the first step, which runs apart from the others."""
        is_counter = isinstance(node.left, ast.Name) and node.left.id == self._counter
        at_first = _value_at_first_step(node.ops[0], node.comparators[0]) if is_counter and len(node.ops) == 1 else None
        if at_first is None:
            return self.generic_visit(node)
        self._tests_first_step = True
        return name_node(_IS_FIRST) if at_first else ast.UnaryOp(ast.Not(), name_node(_IS_FIRST))

    def visit_If(self, node: ast.If) -> ast.AST:
        """Treat ``if t:`` as ``if t > 0:``."""
        return self.generic_visit(ast.If(self._compared(node.test), node.body, node.orelse))

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """Treat ``a if t else b`` likewise."""
        return self.generic_visit(ast.IfExp(self._compared(node.test), node.body, node.orelse))

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Let an index contain the position of the loop."""
        if not isinstance(node.ctx, ast.Load):
            return self.generic_visit(node)
        taken: ast.AST = IndexRewriter().visit(node)
        return taken

    def _compared(self, test: ast.expr) -> ast.expr:
        if isinstance(test, ast.Name) and test.id == self._counter:
            return ast.Compare(test, [ast.Gt()], [ast.Constant(0)])
        return test

    def _find_outputs(self, body: list[ast.stmt]) -> Iterator[_Output]:
        """Yield lists that each step appends to once, and tensors that it writes at one position and does not read."""
        names = [node.id for statement in body for node in names_in(statement)]
        for statement in body:
            addition = appended(statement)
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            if addition and names.count(addition[0]) == 1:
                yield _Output(addition[0], None)
            elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                dim = _written_dim(target.slice, self._targets) if _is_range(self._loop.iter) else None
                if dim is not None and names.count(target.value.id) == 1:
                    yield _Output(target.value.id, dim)

    def _output_number(self, name: str, *, is_list: bool) -> int | None:
        found = (at for at, item in enumerate(self._outputs) if item.name == name and (item.dim is None) == is_list)
        return next(found, None)


def _output_variable(number: int) -> str:
    return f"{PREFIX}_out_{number}"


def _written_dim(index: ast.expr, targets: set[str]) -> int | None:
    """Return the dimension that the loop's variable indexes, if all other parts of the index are full slices."""
    parts = index.elts if isinstance(index, ast.Tuple) else [index]
    places = [at for at, part in enumerate(parts) if isinstance(part, ast.Name) and part.id in targets]
    others = [ast.dump(part) for part in parts if not isinstance(part, ast.Name)]
    is_full = all(part == ast.dump(ast.Slice()) for part in others) and len(others) == len(parts) - 1
    return places[0] if len(places) == 1 and is_full else None


def _is_range(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"


def _counts_from_zero(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call) or not _is_range(node) or len(node.args) > 2:
        return False
    first = node.args[0] if len(node.args) == 2 else ast.Constant(0)
    return isinstance(first, ast.Constant) and first.value == 0


def _value_at_first_step(op: ast.cmpop, bound: ast.expr) -> bool | None:
    """Return the value of ``t op bound`` at the first step if all others have the opposite one, otherwise None."""
    value = bound.value if isinstance(bound, ast.Constant) else None
    known: dict[tuple[type[ast.cmpop], object], bool] = {
        (ast.Eq, 0): True, (ast.LtE, 0): True, (ast.Lt, 1): True,
        (ast.NotEq, 0): False, (ast.Gt, 0): False, (ast.GtE, 1): False,
    }  # fmt: skip
    return known.get((type(op), value))

"""Record the operations of one forward pass with their values, and compute any of them again from other inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from transformer_foundry.core.system.torch_compat import DispatchMode, map_tensors, schema_of

__all__ = ["Trace", "Value", "record"]


@dataclass(eq=False, repr=False)
class Value:
    """A tensor of the recorded pass.

    Attributes:
        order: Place in the order of execution.
        tensor: The tensor itself.
        op: The operator that made it; None for inputs, parameters and constants.
        args: Its arguments, tensors replaced by their values.
        kwargs: The same for keyword arguments.
        pick: Which of several results this one is, None if there is one.
        parameter: Name of the parameter that it is.
        on_inputs: Whether it depends on the inputs of the pass.
        on_parameters: Whether it depends on a parameter.
        users: The values that were made from it.
    """

    order: int
    tensor: Tensor
    op: Callable[..., Any] | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    pick: int | None = None
    parameter: str | None = None
    on_inputs: bool = False
    on_parameters: bool = False
    users: list[Value] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the operator without namespace and overload, such as ``addmm``."""
        return str(self.op).split(".")[1] if str(self.op).startswith("aten.") else ""

    @property
    def parents(self) -> list[Value]:
        """The values that it was made from."""
        return list(_values_in((self.args, self.kwargs)))

    def computed(self, tensors: Mapping[Value, Tensor]) -> Tensor:
        """Return the result of the operator with ``tensors`` in place of the recorded values."""
        assert self.op is not None
        swap = lambda item: tensors.get(item, item.tensor) if isinstance(item, Value) else item  # noqa: E731
        result = self.op(*map_tensors(swap, self.args), **map_tensors(swap, dict(self.kwargs)))
        found: Tensor = result if self.pick is None else result[self.pick]
        return found


class Trace:
    """The values of one pass.

    Attributes:
        values: All values in the order of execution.
        parameters: Name -> its value, for the parameters that the pass used.
        output: The value that the pass returned.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.parameters: dict[str, Value] = {}
        self.output: Value | None = None
        self._between: dict[tuple[Value, frozenset[Value]], list[Value]] = {}

    def evaluate(self, target: Value, given: Mapping[Value, Tensor]) -> Tensor:
        """Return ``target`` computed again with other tensors for the values of ``given``; autograd may follow it."""
        if target in given:
            return given[target]
        tensors = dict(given)
        for value in self.between(given, target):
            tensors[value] = value.computed(tensors)
        return tensors.get(target, target.tensor)

    def between(self, sources: Iterable[Value], target: Value) -> list[Value]:
        """Return what is computed from ``sources`` on the way to ``target``, in order; the last one is ``target``."""
        key = (target, frozenset(sources))
        if key not in self._between:
            self._between[key] = _between(key[1], target)
        return self._between[key]

    def of_parameters(self, target: Value, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return ``target``, which depends on parameters only, for other values of the parameters."""
        return self.evaluate(target, {self.parameters[name]: parameters[name] for name in self.sources(target)})

    def sources(self, target: Value) -> list[str]:
        """Return the names of the parameters that ``target`` is computed from."""
        return sorted(value.parameter for value in ancestors([target]) if value.parameter is not None)


def ancestors(values: Iterable[Value]) -> set[Value]:
    """Return ``values`` and everything that they were made from."""
    found: set[Value] = set()
    open_values = list(values)
    while open_values:
        value = open_values.pop()
        if value not in found:
            found.add(value)
            open_values += value.parents
    return found


def record(module: nn.Module, inputs: Mapping[str, Tensor]) -> Trace:
    """Run ``module``, which returns a tensor, on named inputs and record what it computes.

    In-place operations are recorded as if they made new tensors; a parameter that is a view of another one is not seen.
    """
    recorder = _Recorder()
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        value = recorder.add(parameter, parameter=names[id(parameter)], on_parameters=True)
        recorder.trace.parameters[names[id(parameter)]] = value
    for tensor in inputs.values():
        recorder.add(tensor, on_inputs=True)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # The fused layer of torch hides its parts.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), recorder:
            output = module(**inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    recorder.trace.output = recorder.known(output)
    return recorder.trace


class _Recorder(DispatchMode):
    def __init__(self) -> None:
        self.trace = Trace()
        # The tensors are kept in the trace, so no id is used twice.
        self._by_id: dict[int, Value] = {}
        self._by_place: dict[tuple[Any, ...], Value] = {}

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        known = map_tensors(self._value_of, (tuple(args), dict(kwargs)))
        written = _written_argument(func)
        if written is not None:
            return self._write(func, args, kwargs, known, written)
        result = func(*args, **kwargs)
        self._add_results(func, known, result)
        return result

    def add(self, tensor: Tensor, **fields: Any) -> Value:
        value = Value(len(self.trace.values), tensor, **fields)
        for parent in value.parents:
            parent.users.append(value)
        self.trace.values.append(value)
        self._by_id[id(tensor)] = self._by_place[_place(tensor)] = value
        return value

    def known(self, tensor: Any) -> Value | None:
        if not isinstance(tensor, Tensor):
            return None
        return self._by_id.get(id(tensor)) or self._by_place.get(_place(tensor))

    def _value_of(self, item: Any) -> Any:
        return (self.known(item) or self.add(item)) if isinstance(item, Tensor) else item

    def _add_results(self, func: Any, known: Any, result: Any) -> None:
        fields = {"op": func, "args": known[0], "kwargs": known[1], **_dependence(_values_in(known))}
        if isinstance(result, Tensor):
            self.add(result, **fields)
            return
        for pick, item in enumerate(result if isinstance(result, tuple | list) else ()):
            if isinstance(item, Tensor):
                self.add(item, pick=pick, **fields)

    def _write(self, func: Any, args: Any, kwargs: Any, known: Any, written: int | str) -> Any:
        """Record an operation that changes a tensor, and what it changes in the tensors that this one is a view of."""
        tensor = kwargs[written] if isinstance(written, str) else args[written]
        value: Value = known[1][written] if isinstance(written, str) else known[0][written]
        chain = [value]
        while _is_view(chain[-1]):
            chain.append(chain[-1].parents[0])
        before = [item.tensor for item in chain]
        for item in chain:
            item.tensor = item.tensor.clone()
        result = func(*args, **kwargs)
        new = self.add(
            tensor, op=_Written(func, written), args=known[0], kwargs=known[1], **_dependence(_values_in(known))
        )
        for view, base, place in zip(chain, chain[1:], before[1:], strict=False):
            depends = _dependence([base, new])
            new = self.add(place, op=_Scattered(view), args=(base, new), **depends)
        return result


class _Written:
    """An operation that changes its argument, as one that returns the changed copy."""

    def __init__(self, func: Any, written: int | str) -> None:
        self.func, self.written = func, written

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        changed: Tensor = (kwargs[self.written] if isinstance(self.written, str) else args[self.written]).clone()
        if isinstance(self.written, str):
            kwargs[self.written] = changed
        else:
            args = (*args[: self.written], changed, *args[self.written + 1 :])
        self.func(*args, **kwargs)
        return changed


class _Scattered:
    """Puts what a view has become back into the tensor that it is a view of."""

    def __init__(self, view: Value) -> None:
        self.view = view

    def __call__(self, base: Tensor, changed: Tensor) -> Tensor:
        whole = base.clone()
        self.view.computed({self.view.parents[0]: whole}).copy_(changed)
        return whole


def _between(sources: frozenset[Value], target: Value) -> list[Value]:
    first = min((value.order for value in sources), default=0)
    above, open_values = set(), [target]
    while open_values:
        value = open_values.pop()
        if value not in above and value not in sources and value.order >= first:
            above.add(value)
            open_values += value.parents
    depends = set(sources)
    for value in sorted(above, key=lambda item: item.order):
        if any(parent in depends for parent in value.parents):
            depends.add(value)
    return sorted(depends - sources, key=lambda item: item.order)


def _values_in(tree: Any) -> Iterator[Value]:
    if isinstance(tree, Value):
        yield tree
    elif isinstance(tree, tuple | list):
        for item in tree:
            yield from _values_in(item)
    elif isinstance(tree, Mapping):
        yield from _values_in(list(tree.values()))


def _dependence(parents: Iterable[Value]) -> dict[str, bool]:
    parents = list(parents)
    return {
        "on_inputs": any(parent.on_inputs for parent in parents),
        "on_parameters": any(parent.on_parameters for parent in parents),
    }


def _written_argument(func: Any) -> int | str | None:
    for position, argument in enumerate(schema_of(func).arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            return argument.name if argument.kwarg_only else position
    return None


def _is_view(value: Value) -> bool:
    schema = schema_of(value.op)
    if schema is None or len(value.parents) != 1:
        return False
    return any(item.alias_info is not None and not item.alias_info.is_write for item in schema.returns)


def _place(tensor: Tensor) -> tuple[Any, ...]:
    if tensor.layout is not torch.strided:
        return (id(tensor),)
    storage = tensor.untyped_storage().data_ptr()
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype

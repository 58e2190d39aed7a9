"""Private and undocumented APIs of torch: no other module of this package uses them.

Run with torch 2.13; torch 2.14 has the same names. The oldest torch allowed is 2.9, and Colab has 2.11. Each function
says what is lost in a torch that lacks its API. Such a name is reported in one warning and raises ``MissingTorchApi``,
a ``RuntimeError``: callers then do without the feature, as they do for a model that torch refuses.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import logging
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch import fx
    from torch._subclasses.fake_tensor import FakeTensorMode

__all__ = [
    "DispatchMode",
    "MissingTorchApi",
    "ModuleTables",
    "assume_nonempty_sizes",
    "backward_node_number",
    "base_of",
    "disable_function_modes",
    "disable_proxy_tracing",
    "disable_subclass_functions",
    "fake_tensor_mode",
    "forward_node_number",
    "has_forward_hooks",
    "make_wrapper_tensor",
    "map_tensors",
    "module_tables",
    "mutation_count",
    "pytree",
    "quiet_onnx_log",
    "replace_onnx_decomposition",
    "scan",
    "schema_of",
    "shape_guards",
    "spec_violation_errors",
    "traceable_transformer_layers",
    "unbounded_range",
    "with_graph",
]

_log = logging.getLogger(__name__)

# Stands for a size that depends on values: neither 0 nor 1, which are special to torch.
_SOME_SIZE = 8191

_NO_LOOPS = "loops and branches that depend on values cannot be exported"


class MissingTorchApi(RuntimeError):
    """This torch lacks a private name that a feature needs."""


def _private(module: str, name: str, without: str) -> Any:
    """Return ``name`` (dotted) of ``module``; ``without`` says what is lost where there is none."""
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        raise _missing(f"{module}.{name}", without) from None


def _missing(name: str, without: str) -> MissingTorchApi:
    message = f"torch {torch.__version__} has no {name}: {without}."
    _warn_once(message)
    return MissingTorchApi(message)


@functools.cache
def _warn_once(message: str) -> None:
    _log.warning(message)


class DispatchMode:
    """A context that sees every operation on tensors, those of the backward pass included.

    Without it no operation is seen: memory forecasts leave out activations, and limits of embeddings are not found.
    """

    def run(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operation; subclasses add what they observe."""
        return func(*args, **kwargs)

    def __enter__(self) -> Self:
        self._mode = contextlib.ExitStack()
        with contextlib.suppress(MissingTorchApi):
            self._mode.enter_context(_dispatch_mode()(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._mode.close()


@functools.cache
def _dispatch_mode() -> Any:
    without = "memory forecasts leave out activations, and limits of embeddings are not found"
    base = _private("torch.utils._python_dispatch", "TorchDispatchMode", without)

    class Mode(base):  # type: ignore[misc, valid-type]
        def __init__(self, observer: DispatchMode) -> None:
            super().__init__()
            self._observer = observer

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            # Skipping imports torch._dynamo, which takes seconds; nothing is compiled here.
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
            return self._observer.run(func, args, kwargs or {})

    return Mode


def fake_tensor_mode() -> FakeTensorMode:
    """Return a mode in which tensors have shapes and types but no memory, for the memory forecast.

    Without it small passes are measured instead, which takes longer.
    """
    without = "memory forecasts measure small passes instead, which takes longer"
    mode: FakeTensorMode = _private("torch._subclasses.fake_tensor", "FakeTensorMode", without)(
        allow_non_fake_inputs=True
    )
    return mode


class ModuleTables(NamedTuple):
    """Where an ``nn.Module`` keeps its tensors by name; writing to them exchanges the tensors."""

    parameters: dict[str, nn.Parameter | None]
    buffers: dict[str, Tensor | None]
    non_persistent_buffers: set[str]


def module_tables(module: nn.Module) -> ModuleTables:
    """Return the tables of ``module`` alone, to exchange its tensors and to put them back as they were.

    Module's own methods register and refuse, but restore nothing. These names are as old as ``nn.Module``; there is no
    way without them.
    """
    return ModuleTables(module._parameters, module._buffers, module._non_persistent_buffers_set)


def has_forward_hooks(module: nn.Module) -> bool:
    """Return whether hooks would run a second time where activations are recomputed; assumed where it is unknown."""
    hooks = [getattr(module, name, {0: None}) for name in ("_forward_hooks", "_forward_pre_hooks")]
    return any(hooks)


def forward_node_number() -> int:
    """Return the number of the latest operation that the backward pass will visit; -1 if unknown.

    Without it findings about gradients name no line.
    """
    try:
        return int(_private("torch._C._autograd", "_get_sequence_nr", "findings about gradients name no line")()) - 1
    except MissingTorchApi:
        return -1


def backward_node_number() -> int | None:
    """Return the number of the operation whose backward pass runs now; None outside of a backward pass.

    Without it findings about gradients name no line.
    """
    try:
        node = _private("torch._C", "_current_autograd_node", "findings about gradients name no line")()
    except MissingTorchApi:
        return None
    return None if node is None else int(getattr(node, "_sequence_nr", lambda: -2)())


def mutation_count(tensor: Tensor) -> int:
    """Return how often ``tensor`` was written to in place.

    Without it activation checkpointing is off: a buffer that a block updates would go unnoticed.
    """
    try:
        return tensor._version
    except AttributeError:
        raise _missing("torch.Tensor._version", "training.activation_checkpointing is off") from None


def make_wrapper_tensor(
    kind: type[Tensor], shape: Sequence[int], *, dtype: torch.dtype, device: torch.device, requires_grad: bool
) -> Any:
    """Make a tensor of class ``kind`` without storage, for logits that are never whole.

    Without it ``training.chunked_loss`` is off.
    """
    make = _private("torch", "Tensor._make_wrapper_subclass", "training.chunked_loss is off")
    return make(kind, shape, dtype=dtype, device=device, requires_grad=requires_grad)


def disable_subclass_functions() -> contextlib.AbstractContextManager[None]:
    """Read shape and type of such a tensor without its ``__torch_function__``.

    Without it ``training.chunked_loss`` is off.
    """
    context: contextlib.AbstractContextManager[None] = _private(
        "torch", "_C.DisableTorchFunctionSubclass", "training.chunked_loss is off"
    )()
    return context


def disable_function_modes() -> contextlib.AbstractContextManager[None]:
    """Keep a ``TorchFunctionMode`` from seeing the operations of its observer.

    Without it the traces of the checks hold operations that are not the model's.
    """
    try:
        context: contextlib.AbstractContextManager[None] = _private(
            "torch", "_C.DisableTorchFunction", "findings may name operations that are not the model's"
        )()
    except MissingTorchApi:
        return contextlib.nullcontext()
    return context


@contextlib.contextmanager
def traceable_transformer_layers() -> Iterator[None]:
    """Keep ``nn.Transformer*`` from its fused path and from reading the values of its mask.

    Neither has a graph form, and neither changes a result: without the hint that a mask is causal the mask itself is
    applied. Where the private test of the mask is missing, only the fused path is off.
    """
    import torch.nn.modules.transformer as layers

    is_fast, detect = torch.backends.mha.get_fastpath_enabled(), getattr(layers, "_detect_is_causal_mask", None)
    torch.backends.mha.set_fastpath_enabled(False)
    if detect is not None:
        layers._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)  # noqa: ARG005
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(is_fast)
        if detect is not None:
            layers._detect_is_causal_mask = detect


def spec_violation_errors() -> tuple[type[Exception], ...]:
    """Return what ``torch.export`` raises for a graph it does not accept, beside ``RuntimeError``.

    Without it such a model ends the export of every format instead of one.
    """
    try:
        error: type[Exception] = _private(
            "torch._export.verifier", "SpecViolationError", "a refused graph ends the export"
        )
    except MissingTorchApi:
        return ()
    return (error,)


@contextlib.contextmanager
def quiet_onnx_log() -> Iterator[None]:
    """Switch off a log of torch 2.11 that takes the question whether it is on for its answer, and prints whole graphs.

    Where it is missing there is nothing to switch off.
    """
    write = getattr(torch._C, "_jit_onnx_log", None)
    if write is None:
        yield
        return
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = write


def shape_guards(program: torch.export.ExportedProgram) -> list[str]:
    """Return the conditions on sizes that ``program`` checks, as Python; removing one from the list lifts it.

    Without it the list is empty: files refuse sizes that their graph may serve.
    """
    found: list[str] = getattr(program, "_guards_code", [])
    return found


def unbounded_range() -> Any:
    """Return the range of a size that may be any, for ``ExportedProgram.range_constraints``.

    Without it the ranges stay: files refuse sizes that their graph may serve.
    """
    without = "files may refuse sizes that their graph serves"
    infinity = _private("torch.utils._sympy.numbers", "int_oo", without)
    return _private("torch.utils._sympy.value_ranges", "ValueRanges", without)(0, infinity)


def map_tensors(function: Callable[[Any], Any], values: Any) -> Any:
    """Return nested arguments of an operator with ``function`` applied to each; drawings are not recognized without."""
    without = "no drawing is recognized as a known architecture"
    return _private("torch.utils._pytree", "tree_map", without)(function, values)


def base_of(tensor: Tensor) -> Tensor | None:
    """Return the tensor of which ``tensor`` is a view; None if it is none, or if torch does not say."""
    return getattr(tensor, "_base", None)


def schema_of(operator: Any) -> Any:
    """Return the schema of an operator of a graph: ``is_mutable``, and ``arguments`` with ``alias_info``.

    None for anything else. Without it translation to ONNX takes twice as long.
    """
    return getattr(operator, "_schema", None)


def with_graph(program: torch.export.ExportedProgram, graph: fx.Graph) -> torch.export.ExportedProgram:
    """Return a copy of ``program`` that runs ``graph``; the weights are shared."""
    from torch import fx

    copied = copy.copy(program)
    copied._graph_module = fx.GraphModule(program.graph_module, graph)
    copied._graph_module.meta.update(program.graph_module.meta)
    return copied


@contextlib.contextmanager
def replace_onnx_decomposition(make: Callable[[Callable[..., Any], Callable[..., Any]], Any]) -> Iterator[None]:
    """Let ``torch.onnx`` decompose a program with another function while the block lasts.

    Without it programs are decomposed as always, which takes twice as long.

    Args:
        make: ``make(decompose, implemented)`` -> the replacement ``(program, registry) -> program``, where
            ``decompose`` is torch's own and ``implemented(registry)`` returns the operators that ONNX knows.
    """
    try:
        package = "torch.onnx._internal.exporter"
        without = "translation to ONNX takes twice as long"
        implemented = _private(f"{package}._decomp", "get_onnx_implemented_overloads", without)
        decompose = _private(f"{package}._fx_passes", "decompose_with_registry", without)
        _private("torch", "ops.aten.add.Tensor._schema", without)
    except MissingTorchApi:
        yield
        return
    passes = importlib.import_module(f"{package}._fx_passes")
    passes.decompose_with_registry = make(decompose, implemented)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        passes.decompose_with_registry = decompose  # type: ignore[attr-defined]


def pytree() -> ModuleType:
    """Return torch's functions on nested containers (``tree_flatten`` ...), for the values that a loop carries.

    Without it loops and branches that depend on values cannot be exported.
    """
    module: ModuleType = _private("torch.utils", "_pytree", _NO_LOOPS)
    return module


def scan(step: Callable[..., Any], state: list[Tensor], items: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Run a loop over ``items`` as one operator of a graph: the state after it, and what the steps put out, stacked.

    Without it loops over time cannot be exported.
    """
    run = _private("torch._higher_order_ops.scan", "scan", _NO_LOOPS)
    after, outputs = run(step, state, items)
    return after, outputs


def disable_proxy_tracing() -> contextlib.AbstractContextManager[None]:
    """Run code while a graph is captured without adding it to the graph.

    Without it loops over time cannot be exported.
    """
    name = "disable_proxy_modes_tracing"
    context: contextlib.AbstractContextManager[None] = _private("torch.fx.experimental.proxy_tensor", name, _NO_LOOPS)()
    return context


@contextlib.contextmanager
def assume_nonempty_sizes() -> Iterator[None]:
    """Take sizes that depend on values (of ``nonzero``) for more than 1 where code branches on them.

    A branch for "nothing found" is usually a shortcut: computing with nothing gives nothing. Verification finds the
    others. Without it models with such branches cannot be exported.
    """
    node = _private("torch.fx.experimental.sym_node", "SymNode", _NO_LOOPS)
    undecided = _private("torch.fx.experimental.symbolic_shapes", "GuardOnDataDependentSymNode", _NO_LOOPS)
    decide = node.guard_bool

    def guard_bool(self: Any, file: str, line: int) -> bool:
        try:
            return bool(decide(self, file, line))
        except undecided:
            answer = _answer_for_some_size(self)
            if answer is None:
                raise
            return answer

    node.guard_bool = guard_bool
    try:
        yield
    finally:
        node.guard_bool = decide


def _answer_for_some_size(node: Any) -> bool | None:
    import sympy  # type: ignore[import-untyped]

    symbols = _private("torch.fx.experimental.symbolic_shapes", "free_unbacked_symbols", _NO_LOOPS)
    found = symbols(node.expr)
    sizes: set[Any] = getattr(node.shape_env, "size_like", set())
    if not found or not found <= sizes:
        return None
    env = node.shape_env
    # The older name is deprecated in torch 2.13.
    hints = env.backed_var_to_val if hasattr(env, "backed_var_to_val") else env.var_to_val
    value = node.expr.xreplace({symbol: sympy.Integer(_SOME_SIZE) for symbol in found})
    value = value.xreplace({symbol: hints[symbol] for symbol in value.free_symbols if symbol in hints})
    return bool(value) if value in (True, False) else None

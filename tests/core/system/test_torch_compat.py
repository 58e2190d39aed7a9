"""Private APIs of torch: each is there and does what it is used for; without it its feature is off."""

from __future__ import annotations

import ast
import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.architecture import external_imports, modules
from tests.core.training.memory import models
from transformer_foundry.core.models import task_loss_for
from transformer_foundry.core.system import torch_compat
from transformer_foundry.core.system.precision import Precision
from transformer_foundry.core.system.torch_compat import MissingTorchApi
from transformer_foundry.core.training.memory import BatchShape, MemorySavings, verify_chunked_loss
from transformer_foundry.core.training.memory.simulation import Pass, pass_peak


@functools.cache
def exported() -> torch.export.ExportedProgram:
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(nn.Linear(3, 2), (torch.ones(4, 3),), dynamic_shapes=dynamic, strict=False)


def see_the_backward_pass() -> None:
    seen = []

    class Seen(torch_compat.DispatchMode):
        def run(self, func: Any, args: Any, kwargs: Any) -> Any:
            seen.append(func.name())
            return super().run(func, args, kwargs)

    weight = torch.ones(2, requires_grad=True)
    with Seen():
        weight.exp().sum().backward()
    assert "aten::exp" in seen
    assert "aten::mul.Tensor" in seen


def fake_tensors() -> None:
    with torch_compat.fake_tensor_mode() as mode:
        assert mode.from_tensor(torch.ones(3)).shape == (3,)
        assert torch.empty(10**15).shape == (10**15,)


def wrapper_tensors() -> None:
    class Empty(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("not disabled")

        __torch_dispatch__ = __torch_function__

    kept = {"dtype": torch.float16, "device": torch.device("cpu"), "requires_grad": True}
    made = torch_compat.make_wrapper_tensor(Empty, [2, 3], **kept)
    with torch_compat.disable_subclass_functions():
        assert (made.shape, made.dtype, made.requires_grad) == ((2, 3), torch.float16, True)


def function_modes() -> None:
    class Refuses(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("not disabled")

    with Refuses(), torch_compat.disable_function_modes():
        assert torch.ones(1) + 1 == 2


def module_tables() -> None:
    module = nn.BatchNorm1d(3)
    module.register_buffer("other", torch.ones(1), persistent=False)
    tables = torch_compat.module_tables(module)
    assert tables.parameters.keys() == {"weight", "bias"}
    tables.buffers["other"] = torch.zeros(1)
    assert module.other == 0
    assert tables.non_persistent_buffers == {"other"}


def hooks_and_mutations() -> None:
    module, tensor = nn.Linear(1, 1), torch.zeros(1)
    assert not torch_compat.has_forward_hooks(module)
    module.register_forward_hook(lambda *_: None)
    assert torch_compat.has_forward_hooks(module)
    before = torch_compat.mutation_count(tensor)
    tensor.add_(1)
    assert torch_compat.mutation_count(tensor) == before + 1


def transformer_layers() -> None:
    from torch.nn.modules import transformer

    with torch_compat.traceable_transformer_layers():
        assert transformer._detect_is_causal_mask(torch.zeros(2, 2), None, 2) is False
        assert transformer._detect_is_causal_mask(torch.zeros(2, 2), True, 2) is True
        assert not torch.backends.mha.get_fastpath_enabled()
    causal = nn.Transformer.generate_square_subsequent_mask(2)
    assert transformer._detect_is_causal_mask(causal, None, 2) is True


def spec_violation() -> None:
    assert [error.__name__ for error in torch_compat.spec_violation_errors()] == ["SpecViolationError"]


def onnx_log() -> None:
    write = torch._C._jit_onnx_log
    with torch_compat.quiet_onnx_log():
        assert torch._C._jit_onnx_log is not write
    assert torch._C._jit_onnx_log is write


def guards_and_ranges() -> None:
    class Guarded(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.shape[0] == 7 else x * 2

    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(Guarded(), (torch.ones(4, 3),), dynamic_shapes=dynamic, strict=False)
    assert any("7" in guard for guard in torch_compat.shape_guards(program))
    assert type(next(iter(program.range_constraints.values()))) is type(torch_compat.unbounded_range())


def graphs() -> None:
    program = exported()
    copied = torch_compat.with_graph(program, program.graph)
    assert torch.equal(copied.module()(torch.ones(2, 3)), program.module()(torch.ones(2, 3)))
    assert torch_compat.schema_of(torch.ops.aten.add_.Tensor).is_mutable
    assert torch_compat.schema_of(len) is None


def onnx_decomposition() -> None:
    decomposed = []

    def counting(decompose: Callable[..., Any], implemented: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(program: Any, registry: Any) -> Any:
            decomposed.append(torch.ops.aten.addmm.default in set(implemented(registry)))
            return decompose(program, registry)

        return replacement

    with torch_compat.replace_onnx_decomposition(counting):
        torch.onnx.export(exported(), dynamo=True, verbose=False)
    assert decomposed == [True]


def loops() -> None:
    leaves, form = torch_compat.pytree().tree_flatten(({"a": 1}, [2]))
    assert torch_compat.pytree().tree_unflatten(leaves, form) == ({"a": 1}, [2])
    after, sums = torch_compat.scan(lambda state, item: ([state[0] + item], [state[0] + item]), [torch.zeros(())],
                                    torch.arange(4.0))  # fmt: skip
    assert (after[0].item(), sums[0].tolist()) == (6.0, [0.0, 1.0, 3.0, 6.0])
    with torch_compat.disable_proxy_tracing():
        assert torch.ones(1) == 1


def sizes_that_depend_on_values() -> None:
    class Branches(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = x.nonzero()
            return x if found.shape[0] == 0 else x * 2

    with torch_compat.assume_nonempty_sizes():
        program = torch.export.export(Branches(), (torch.ones(3),), strict=False)
    assert program.module()(torch.ones(3)).tolist() == [2.0, 2.0, 2.0]


USES = [see_the_backward_pass, fake_tensors, wrapper_tensors, function_modes, module_tables, hooks_and_mutations,
        transformer_layers, spec_violation, onnx_log, guards_and_ranges, graphs, onnx_decomposition, loops,
        sizes_that_depend_on_values]  # fmt: skip


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_this_torch_has_the_private_api_and_it_works_as_expected(use: Callable[[], None]) -> None:
    try:
        use()
    except (MissingTorchApi, AttributeError, AssertionError, TypeError) as err:
        pytest.fail(f"torch {torch.__version__} changed a private API; adapt core/system/torch_compat.py: {err}")


def test_a_missing_api_is_reported_once_with_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with pytest.raises(MissingTorchApi, match=r"has no torch\.gone_api: it is slower\."):
            torch_compat._private("torch", "gone_api", "it is slower")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.fixture
def without_private_apis(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str, name: str, without: str) -> Any:
        raise MissingTorchApi(f"{module}.{name}: {without}")

    monkeypatch.setattr(torch_compat, "_private", missing)
    torch_compat._dispatch_mode.cache_clear()


@pytest.mark.usefixtures("without_private_apis")
def test_without_private_apis_contexts_do_nothing() -> None:
    with torch_compat.DispatchMode(), torch_compat.disable_function_modes():
        assert torch.ones(1) + 1 == 2
    with torch_compat.replace_onnx_decomposition(lambda *_: pytest.fail("not replaced")):
        pass
    assert torch_compat.spec_violation_errors() == ()


@pytest.mark.usefixtures("without_private_apis")
def test_without_private_apis_the_chunked_loss_is_off() -> None:
    chunked, result = verify_chunked_loss(models.Model(), task_loss_for("causal_lm"), models.make_batch())
    assert chunked is None
    assert "training.chunked_loss is off" in result.line


@pytest.mark.usefixtures("without_private_apis")
def test_without_fake_tensors_memory_is_still_forecast() -> None:
    shape = BatchShape("causal_lm", models.V, models.T)
    cpu = Precision(torch.device("cpu"), torch.float32)
    planned = Pass(models.Model(), task_loss_for("causal_lm"), cpu, MemorySavings(), shape.batch)
    assert pass_peak(planned, 4) == (sum(tensor.nbytes for tensor in shape.batch(4).values()), False)


def private_torch_names(path: Path) -> list[str]:
    """Names with an underscore that are imported from torch or that its objects have."""
    things = (torch, torch._C, torch.Tensor, torch.optim.Optimizer, torch.ops.aten.add.Tensor, nn.Module(), exported())
    private = {name for thing in things for name in dir(thing) if name.startswith("_") and not name.startswith("__")}
    tree = ast.parse(path.read_text())
    imported = [name for name in external_imports(path) if name.startswith("torch.")]
    found = [name for name in imported if "._" in name or name.startswith("torch.fx.experimental")]
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_self(node.value)}
    own |= {ast.unparse(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in private - own and ast.unparse(node.value) != "super()":
            found.append(ast.unparse(node))
    return found


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def test_private_apis_of_torch_are_used_in_one_module_only() -> None:
    found = {name: names for name, path in modules().items() if (names := private_torch_names(path))}
    assert {"torch._C", "module._buffers", "tensor._version"} <= set(found.pop("core.system.torch_compat"))
    assert found == {}

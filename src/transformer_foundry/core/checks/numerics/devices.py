"""Find tensors that stay on the CPU, without a GPU, by simulating a model whose weights and inputs are on one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from transformer_foundry.core.base.errors import cause_chain
from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest
from transformer_foundry.core.checks.probing.source_map import SourceLine, SourceMap, current_frame
from transformer_foundry.core.checks.probing.trace import graph_tensors
from transformer_foundry.core.models.side_effects import own_attributes

__all__ = ["check_devices"]

_SIMULATED = torch.device("cuda", 0)
_MARK = "_foundry_on_gpu"
_MADE_AT = "_foundry_made_at"
_DEVICE_GETTER = Tensor.device.__get__
_IS_CUDA_GETTER = Tensor.is_cuda.__get__  # type: ignore[attr-defined]
# Operations that accept tensors of two devices: copies, indices on the CPU, and lengths, which must be there.
_TOLERANT = frozenset({
    "copy_", "__setitem__", "__getitem__", "__get__", "__set__", "to", "type_as", "set_", "size",
    "_pack_padded_sequence",
})  # fmt: skip


class _TwoDevicesError(RuntimeError):
    """An operation gets tensors on the GPU and on the CPU."""

    def __init__(self, operation: str, cpu_tensor: Tensor, line: SourceLine | None) -> None:
        super().__init__(f"{operation} gets a tensor on the CPU and one on the GPU")
        self.operation, self.cpu_tensor, self.line = operation, cpu_tensor, line


def check_devices(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that every tensor that is combined with the weights is on their device."""
    inputs = subject.inputs(batch=2)
    if subject.contract.mask_argument is not None:
        inputs = replace(inputs, mask=torch.ones_like(inputs.ids))
    error = _run(subject, inputs)
    owner = None if error is None else _attribute_of(subject.model, error.cpu_tensor)
    if owner is not None and subject.rebuild is not None:
        # On a GPU, tensors that earlier calls stored would be on the GPU too.
        error = _run(subject, inputs, _left_by_calls(subject, subject.rebuild(0)))
        owner = None if error is None else _attribute_of(subject.model, error.cpu_tensor)
    if error is None:
        return
    use = subject.locator.at(error.line)
    consequence = (
        f" When the model moves to a GPU this tensor stays on the CPU, and {error.operation} fails at "
        f"{use.file_name}:{error.line.number if error.line else '?'}: training on a GPU fails at the first step."
    )
    if owner is not None:
        path, name = owner
        location = subject.locator.attribute(path, name)
        yield finding_at(
            "devices",
            "error",
            f"{location.module} is a plain tensor, neither a parameter nor a registered buffer.{consequence}",
            location,
            f'register it: self.register_buffer("{name}", ...).',
        )
        return
    made = getattr(error.cpu_tensor, _MADE_AT, None) or error.line
    location = subject.locator.at(made)
    yield finding_at(
        "devices",
        "error",
        f"A tensor is created on the CPU, whatever device the model is on.{consequence}",
        location,
        "create it on the device of the input: device=input_ids.device (or x.new_zeros(...)).",
    )


def _run(subject: ModelUnderTest, inputs: Inputs, moved: Sequence[Tensor] = ()) -> _TwoDevicesError | None:
    """Return the first operation with tensors of two devices in a forward pass; None if there is none."""
    model = subject.model
    tensors = [*model.parameters(), *model.buffers(), *moved]
    given = [tensor for tensor in (inputs.ids, inputs.mask, inputs.decoder_ids) if tensor is not None]
    for tensor in tensors + given:
        setattr(tensor, _MARK, True)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _SimulatedGpu(subject.source):
            subject.call(inputs)
    except _TwoDevicesError as err:
        return err
    except Exception as err:  # Code that uses a real GPU fails here; an earlier check showed that it runs on the CPU.
        return _hidden_error(err)
    finally:
        for tensor in tensors + given:
            vars(tensor).pop(_MARK, None)
    return None


def _left_by_calls(subject: ModelUnderTest, fresh: nn.Module) -> list[Tensor]:
    """Return the tensors in plain attributes that a model without any call does not have."""
    others = dict(fresh.named_modules())
    return [
        tensor
        for path, module in subject.model.named_modules()
        for name, value in own_attributes(module).items()
        if not graph_tensors(vars(others[path]).get(name) if path in others else None)
        for tensor in graph_tensors(value)
    ]


def _hidden_error(error: BaseException) -> _TwoDevicesError | None:
    return next((item for item in cause_chain(error) if isinstance(item, _TwoDevicesError)), None)


class _SimulatedGpu(TorchFunctionMode):
    """Mark tensors that would be on the GPU; raise an error if an operation gets tensors of both devices."""

    def __init__(self, source: SourceMap) -> None:
        super().__init__()
        self.source = source

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", str(func))
        tensors = graph_tensors((args, kwargs))
        moved = [tensor for tensor in tensors if _is_moved(tensor)]
        if func == _DEVICE_GETTER:
            return _SIMULATED if moved else func(*args, **kwargs)
        if func == _IS_CUDA_GETTER:
            return bool(moved)
        line = self.source.caller(current_frame())
        target, args, kwargs = self._target(name, args, kwargs, line)
        if target is None:
            self._refuse_two_devices(name, tensors, moved, line)
            target = _default_target(name, tensors, moved)
        output = self._call(func, name, args, kwargs)
        return _marked(output, target, line, tensors)

    def _call(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        if name == "cuda":
            return args[0].clone()
        return func(*args, **kwargs)

    def _target(
        self, name: str, args: Any, kwargs: dict[str, Any], line: SourceLine | None
    ) -> tuple[bool | None, Any, dict[str, Any]]:
        """Return whether the call selects the GPU (None: no device), and its arguments with the CPU as device."""
        if name in ("cuda", "cpu"):
            return name == "cuda", args, kwargs
        selected: list[torch.device] = []

        def replaced(value: Any) -> Any:
            if isinstance(value, torch.device) or (isinstance(value, str) and _is_device(value)):
                selected.append(torch.device(value))
                return torch.device("cpu")
            return value

        args = tuple(replaced(value) for value in args)
        kwargs = {key: replaced(value) if key == "device" else value for key, value in kwargs.items()}
        if not selected:
            return None, args, kwargs
        # A device from a variable depends on the machine: with a GPU it would be the GPU.
        return selected[0].type == "cuda" or not self._is_literal(line), args, kwargs

    def _is_literal(self, line: SourceLine | None) -> bool:
        text = self.source.text(line)
        return '"cpu"' in text or "'cpu'" in text

    def _refuse_two_devices(
        self, name: str, tensors: list[Tensor], moved: list[Tensor], line: SourceLine | None
    ) -> None:
        if not moved or name in _TOLERANT or name.endswith("_like"):
            return
        # ``check_registration`` reports parameters that a forward pass creates.
        cpu_tensors = [
            tensor for tensor in tensors if not (_is_moved(tensor) or isinstance(tensor, nn.Parameter)) and tensor.ndim
        ]
        if cpu_tensors:
            raise _TwoDevicesError(name, cpu_tensors[0], line)


def _default_target(name: str, tensors: list[Tensor], moved: list[Tensor]) -> bool:
    if name in ("__getitem__", "copy_", "__setitem__") and tensors:
        return _is_moved(tensors[0])
    if name in ("tensor", "as_tensor") and not tensors:
        return False
    return bool(moved)


def _marked(output: Any, target: bool, line: SourceLine | None, inputs: list[Tensor]) -> Any:
    if isinstance(output, Tensor):
        if _is_moved(output) != target and any(output is tensor for tensor in inputs):
            output = output.clone()
        if target:
            setattr(output, _MARK, True)
        elif not hasattr(output, _MADE_AT):
            vars(output).pop(_MARK, None)
            setattr(output, _MADE_AT, line)
    elif isinstance(output, tuple | list):
        marked = [_marked(item, target, line, inputs) for item in output]
        if any(new is not old for new, old in zip(marked, output, strict=True)) and type(output) in (tuple, list):
            return type(output)(marked)
    return output


def _is_moved(tensor: Tensor) -> bool:
    return vars(tensor).get(_MARK, False) is True


def _is_device(text: str) -> bool:
    return text.split(":")[0] in ("cpu", "cuda")


def _attribute_of(model: nn.Module, tensor: Tensor) -> tuple[str, str] | None:
    """Return (path of the module, name) of the plain attribute that contains ``tensor`` or its storage."""
    for path, module in model.named_modules():
        for name, value in own_attributes(module).items():
            for item in graph_tensors(value):
                if item is tensor or item.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr():
                    return path, name
    return None

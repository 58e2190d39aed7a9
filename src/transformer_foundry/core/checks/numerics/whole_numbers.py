"""Check integer arithmetic while the model is built and while it runs: overflow, and frequencies lost by division."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, declared_length
from transformer_foundry.core.checks.probing.source_map import SourceLine, SourceMap, current_frame
from transformer_foundry.core.system.torch_compat import DispatchMode, disable_function_modes, pytree, schema_of

__all__ = ["check_whole_numbers"]

ARITHMETIC = frozenset({"mul", "add", "sub", "rsub", "neg", "pow", "sum", "prod", "cumsum", "cumprod", "_to_copy"})
# Arithmetic of hashes: 64-bit numbers that overflow on purpose end in one of these.
HASHING = frozenset(
    {"remainder", "fmod", "bitwise_and", "bitwise_xor", "bitwise_or", "__rshift__", "bitwise_right_shift"}
)
INTEGERS = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8})
LONGEST = 2048
LARGEST_LOGITS = 4_000_000
FEWEST_FREQUENCIES = 4


def check_whole_numbers(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that whole numbers stay in the range of their type, and that angles of positions differ."""
    seen = _Watch(subject.source)
    if subject.rebuild is not None:
        with torch.random.fork_rng(devices=[]), seen:
            subject.rebuild(0)
    longest = min(declared_length(subject), LONGEST, max(1, LARGEST_LOGITS // subject.contract.output_size))
    for inputs in _edges(subject, longest):
        with seen:
            subject.logits(inputs)
    yield from _overflow(subject, seen)
    if seen.equal_angles is not None:
        yield finding_at(
            "positions",
            "warning",
            f"All {seen.frequencies} angles of a position are equal, so that sines and cosines have one frequency "
            f"instead of {seen.frequencies}{subject.source.quoted(seen.equal_angles)}. Positions that differ by a "
            "period look the same, and no slow frequency tells distant ones apart.",
            subject.locator.at(seen.equal_angles),
            "compute exponents with true division: base ** (torch.arange(0, d, 2) / d); // rounds them to 0.",
        )


def _edges(subject: ModelUnderTest, longest: int) -> Iterator[Inputs]:
    """Return the longest text, and the largest ids with padding."""
    inputs = subject.inputs(batch=1, length=longest)
    yield inputs
    last = torch.full_like(inputs.ids[:, : subject.length], subject.contract.vocab_size - 1)
    mask = None
    if subject.contract.mask_argument is not None:
        mask = torch.ones_like(last)
        mask[:, (last.shape[1] + 1) // 2 :] = 0
    decoder_ids = None if inputs.decoder_ids is None else inputs.decoder_ids[:, : last.shape[1]]
    yield Inputs(last, mask, decoder_ids)


@dataclass(frozen=True)
class _Overflow:
    """An operation whose whole numbers leave the range of their type, one of its results, and the right one."""

    name: str
    line: SourceLine | None
    dtype: torch.dtype
    found: float
    right: float


def _overflow(subject: ModelUnderTest, seen: _Watch) -> Iterator[Finding]:
    if not seen.overflows:
        return
    first = seen.overflows[0]
    yield finding_at(
        "overflow",
        "warning",
        f"Whole numbers overflow in {first.name}: it gives {first.found:.0f} where {first.right:.6g} is right, which "
        f"{str(first.dtype).removeprefix('torch.')} cannot hold{subject.source.quoted(first.line)}.",
        subject.locator.at(first.line),
        "compute it with real numbers (.float(), 10000.0 ** x), or with torch.int64 if it fits.",
    )


@dataclass
class _Watch(DispatchMode):
    """Repeats arithmetic of whole numbers in float64, and looks at the angles of sines and cosines."""

    source: SourceMap
    overflows: list[_Overflow] = field(default_factory=list)
    equal_angles: SourceLine | None = None
    frequencies: int = 0
    _from: dict[int, _Overflow] = field(default_factory=dict)
    _alive: list[Tensor] = field(default_factory=list)

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run one operation, and compare it with real numbers if its result is whole."""
        with disable_function_modes():
            output = func(*args, **kwargs)
            name = str(schema_of(func).name).partition("::")[2]
            if name in ("sin", "cos"):
                self._look_at(args[0])
            elif isinstance(output, Tensor) and output.dtype in INTEGERS and output.numel():
                self._follow(func, name, args, kwargs, output)
        return output

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, output: Tensor) -> None:
        given = [item for item in (*args, *kwargs.values()) if isinstance(item, Tensor)]
        before = next((self._from[id(item)] for item in given if id(item) in self._from), None)
        if before is not None and name in HASHING and before.dtype is torch.int64:
            self.overflows = [item for item in self.overflows if item is not before]
            return
        if before is None and name in ARITHMETIC and all(item.dtype in (*INTEGERS, torch.bool) for item in given):
            before = self._compare(func, name, args, kwargs, output)
        if before is not None:
            self._from[id(output)] = before
            self._alive.append(output)  # Else its id would be used again.

    def _compare(self, func: Any, name: str, args: Any, kwargs: Any, output: Tensor) -> _Overflow | None:
        args, kwargs = pytree().tree_map(_real, (args, kwargs))
        exact = func(*args, **kwargs)
        wrong = (output.double() - exact).abs() > 0.5 + 1e-9 * exact.abs()
        if not bool(wrong.any()):
            return None
        line = self.source.caller(current_frame())
        found = _Overflow(name, line, output.dtype, float(output[wrong][0]), float(exact[wrong][0]))
        if line is not None:
            self.overflows.append(found)
        return found

    def _look_at(self, angles: Tensor) -> None:
        if angles.ndim < 2 or angles.shape[-1] < FEWEST_FREQUENCIES or angles.is_complex():
            return
        rows = angles.reshape(-1, angles.shape[-1])
        if bool((rows == rows[:, :1]).all()) and len(rows[:, 0].unique()) > 2:
            line = self.source.caller(current_frame())
            if line is not None and self.equal_angles is None:
                self.equal_angles, self.frequencies = line, angles.shape[-1]


def _real(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.double()
    return torch.float64 if isinstance(item, torch.dtype) else item

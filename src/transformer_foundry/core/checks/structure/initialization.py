"""Check the initial weights, eps of norms and dropout rates."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest

__all__ = ["check_initialization"]

SMALLEST_STD = 1e-4
PRODUCTS = frozenset({
    "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "einsum", "tensordot", "embedding",
    "multi_head_attention_forward", "bilinear", "lstm", "gru",
})  # fmt: skip
LARGEST_ZERO_SHARE = 0.5
LARGEST_DROPOUT = 0.9
LARGEST_EPS = 0.1


def check_initialization(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that matrices are neither constant nor zero, eps is small, and dropout keeps at least a tenth."""
    yield from _degenerate_matrices(subject)
    yield from _large_eps(subject)
    for path, module in subject.model.named_modules():
        rate = module.p if isinstance(module, nn.Dropout) else getattr(module, "dropout", None)
        if isinstance(rate, float) and rate >= LARGEST_DROPOUT:
            yield finding_at(
                "dropout",
                "warning",
                f"{path} drops {rate:.1%} of its values in training: almost nothing remains. Usual rates are 0 to 0.3.",
                subject.locator.module(path),
                "set its dropout to 0.1.",
            )
            return


def _large_eps(subject: ModelUnderTest) -> Iterator[Finding]:
    for path, module in subject.model.named_modules():
        eps = getattr(module, "eps", None)
        if "norm" in type(module).__name__.lower() and isinstance(eps, float) and eps >= LARGEST_EPS:
            yield finding_at(
                "initialization",
                "warning",
                f"{path} adds {eps:g} to the variance (eps): usual values are 1e-12 to 1e-5. It no longer normalizes "
                "small inputs.",
                subject.locator.module(path),
                "set eps to 1e-5.",
            )
            return


def _degenerate_matrices(subject: ModelUnderTest) -> Iterator[Finding]:
    matrices = [
        (path, name, parameter.detach())
        for path, module in subject.model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 2 and min(parameter.shape) > 1 and parameter.is_floating_point()
    ]
    multiplied = _multiplied(subject) if subject.runs else None
    if multiplied is not None:  # Weights that scale or shift units one by one may well be equal.
        matrices = [item for item in matrices if item[2].untyped_storage().data_ptr() in multiplied]
    if not matrices:
        return
    zero = [item for item in matrices if not bool(item[2].any())]
    equal = [item for item in matrices if bool(item[2].any()) and bool((item[2] == item[2].flatten()[0]).all())]
    tiny = [item for item in matrices if 0 < float(item[2].float().std()) < SMALLEST_STD]
    if equal:
        yield _finding(subject, equal, "has the same value everywhere: all its units compute the same and stay equal")
    elif len(tiny) > LARGEST_ZERO_SHARE * len(matrices):
        std = float(tiny[0][2].float().std())
        yield _finding(subject, tiny, f"has a standard deviation of {std:.1g}: signal and gradient vanish")
    elif len(zero) > LARGEST_ZERO_SHARE * len(matrices):
        yield _finding(subject, zero, "is all zero: consecutive layers that are all zero never get a gradient")


def _multiplied(subject: ModelUnderTest) -> set[int]:
    """Return the storages of what enters matrix products and tables."""
    calls = [call for call in subject.trace.operations if call.name in PRODUCTS]
    return {tensor.untyped_storage().data_ptr() for call in calls for tensor in call.inputs}


def _finding(subject: ModelUnderTest, matrices: list[tuple[str, str, Tensor]], what: str) -> Finding:
    path, name, _ = matrices[0]
    location = subject.locator.attribute(path.rpartition(".")[0], path.rpartition(".")[2]) if path else None
    location = location or subject.locator.attribute(path, name)
    return finding_at(
        "initialization",
        "warning",
        f"Before training {path}.{name} {what} ({len(matrices)} matrices like it). The model learns slowly or not at "
        "all.",
        location,
        "initialize it with nn.init.normal_(weight, std=0.02), or leave torch's default.",
    )

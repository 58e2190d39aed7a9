"""Formulas that stay exact and finite, by the operation that does not."""

from __future__ import annotations

__all__ = ["remedy"]

STABLE_EXPONENTIAL = (
    "use a function that subtracts the largest exponent first: torch.softmax, torch.logsumexp, torch.sigmoid, "
    "F.softplus or torch.tanh instead of exp written out; sum logarithms instead of multiplying exponentials."
)
KEPT_FROM_ZERO = (
    "keep the divisor away from zero: x / y.clamp(min=1e-6), F.normalize(x, dim=-1), or a mean over "
    "mask.sum(1).clamp(min=1)."
)
STABLE_ROOT = "add a small number under the root, whose gradient at 0 is infinite: torch.sqrt(x + 1e-6)."
STABLE_LOGARITHM = "use F.log_softmax instead of the logarithm of a softmax, and log(x.clamp(min=1e-6)) elsewhere."
VISIBLE_ROW = (
    "let every row of a softmax see at least one key: torch.finfo(scores.dtype).min instead of -inf, one mask at a "
    "time."
)
IN_FLOAT32 = "compute this step in float32 (x.float()), and convert the result with .to(x.dtype)."
POSITIONS_IN_FLOAT32 = (
    "compute positions and angles in float32 outside of autocast, and convert only the sines and cosines with "
    ".to(x.dtype): bfloat16 counts to 256 and float16 to 2048."
)
WITHOUT_CANCELLATION = (
    "subtract the mean before squaring: x.var(-1, unbiased=False) or F.layer_norm, not E[x^2] - E[x]^2; take "
    "differences before numbers are rounded."
)
WITHOUT_CAST = "remove the cast to a shorter format: autocast chooses formats where that is safe."

_FAMILIES = (
    (("exp", "expm1", "sinh", "cosh", "cumprod"), STABLE_EXPONENTIAL),
    (("sqrt", "rsqrt", "linalg_vector_norm", "norm", "cdist", "_cdist", "std"), STABLE_ROOT),
    (("div", "reciprocal", "mean", "var"), KEPT_FROM_ZERO),
    (("log", "log2", "log1p"), STABLE_LOGARITHM),
    (("_softmax", "softmax", "_log_softmax"), VISIBLE_ROW),
)
_EXACT_FAMILIES = (
    (("sin", "cos", "arange", "to whole numbers", "cumsum"), POSITIONS_IN_FLOAT32),
    (("sub", "rsub", "var", "rsqrt", "sqrt"), WITHOUT_CANCELLATION),
    (("_to_copy",), WITHOUT_CAST),
)


def remedy(operation: str, *, exact: bool = False) -> str:
    """Return what to do about an operation, by its name in ATen.

    Args:
        operation: For example ``exp`` or ``div_``; a backward operation has the name of its formula.
        exact: Whether its result is inexact, not NaN or infinite.
    """
    name = operation.removesuffix("_")
    for names, advice in _EXACT_FAMILIES if exact else _FAMILIES:
        if name in names:
            return advice
    return IN_FLOAT32

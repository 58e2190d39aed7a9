"""The options of generated samples."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SampleOptions"]


@dataclass(frozen=True)
class SampleOptions:
    """How samples are generated.

    Attributes:
        num_samples: Number of samples; 0 generates none.
        max_new_tokens: Length of a sample in tokens.
        temperature: 0 takes the likeliest token.
        top_k: Sample from this many likeliest tokens; None samples from all.
        top_p: Sample from the likeliest tokens that make up this probability; None samples from all.
    """

    num_samples: int = 2
    max_new_tokens: int = 48
    temperature: float = 0.8
    top_k: int | None = 40
    top_p: float | None = None

"""Check that the model distinguishes all token ids."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.probing.finding import Finding, finding_at
from transformer_foundry.core.checks.probing.model_under_test import Inputs, ModelUnderTest, generic_weights

__all__ = ["check_token_ids"]

# Number of ids to compare. Wrapping or clamping confuses many ids, so a sample contains confused pairs.
MOST_IDS = 256
SAME = 1e-6
FEW_SCORES = 2
TEXTS_OF_FEW_SCORES = 4


def check_token_ids(subject: ModelUnderTest) -> Iterator[Finding]:
    """Check that two different ids, alone or at the start of a text, never give the same output."""
    ids = _sample(subject.ordinary_ids)
    with generic_weights(subject.model):
        outputs = _outputs(subject, ids)
    # The faster mode of cdist, by a matrix product, has rounding errors where rows are equal.
    distance = torch.cdist(outputs, outputs, compute_mode="donot_use_mm_for_euclid_dist")
    scale = float(outputs.norm(dim=-1).max())
    alike = ((distance <= SAME * scale) & torch.ones_like(distance).triu(1).bool()).nonzero()
    if not len(alike) or float(distance.max()) <= SAME * scale:
        return  # If no token has an effect, other checks report why.
    first, second = (int(ids[index]) for index in alike[0])
    location = subject.locator.forward()
    for call in subject.trace.modules:
        if isinstance(subject.locator.modules[call.module], nn.Embedding) and call.line is not None:
            location = subject.locator.module(call.module, call.line)
            break
    yield finding_at(
        "token ids",
        "error",
        f"The model does not distinguish some tokens: ids {first} and {second} give exactly the same output "
        f"({len(alike)} such pairs among {len(ids)} ids). The ids are divided, wrapped or clamped before the "
        "embedding.",
        location,
        "use an embedding with one row per id, without %, clamp or // on input_ids.",
    )


def _sample(ids: Tensor) -> Tensor:
    """Return at most ``MOST_IDS`` ids: the first, the last, and random ones."""
    if len(ids) <= MOST_IDS:
        return ids
    edge = MOST_IDS // 8
    generator = torch.Generator().manual_seed(6)
    middle = torch.randperm(len(ids) - 2 * edge, generator=generator)[: MOST_IDS - 2 * edge] + edge
    return torch.cat([ids[:edge], ids[middle], ids[-edge:]])


def _outputs(subject: ModelUnderTest, ids: Tensor) -> Tensor:
    """Return (N, V) outputs at the position of each id; the rest of the text is the same.

    Of a model with few scores for a text those of several texts, side by side: two of 256 numbers are often equal.
    """
    few = not subject.labels_positions and subject.contract.output_size <= FEW_SCORES
    short = subject.inputs(length=min(2, subject.length))
    texts = []
    for other in subject.ordinary_ids[:TEXTS_OF_FEW_SCORES] if few and subject.length > 1 else [None]:
        text = short.target.expand(len(ids), -1).clone()
        text[:, 0] = ids
        if other is not None:
            text[:, 1:] = other
        texts.append(text)
    return torch.cat([_run(subject, text, short, len(ids)) for text in texts], dim=-1)


def _run(subject: ModelUnderTest, text: Tensor, short: Inputs, count: int) -> Tensor:
    inputs = Inputs(text) if short.decoder_ids is None else Inputs(short.ids.expand(count, -1), None, text)
    logits = torch.cat([subject.logits(inputs.rows(slice(at, at + 64))) for at in range(0, count, 64)])
    return logits[:, 0] if subject.labels_positions else logits

"""Find the setting or the module name by which a model declares positions."""

from __future__ import annotations

import re
from dataclasses import dataclass

from transformer_foundry.core.checks.probing.location import Location
from transformer_foundry.core.checks.probing.model_under_test import ModelUnderTest

__all__ = ["DeclaredPositions", "find_declared_positions"]

# Settings that declare positions in attention or in a table.
DECLARING_SETTINGS = re.compile(
    r"rope|rotary|alibi|relative|pos(ition)?_?(emb|enc|type)|learned_pos|sinusoid", re.IGNORECASE
)
DECLARING_NAMES = re.compile(
    r"(^|[._])(pos|position|positions|positional|pe|rope|rotary|alibi|wpe|rel(ative)?_?bias)([._]|$)", re.IGNORECASE
)
NONE_WORDS = ("none", "nope", "null", "false", "")


@dataclass(frozen=True)
class DeclaredPositions:
    """Declaration of positions, for a message, and its location if it is a module that does not run or a tensor."""

    text: str
    location: Location | None = None


def find_declared_positions(subject: ModelUnderTest) -> DeclaredPositions | None:
    """Return the module or tensor, otherwise the setting, that declares positions; None if nothing does."""
    names = [name for name, _ in subject.model.named_modules()] + [name for name, _ in subject.model.named_buffers()]
    names += [name for name, _ in subject.model.named_parameters()]
    part = next((name for name in names if DECLARING_NAMES.search(name)), None)
    if part is not None:
        owner, _, attribute = part.rpartition(".")
        is_module = part in subject.locator.modules
        if is_module and part in subject.trace.called:
            return DeclaredPositions(part)
        return DeclaredPositions(
            part, subject.locator.module(part) if is_module else subject.locator.attribute(owner, attribute)
        )
    for key, value in subject.config.items():
        # A maximum length (max_position_embeddings) declares nothing: models without positions have one too.
        is_length = str(key).startswith("max")
        if DECLARING_SETTINGS.search(str(key)) and not is_length and str(value).lower() not in NONE_WORDS:
            return DeclaredPositions(f"the setting {key}")
    return None

"""Text that is written one token at a time; ``inference.py`` runs this from verified bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Generated", "GrowingText", "draw"]

# A token that stands for one byte of a character; decoders turn a row of them into text together.
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_INCOMPLETE = "\ufffd"


@dataclass(frozen=True)
class Generated:
    """Generated text.

    Attributes:
        text: The new text alone.
        ids: The new ids, without the end token.
        stopped: Why generation ended: ``end`` (the end token), ``stop`` (a text to stop at), ``length`` or ``time``.
        prompt_tokens: Number of tokens that the model read before the first new one.
    """

    text: str
    ids: list[int]
    stopped: str
    prompt_tokens: int = 0


class GrowingText:
    """Text that grows with each token, and how much of it is certain: no later token changes it.

    The pieces that ``add`` and ``finish`` return join to ``text``. A piece never ends within a character of several
    tokens, nor within what may become a text to stop at.

    Args:
        decode: Returns the text of ids.
        name: Returns the name of the token of an id.
        stop: Texts to stop at.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], name: Callable[[int], str | None], stop: Sequence[str] = ()
    ) -> None:
        self._decode, self._name, self._stop = decode, name, stop
        self.ids: list[int] = []
        self.text = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """Return the text that is certain since this token, often none."""
        self.ids.append(token)
        known = len(self.ids)
        while known and _BYTE.fullmatch(self._name(self.ids[known - 1]) or ""):
            known -= 1
        return self._grow(self._decode(self.ids[:known]).rstrip(_INCOMPLETE), is_last=False)

    def finish(self) -> str:
        """Return the rest of the text, when no token follows."""
        return "" if self.is_stopped else self._grow(self._decode(self.ids), is_last=True)

    def _grow(self, text: str, *, is_last: bool) -> str:
        if not text.startswith(self.text):
            # A decoder that rewrites what it has written: nothing is certain before the end.
            text = self.text + text[len(self.text) :] if is_last else self.text
        found = [at for at in (text.find(stop, len(self.text)) for stop in self._stop) if at >= 0]
        if found:
            self.is_stopped = True
            text = text[: min(found)]
        elif not is_last:
            text = text[: len(text) - self._begun_stop(text)]
        piece = text[len(self.text) :]
        self.text += piece
        return piece

    def _begun_stop(self, text: str) -> int:
        """Return how many characters at the end of ``text`` may be the beginning of a text to stop at."""
        longest = max(map(len, self._stop), default=1) - 1
        ends = (text[-count:] for count in range(min(longest, len(text) - len(self.text)), 0, -1))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stop)), 0)


def draw(
    logits: np.ndarray, temperature: float, top_k: int | None, top_p: float, generator: np.random.Generator
) -> int:
    """Return a token drawn from the ``top_k`` most likely ones, and of these from the fewest that have ``top_p``.

    Args:
        logits: Of all tokens, shape (V,).
        temperature: 0 takes the most likely token.
        top_k: None: all tokens.
        top_p: Share of the probability, 0 to 1; the most likely token is always kept.
        generator: Source of the draw.
    """
    if temperature == 0:
        return int(logits.argmax())
    order = np.argsort(-logits, kind="stable")[:top_k]
    # Subtract the largest logit first: dividing by a tiny temperature would overflow otherwise.
    with np.errstate(over="ignore"):
        shares = np.exp((logits[order].astype(np.float64) - float(logits.max())) / temperature)
    shares /= shares.sum()
    if top_p < 1:
        kept = int(np.searchsorted(np.cumsum(shares), top_p)) + 1
        order, shares = order[:kept], shares[:kept] / shares[:kept].sum()
    return int(generator.choice(order, p=shares))

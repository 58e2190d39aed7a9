"""Follow the residual stream of a recorded pass from the embeddings to the logits, and describe what is on the way.

Parts are joined by values: a layer belongs where its recorded input equals the value that the stream has there. How the
model's code is written does not matter, and with random parameters no two values are equal by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from transformer_foundry.core.export.native.attention import Core, find_cores
from transformer_foundry.core.export.native.blocks import activation_of, attention_part, feed_forward_part
from transformer_foundry.core.export.native.description import (
    Description,
    FeedForwardPart,
    NormPart,
    Stream,
    Sublayer,
    Unlike,
)
from transformer_foundry.core.export.native.heads import Shape
from transformer_foundry.core.export.native.parts import (
    Embedding,
    Linear,
    Norm,
    Rows,
    find_embeddings,
    find_linears,
    find_norms,
    same,
)
from transformer_foundry.core.export.native.trace import Trace, Value
from transformer_foundry.core.export.native.weights import Weights, start_of

__all__ = ["describe"]


def describe(trace: Trace, inputs: dict[str, Tensor]) -> Description:
    """Return the description of the model of a recorded pass.

    Args:
        trace: The pass, with random parameters.
        inputs: ``input_ids`` (B, T), for an encoder-decoder also ``decoder_input_ids`` (B, S).

    Raises:
        Unlike: If something on the way is in no known architecture.
    """
    walker = _Walker(trace, inputs)
    memory, encoder = None, None
    if "decoder_input_ids" in inputs:
        encoder, memory = walker.stream(inputs["input_ids"], None)
    stream, last = walker.stream(inputs.get("decoder_input_ids", inputs["input_ids"]), memory)
    return walker.head(stream, encoder, last)


@dataclass(frozen=True)
class _Branch:
    """Linear layers that read the stream, through a normalization or not."""

    norm: Norm | None
    x: Tensor
    linears: list[Linear]


class _Walker:
    def __init__(self, trace: Trace, inputs: dict[str, Tensor]) -> None:
        batch = inputs["input_ids"].shape[0]
        lengths = tuple(dict.fromkeys(tensor.shape[1] for tensor in inputs.values()))
        self.trace, self.shape, self.rows = trace, Shape(batch, lengths), Rows(batch, lengths)
        self.linears, self.norms = find_linears(trace), find_norms(trace)
        self.cores, self.embeddings = find_cores(trace, batch), find_embeddings(trace)
        self.weights = Weights(trace)
        self._parts: list[Linear | Norm] = [*self.linears, *self.norms]
        self._x = {id(part): self.rows(part.x) for part in self._parts}
        self._outs = {linear.out for linear in self.linears}

    def stream(self, ids: Tensor, memory: Tensor | None) -> tuple[Stream, Tensor]:
        """Return the stream that begins with the embedding of ``ids``, and its last value after the normalization."""
        embedding = self._embedding(ids)
        state = self._first(embedding)
        start = start_of(self.trace, self.rows, embedding, state)
        embedding_norm: NormPart | None = None
        blocks: list[Sublayer] = []
        while True:
            branches = self._branches(state)
            if not blocks and embedding_norm is None and len(branches) == 1 and not branches[0].linears:
                # A normalization whose result is normalized again.
                embedding_norm, state = self._norm(branches[0]), branches[0].x
                continue
            found = self._block(state, branches, memory)
            if found is None:
                break
            blocks, state = [*blocks, *found[0]], found[1]
        if not blocks:
            raise Unlike("no block of attention and feed-forward network reads the embeddings")
        normed = [branch for branch in branches if branch.norm is not None]
        final, value = (self._norm(normed[0]), normed[0].x) if normed else (None, state)
        again = next((branch for branch in self._branches(value) if branch.norm is not None), None)
        value = value if again is None else again.x
        if blocks[0].is_post and embedding_norm is None:
            # The first block adds to what is normalized: so does the stream from there on.
            embedding_norm = blocks[0].norm
        width = state.shape[-1]
        made: dict[str, Any] = {
            "width": width,
            "sublayers": blocks,
            "embedding_norm": embedding_norm,
            "final_norm": final,
        }
        return Stream(**start, **made, is_normalized_twice=again is not None), value

    def head(self, stream: Stream, encoder: Stream | None, last: Tensor) -> Description:
        """Return the description with the layers from the last value of the stream to the logits."""
        if self.trace.output is None:
            raise Unlike("its logits are not a tensor")
        readers, transform, activation, norm = self._readers(last), None, "", None
        head, scale = self._last_layer(last)
        if head is None and readers:
            transform = readers[-1]
            activation, norm, head = self._after_transform(transform)
        if head is None:
            raise Unlike("its head is not a linear layer on the last state")
        recorded = self.weights.recorded
        is_tied = self.trace.sources(head.weight) == [stream.token_parameter] and same(
            self.weights.matrix(head)(recorded), stream.tokens(recorded)
        )
        return Description(
            stream,
            self.weights.affine(head),
            is_tied,
            encoder,
            None if transform is None else self.weights.affine(transform),
            activation,
            None if norm is None else self.weights.norm(norm),
            scale,
            recorded,
        )

    def _last_layer(self, last: Tensor) -> tuple[Linear | None, float]:
        """Return the layer that makes the logits from the last state, and the factor of the state before it."""
        for linear in filter(self._makes_logits, self.linears):
            x = self._x[id(linear)]
            if x is not None and x.shape == last.shape:
                scale = float((x * last).sum() / last.pow(2).sum())
                if same(x, scale * last):
                    return linear, 1.0 if abs(scale - 1) < 1e-6 else scale
        return None, 1.0

    def _makes_logits(self, linear: Linear) -> bool:
        return self.trace.output is not None and same(self._out(linear), self.rows(self.trace.output))

    def _after_transform(self, transform: Linear) -> tuple[str, Norm | None, Linear | None]:
        value = self._out(transform)
        for head in filter(self._makes_logits, self.linears):
            for norm in (None, *self.norms):
                x = self._x[id(head)]
                before, after = (x, x) if norm is None else (self._x[id(norm)], self.rows(norm.out))
                if value is None or before is None or before.shape != value.shape or not same(after, x):
                    continue
                if name := activation_of(value, before):
                    return name, norm, head
        return "", None, None

    def _embedding(self, ids: Tensor) -> Embedding:
        for embedding in self.embeddings:
            given = embedding.ids.tensor.reshape(-1)
            if any(torch.equal(given, order.reshape(-1)) for order in (ids, ids.t())):
                return embedding
        raise Unlike("its token ids are not looked up in an embedding")

    def _first(self, embedding: Embedding) -> Tensor:
        """Return the input of the first layer after the embedding."""
        for part in sorted(self._parts, key=lambda part: part.out.order):
            x = self._x[id(part)]
            if x is not None and (part.x is embedding.out or self.trace.between([embedding.out], part.x)):
                return x
        raise Unlike("no layer reads the embeddings")

    def _norm(self, branch: _Branch) -> NormPart:
        assert branch.norm is not None
        return self.weights.norm(branch.norm)

    def _out(self, linear: Linear) -> Tensor | None:
        x, out = self._x[id(linear)], linear.out.tensor
        found = self.rows(linear.out)
        if found is not None or x is None or out.numel() % (x.shape[0] * x.shape[1]):
            return found
        return out.reshape(*x.shape[:2], -1)

    def _readers(self, value: Tensor) -> list[Linear]:
        return [part for part in self.linears if same(self._x[id(part)], value)]

    def _branches(self, state: Tensor) -> list[_Branch]:
        direct = self._readers(state)
        found = [_Branch(None, state, direct)] if direct else []
        for norm in self.norms:
            out = self.rows(norm.out)
            if out is not None and same(self._x[id(norm)], state):
                found.append(_Branch(norm, out, self._readers(out)))
        return found

    def _block(
        self, state: Tensor, branches: Sequence[_Branch], memory: Tensor | None
    ) -> tuple[list[Sublayer], Tensor] | None:
        """Return the sublayers that read ``state`` and the state after them; None if only the head reads it."""
        made = [
            (replace(sublayer, shares_norm=number > 0 and branch.norm is not None), out, branch.x)
            for branch in branches
            for number, (sublayer, out) in enumerate(self._sublayers(branch, memory))
        ]
        made.sort(key=lambda item: isinstance(item[0].part, FeedForwardPart))
        if not made:
            return None
        for count in sorted({1, len(made)}):
            total = torch.stack([out for _, out, _ in made[:count]]).sum(0)
            for is_post, base in ((False, state), (True, made[0][2])):
                if base.shape == total.shape and self._is_read(base + total):
                    chosen = [
                        replace(sublayer, is_post=is_post, is_parallel=number > 0)
                        for number, (sublayer, _, _) in enumerate(made[:count])
                    ]
                    return chosen, base + total
        raise Unlike("what its blocks compute is not added to the stream as it is")

    def _is_read(self, value: Tensor) -> bool:
        return any(same(self._x[id(part)], value) for part in self._parts)

    def _sublayers(self, branch: _Branch, memory: Tensor | None) -> Iterator[tuple[Sublayer, Tensor]]:
        """Yield the sublayers that read a branch, with what they add to the stream."""
        norm = None if branch.norm is None else self._norm(branch)
        linears = [linear for linear in branch.linears if not self._makes_logits(linear)]
        cores = [core for core in self.cores if self._directly(linears, core.q.value)]
        used: list[Linear] = []
        if cores:
            is_cross = memory is not None and not self._directly(linears, cores[0].k.value)
            sources = self._readers(memory) if is_cross and memory is not None else linears
            used = [item for item in linears if any(self._leads(item, core, "qkv") for core in cores)]
            kv = [item for item in sources if any(self._leads(item, core, "kv") for core in cores)]
            q = [item for item in used if any(self._leads(item, core, "q") for core in cores)]
            out = self._next_layer([core.out for core in cores])
            result = None if out is None else self._out(out)
            if out is None or result is None:
                raise Unlike("no linear layer follows its attention")
            part = attention_part(self.trace, self.weights, cores, (q, kv), out, self.norms, self.shape)
            yield Sublayer(part, norm, is_cross=is_cross), result
        ups = [(item, value) for item in linears if item not in used and (value := self._out(item)) is not None]
        down = self._next_layer([item.out for item, _ in ups]) if ups else None
        hidden, result = (None, None) if down is None else (self._x[id(down)], self._out(down))
        if down is not None and hidden is not None and result is not None:
            feed_forward = feed_forward_part(self.weights, ups, down, hidden)
            if feed_forward is not None:
                yield Sublayer(feed_forward, norm), result

    def _leads(self, linear: Linear, core: Core, names: str) -> bool:
        return any(self._directly([linear], getattr(core, name).value) for name in names)

    def _directly(self, linears: Sequence[Linear], target: Value) -> bool:
        """Return whether ``target`` is computed from ``linears`` without another linear layer between."""
        sources = [linear.out for linear in linears]
        if target in sources:
            return True
        between = self.trace.between(sources, target) if sources else []
        return bool(between) and not any(value in self._outs for value in between)

    def _next_layer(self, values: Sequence[Value]) -> Linear | None:
        """Return the first linear layer that reads what is computed from all of ``values``."""
        for linear in self.linears:
            if all(linear.x is value or self.trace.between([value], linear.x) for value in values):
                return linear
        return None

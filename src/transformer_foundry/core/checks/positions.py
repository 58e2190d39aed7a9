"""Positions: every row of a position table is used, and relative schemes depend on distances alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from transformer_foundry.core.checks.attention import AttentionRecord, attention_records
from transformer_foundry.core.checks.parameters import loss_of_random_labels
from transformer_foundry.core.checks.places import Place
from transformer_foundry.core.checks.report import Finding
from transformer_foundry.core.checks.sizes import promised_length
from transformer_foundry.core.checks.subject import Inputs, Subject, generic_weights
from transformer_foundry.core.checks.tracing import Trace, run_traced

__all__ = ["check_order", "check_relative_positions", "check_rows"]

# Tables of positions may have a few rows more than positions: padding, an offset.
EXTRA_ROWS = 8
SHORTEST_TABLE = 8
LONGEST = 1024
LARGEST_DEAD_SHARE = 0.1
SAME = 1e-4
# Settings that announce positions inside attention or in a table.
PROMISES = re.compile(r"rope|rotary|alibi|relative|pos(ition)?_?(emb|enc|type)|learned_pos|sinusoid", re.IGNORECASE)
NAMED_SO = re.compile(r"(^|[._])(pos|position|positions|pe|rope|rotary|alibi)([._]|$)", re.IGNORECASE)
NONE_WORDS = ("none", "nope", "null", "false", "")
TOEPLITZ_LENGTH = 40


def check_rows(subject: Subject) -> Iterator[Finding]:
    """At the longest sequence every row of a position table gets a gradient."""
    length = _longest(subject, LONGEST)
    tables = {
        name: parameter
        for name, parameter in subject.model.named_parameters()
        if parameter.requires_grad and _row_axis(parameter, length) is not None and not _holds_tokens(subject, name)
    }
    if length < SHORTEST_TABLE or not tables or not subject.evidence.get("differentiable", True):
        return
    with generic_weights(subject.model), torch.enable_grad():
        subject.model.zero_grad(set_to_none=True)
        loss = loss_of_random_labels(subject, subject.inputs(batch=1, length=length, source=length))
        gradients = torch.autograd.grad(loss, list(tables.values()), allow_unused=True) if loss.requires_grad else ()
    for (name, parameter), gradient in zip(tables.items(), gradients, strict=False):
        if gradient is None or not bool((gradient != 0).any()):
            continue  # The whole table is unused: the check of gradients says so.
        axis = _row_axis(parameter, length)
        assert axis is not None
        live = (gradient != 0).movedim(axis, 0).reshape(gradient.shape[axis], -1).any(dim=1)
        used = int(live.sum())
        if used < (1 - LARGEST_DEAD_SHARE) * length - 1:
            yield _dead_rows(subject, name, used, len(live), length)


def check_order(subject: Subject) -> Iterator[Finding]:
    """Position ids do not repeat; an encoder that is promised positions knows the order of words."""
    length = _longest(subject, 4 * TOEPLITZ_LENGTH)
    with generic_weights(subject.model):
        constant = _constant(subject, length)
        record = run_traced(subject.model, subject.source, lambda: subject.logits(constant))
    repeated = _repetition(record, length)
    if repeated is not None:
        step_module, line, period = repeated
        place = subject.places.module(step_module, line)
        yield Finding(
            "positions",
            "warning",
            f"Positions repeat: position {period} and position 0 get exactly the same position encoding (tested on "
            f"{length} equal tokens). The model cannot tell them apart.",
            str(place),
            place.lead("number the positions from 0 to T - 1, without a modulo or a clamp below the longest sequence."),
        )
    if subject.kind == "encoder-only" and subject.labels_positions and _is_blind_to_order(subject):
        yield _order_blind(subject)


def check_relative_positions(subject: Subject) -> Iterator[Finding]:
    """With equal tokens everywhere, attention inside a relative scheme depends on distances alone."""
    length = _longest(subject, TOEPLITZ_LENGTH)
    if length < SHORTEST_TABLE:
        return
    with generic_weights(subject.model):
        record = run_traced(subject.model, subject.source, lambda: subject.logits(_constant(subject, length)))
    if _positions_in_stream(record, length):
        return  # Absolute positions: attention may depend on each position by itself.
    records = [item for item in attention_records(record, {length}) if item.weights.shape[-2:] == (length, length)]
    promise = _promise(subject)
    if records and promise is not None and all(_is_even(item) for item in records):
        yield _no_effect(subject, records[0], promise, length)
        return
    for attention in records:
        if attention.weights.shape[-2:] == (length, length) and attention.over_keys:
            error = _departure_from_distance(attention)
            if error > 100 * SAME:
                yield _not_relative(subject, attention, error, length)
                return


def _longest(subject: Subject, limit: int) -> int:
    return min(promised_length(subject), subject.contract.max_length or limit, limit)


def _row_axis(parameter: Tensor, length: int) -> int | None:
    """Return the axis along which a parameter has one row per position."""
    if parameter.ndim < 2:
        return None
    axes = [axis for axis, size in enumerate(parameter.shape[:-1]) if length <= size <= length + EXTRA_ROWS]
    return axes[0] if len(axes) == 1 and _is_table(parameter, axes[0]) else None


def _is_table(parameter: Tensor, axis: int) -> bool:
    return all(size == 1 for index, size in enumerate(parameter.shape[:-1]) if index != axis)


def _holds_tokens(subject: Subject, name: str) -> bool:
    """Whether a parameter is no table of positions but weights of a layer, or rows looked up by token id."""
    owner, _, _attribute = name.rpartition(".")
    module = subject.places.modules.get(owner)
    if isinstance(module, nn.Embedding):
        return _looked_up_by_token(subject, owner)
    return not (module is not None and not isinstance(module, nn.Linear) and _is_plain_table(subject, name))


def _is_plain_table(subject: Subject, name: str) -> bool:
    """Whether a bare parameter is added to the stream: it is sliced along its rows, never multiplied as a matrix."""
    parameter = dict(subject.model.named_parameters())[name]
    pointer = parameter.data_ptr()
    uses = {
        step.name for step in subject.trace.operations if any(tensor.data_ptr() == pointer for tensor in step.inputs)
    }
    return bool(
        uses & {"__getitem__", "add", "__add__", "__radd__", "narrow", "embedding", "index_select", "expand"}
    ) and not (uses & {"linear", "matmul", "__matmul__", "einsum", "bmm"})


def _looked_up_by_token(subject: Subject, path: str) -> bool:
    inputs = subject.inputs()
    for step in subject.trace.modules:
        if step.module == path and step.inputs:
            ids = step.inputs[0].flatten()
            return any(torch.equal(ids, given.flatten()) for given in (inputs.ids, inputs.target))
    return True


def _dead_rows(subject: Subject, name: str, used: int, rows: int, length: int) -> Finding:
    owner, _, attribute = name.rpartition(".")
    is_module = isinstance(subject.places.modules.get(owner), nn.Embedding)
    place = _lookup_place(subject, owner) if is_module else subject.places.attribute(owner, attribute)
    cause = (
        "All position ids are the same, so the model cannot tell the order of words"
        if used == 1
        else "Position ids repeat or stop early, so distant positions look alike"
    )
    return Finding(
        "dead rows",
        "warning",
        f"Only {used} of the {rows} rows of the position table {name} are used by a sequence of {length} tokens; the "
        f"others never get a gradient. {cause}.",
        str(place),
        place.lead("look the table up with torch.arange(T), one row per position."),
    )


def _lookup_place(subject: Subject, path: str) -> Place:
    step = next((step for step in subject.trace.modules if step.module == path), None)
    return subject.places.module(path, step.line if step is not None else None)


def _constant(subject: Subject, length: int) -> Inputs:
    inputs = subject.inputs(length=length, source=length if subject.kind == "encoder-decoder" else None)
    token = int(subject.ordinary_ids[len(subject.ordinary_ids) // 2])
    filled = torch.full((1, length), token)
    return Inputs(filled, None, None if inputs.decoder_ids is None else filled.clone())


def _positions_in_stream(record: Trace, length: int) -> bool:
    """Whether, with equal tokens, some module before the first attention gives different vectors by position."""
    for step in record.steps:
        if "softmax" in step.name or step.name in ("scaled_dot_product_attention", "multi_head_attention_forward"):
            return False
        if _is_stream(step.output, length) and _varies(step.output):
            return True
    return True  # No attention was seen: nothing can be said.


def _is_stream(tensor: Tensor, length: int) -> bool:
    return tensor.ndim == 3 and tensor.shape[:2] == (1, length) and tensor.is_floating_point()


def _varies(stream: Tensor) -> bool:
    spread = (stream - stream[:, :1]).abs().max()
    return bool(spread > SAME * stream.abs().max())


def _repetition(record: Trace, length: int) -> tuple[str, tuple[str, int] | None, int] | None:
    """Return (module, line, period) where positions enter, if what reaches the first attention repeats itself."""
    streams = []
    for step in record.steps:
        if "softmax" in step.name or step.name in ("scaled_dot_product_attention", "multi_head_attention_forward"):
            break
        if _is_stream(step.output, length) and _varies(step.output):
            streams.append(step)
    if not streams:
        return None
    rows = streams[-1].output[0]
    distance = (rows - rows[:1]).abs().amax(dim=1)
    same = (distance[1:] <= SAME * rows.abs().max()).nonzero().flatten()
    return (streams[0].module, streams[0].line, int(same[0]) + 1) if len(same) else None


def _is_blind_to_order(subject: Subject) -> bool:
    """Whether exchanging two words merely exchanges their outputs and changes nothing elsewhere."""
    with generic_weights(subject.model):
        inputs = subject.inputs()
        swapped = inputs.ids.clone()
        swapped[:, [1, -2]] = inputs.ids[:, [-2, 1]]
        base, moved = subject.logits(inputs), subject.logits(Inputs(swapped))
    expected = base.clone()
    expected[:, [1, -2]] = base[:, [-2, 1]]
    return bool(torch.allclose(moved, expected, rtol=0, atol=SAME * float(base.abs().max())))


def _order_blind(subject: Subject) -> Finding:
    promise = _promise(subject)
    place = subject.places.forward()
    message = (
        "The model cannot tell the order of words: exchanging two words exchanges their outputs and changes nothing "
        "else."
    )
    if promise is None:
        return Finding("positions", "info", f"{message} It has no positions; that may be meant.", str(place))
    return Finding(
        "positions",
        "warning",
        f"{message} Yet {promise} promises positions: they have no effect.",
        str(place),
        place.lead("add the position encoding to the embeddings, or rotate queries and keys by their positions."),
    )


def _promise(subject: Subject) -> str | None:
    """Return what announces positions: a setting, or the name of a module or buffer; None when nothing does."""
    for key, value in subject.config.items():
        if PROMISES.search(str(key)) and str(value).lower() not in NONE_WORDS:
            return f"the setting {key}"
    names = [name for name, _ in subject.model.named_modules()] + [name for name, _ in subject.model.named_buffers()]
    names += [name for name, _ in subject.model.named_parameters()]
    return next((name for name in names if NAMED_SO.search(name)), None)


def _is_even(attention: AttentionRecord) -> bool:
    """Whether, with equal tokens, every visible key gets the same weight: nothing depends on positions."""
    seen = attention.weights > 1e-12
    high = attention.weights.amax(dim=-1)
    low = attention.weights.masked_fill(~seen, torch.inf).amin(dim=-1)
    return bool((high - low <= SAME * high).all())


def _no_effect(subject: Subject, attention: AttentionRecord, promise: str, length: int) -> Finding:
    place = subject.places.module(attention.module, attention.line)
    return Finding(
        "positions",
        "warning",
        f"Positions have no effect, although {promise} promises them: with {length} equal tokens every position gets "
        "the same vector and attends to all it sees evenly. The model knows at most how many words came before, not "
        "their order.",
        str(place),
        place.lead("add the position encoding to the embeddings, or rotate both queries and keys by their positions."),
    )


def _departure_from_distance(attention: AttentionRecord) -> float:
    """Return how far, within a row, steps of the log-weights from key to key depend on more than the distance."""
    logs = attention.weights.clamp(min=1e-20).log()
    seen = attention.weights > 1e-12
    steps, known = logs[:, :, 1:] - logs[:, :, :-1], seen[:, :, 1:] & seen[:, :, :-1]
    length, worst = logs.shape[-1], 0.0
    for offset in range(-length + 2, length - 2):
        diagonal = torch.diagonal(steps, offset, dim1=1, dim2=2)
        valid = torch.diagonal(known, offset, dim1=1, dim2=2)
        spread = _spread(diagonal, valid)
        worst = max(worst, spread)
    return worst


def _spread(values: Tensor, valid: Tensor) -> float:
    high = values.masked_fill(~valid, -torch.inf).amax(dim=1)
    low = values.masked_fill(~valid, torch.inf).amin(dim=1)
    found = (high - low)[valid.sum(dim=1) > 1]
    return float(found.max()) if len(found) else 0.0


def _not_relative(subject: Subject, attention: AttentionRecord, error: float, length: int) -> Finding:
    place = subject.places.module(attention.module, attention.line)
    return Finding(
        "positions",
        "warning",
        f"Attention does not depend on distances alone: with {length} equal tokens, two pairs of positions at the same "
        f"distance get weights that differ by {error:.2g} (in logarithms). No absolute positions are added, so the "
        "positions inside the attention (rotary, ALiBi, relative bias) are applied wrongly: to queries but not keys, "
        "with opposite signs, or numbered along the wrong axis.",
        str(place),
        place.lead("rotate queries and keys by the same angles, numbered along the axis of length T."),
    )

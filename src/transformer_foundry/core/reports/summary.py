"""The summary at the top of the report: what was trained, on what, and how good it is, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from transformer_foundry.core.base.text import counted, format_number, short_list
from transformer_foundry.core.evaluation.assess import baselines_of
from transformer_foundry.core.reports.rendering import mapping, mappings
from transformer_foundry.core.reports.run_record import RunRecord

__all__ = ["summarize"]

_WHAT_IT_DOES = {
    "causal_lm": "continues texts",
    "seq2seq_lm": "writes a text for a text",
    "masked_lm": "guesses hidden words",
    "sequence_classification": "sorts texts into classes",
    "multi_label_classification": "gives texts any of several labels",
    "token_classification": "labels the words of a text",
    "regression": "gives a text a number",
}


def summarize(record: RunRecord) -> str:
    """Return two to four sentences for a reader who knows no metric; empty if nothing is trained or measured."""
    return " ".join(_sentences(record)) if record.metrics or record.evaluation else ""


def _sentences(record: RunRecord) -> Iterator[str]:
    train = mapping(mapping(record.profile.get("splits")).get("train"))
    name = str(mapping(record.validation.get("model")).get("name") or record.paths.name)
    does = _WHAT_IT_DOES.get(str(record.profile.get("task")))
    parameters = mapping(record.package.get("model")).get("parameter_count")
    size = f" with {format_number(parameters)} parameters" if isinstance(parameters, int) else ""
    model = f"{name} is a model{size} that {does}" if does else f"{name} is a model{size}"
    documents, tokens = train.get("documents"), train.get("tokens")
    if isinstance(documents, int) and isinstance(tokens, int):
        model += f". It learned from {counted(documents, 'text')} ({format_number(tokens)} tokens)"
        seen = next((row["train/tokens_seen"] for row in reversed(record.metrics) if "train/tokens_seen" in row), None)
        if isinstance(seen, int | float) and tokens:
            model += f", which it has read {_times(seen / tokens)}"
    yield f"{model}."
    yield from _quality(record)
    formats = mappings(record.package.get("formats"))
    if formats and all(item.get("status") == "verified" for item in formats):
        yield f"The package holds it in {counted(len(formats), 'format')}, each of which gives the model's own answers."


def _quality(record: RunRecord) -> Iterator[str]:
    measured = mapping(record.evaluation.get("validation"))
    perplexity, accuracy = measured.get("perplexity"), measured.get("accuracy")
    if isinstance(perplexity, int | float) and perplexity < 1e6:
        token = "a hidden token" if record.profile.get("task") == "masked_lm" else "the next token"
        yield (
            f"On texts that it has not seen it is as unsure of {token} as if it chose among "
            f"{format_number(max(1, round(perplexity)))} equally likely ones."
        )
    elif isinstance(accuracy, int | float):
        yield f"On texts that it has not seen, {accuracy:.0%} of its answers are right."
    comparisons = mappings(record.evaluation.get("comparisons"))
    beaten, missed = (baselines_of(comparisons, is_beaten=is_beaten) for is_beaten in (True, False))
    if beaten and not missed:
        yield f"That is better than {short_list(beaten)}: it has learned more than counting."
    elif missed:
        yield f"It does not beat {short_list(missed)} yet: it needs more steps, more data or other settings."


def _times(share: float) -> str:
    if share < 0.95:
        return f"{share:.0%} of"
    return "once" if share < 1.5 else f"{share:.0f} times"

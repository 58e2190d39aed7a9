"""Generate the reference page of the expected errors from the source that raises them."""

from __future__ import annotations

from pathlib import Path

from source_text import SOURCES, UNKNOWN, Call, calls

from transformer_foundry.core.base import errors

__all__ = ["messages", "messages_page"]

ERRORS = frozenset(name for name in errors.__all__ if name.endswith("Error"))
SUBJECTS = {
    "core/models": "The model",
    "core/checks": "Validation",
    "core/data": "Data and tokenizer",
    "core/training": "Training and checkpoints",
    "core/evaluation": "Evaluation",
    "core/studies/tuning": "Tuning",
    "core/studies/comparison": "Comparison",
    "core/export": "ModelSource",
    "core/publishing": "Package, Hub, registry",
    "core/files": "Files",
    "core/system": "Machine",
    "": "Parameters, commands, Drive, W&B",
}
_FEWEST_LETTERS = 12
INTRODUCTION = """# Error messages

Every expected error, as it is printed after `error:`: what is wrong, what was expected, what to do. Words in \
CAPITALS stand for the values found, `…` for further text. Search for a few words of your message; \
[Troubleshooting](../troubleshooting.md) has more detail on the common ones. The exit code is 2; \
`FOUNDRY_DEBUG=1` shows the traceback.

This page is generated from the source.
"""


def messages_page() -> str:
    """Return the page: the messages, grouped by subject."""
    parts = [INTRODUCTION]
    by_subject: dict[str, list[str]] = {}
    for call in messages():
        text = "\n".join(argument for argument in call.arguments[:3] if argument)
        if _says_something(call) and text not in by_subject.setdefault(_subject(call.path), []):
            by_subject[_subject(call.path)].append(text)
    for subject in SUBJECTS.values():
        parts.append(f"## {subject}\n")
        parts += [f"```text\n{text}\n```\n" for text in by_subject.get(subject, [])]
    return "\n".join(parts)


def messages() -> list[Call]:
    """Return the calls in the source that create an expected error."""
    paths = sorted(path for path in SOURCES.rglob("*.py") if "templates" not in path.parts)
    return [call for path in paths for call in calls(path, ERRORS)]


def _says_something(call: Call) -> bool:
    """Return whether the source states at least two of the lines; otherwise the text comes from another message."""
    return sum(len(argument.strip(f". {UNKNOWN}")) > _FEWEST_LETTERS for argument in call.arguments[:3]) > 1


def _subject(path: Path) -> str:
    return next(
        title for folder, title in SUBJECTS.items() if path.as_posix().startswith(f"{folder}/" if folder else "")
    )

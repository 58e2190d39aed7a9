"""The reference names everything that there is, with its meaning."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from tests.docs.pages import PROJECT, entries, generated
from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.core.checks.report.root_causes import CONSEQUENCES
from transformer_foundry.core.checks.runner import CHECKS

SOURCES = PROJECT / "src" / "transformer_foundry"


@pytest.mark.parametrize("section", SECTIONS)
def test_every_parameter_has_an_entry_with_meaning_and_default(section: str) -> None:
    listed = entries(generated()["reference/parameters.md"])

    for field in dataclasses.fields(SECTIONS[section]):
        lines = listed[f"`{section}.{field.name}` {{ #{section}.{field.name} }}"].strip().split("\n\n")
        assert len(lines[0]) > 10, field.name
        assert lines[1].startswith("Default `"), field.name


def test_the_default_is_that_of_the_quick_preset_and_others_are_told() -> None:
    entry = entries(generated()["reference/parameters.md"])["`training.max_steps` { #training.max_steps }"]

    assert "Default `400` (standard `4000`, thorough `20000`) · a whole number · at least 1 · steps" in entry


def test_ranges_are_those_that_parsing_refuses() -> None:
    entry = entries(generated()["reference/parameters.md"])["`training.beta1` { #training.beta1 }"]

    assert "at least 0 and below 1" in entry


def test_every_check_has_a_row_that_says_what_it_asks_for() -> None:
    rows = re.findall(r"^\| (.+?) \| (\d) \| (.+?) \| ", generated()["reference/checks.md"], flags=re.MULTILINE)
    listed = {name: (int(tier), promise) for name, tier, promise in rows}

    for check in CHECKS:
        tier, promise = listed[check.name]
        assert tier == check.tier
        assert len(promise) > 10, check.name


def test_every_finding_has_an_entry_with_its_meaning() -> None:
    listed = {title.split(" { ")[0]: text for title, text in entries(generated()["reference/checks.md"]).items()}

    for name in CONSEQUENCES:
        assert re.search(r'!!! \w+ "[a-z ]+"\n    .{20}', listed[name]), name


def test_no_finding_is_shown_without_a_word() -> None:
    assert not re.findall(r"!!! .*\n    [. …]*\n", generated()["reference/checks.md"])


def test_no_problem_is_shown_without_a_fix() -> None:
    boxes = re.findall(r'!!! (?:danger|warning) ".*?"\n(?:    .*\n|\n(?=    ))+', generated()["reference/checks.md"])

    without = [box for box in boxes if "**Fix:**" not in box]
    assert len(boxes) > 80
    # Text passed on from another message contains its own fix.
    assert all(re.search(r"…|cannot be (built|run)|not finite|NaN|never get a gradient", box) for box in without), (
        without
    )


@pytest.mark.parametrize("word", ["TrainingError", "DataError", "ModelError", "CheckpointError", "DeploymentError"])
def test_every_constant_first_line_of_an_error_is_on_the_page_of_messages(word: str) -> None:
    page = generated()["reference/messages.md"]

    told = [
        node.args[0].value
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == word and len(node.args) == 3
        if isinstance(node.args[0], ast.Constant)
    ]
    assert [text for text in told if text not in page] == []


def test_every_command_of_the_project_is_on_the_page_of_commands() -> None:
    from transformer_foundry.cli import cli

    names = [f"kedro {name}" for name in cli.commands]
    names += [f"kedro {name} {item}" for name, group in cli.commands.items() for item in getattr(group, "commands", ())]
    assert [name for name in names if name not in generated()["reference/commands.md"]] == []


def test_reading_a_sentence_keeps_its_words_and_names_its_values(tmp_path: Path) -> None:
    from source_text import render

    names = {"which": [ast.parse("'one' if x else 'two'", mode="eval").body]}
    call = ast.parse("f'{run.name} has {len(x)} steps.' + which", mode="eval").body
    assert render(call, names) == "NAME has … steps.one / two"

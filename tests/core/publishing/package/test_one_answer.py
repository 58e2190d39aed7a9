"""Text in, text out: transformers, the native model, ``inference.py``, the server and the page give one answer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.core.publishing.answers import answering_package, by_page, by_program, by_server, by_stream, by_transformers
from tests.core.publishing.package.test_text_encoding import HIDDEN, PLAIN, SPECIAL, TOO_LONG
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.publishing import Package
from transformer_foundry.core.publishing.package.npm_files import page_scripts

pytestmark = pytest.mark.slow

EMPTY = "There is nothing in the text; write at least one word."
SMALL = {"d_model": 64, "num_layers": 2, "dim_feedforward": 128}
WORDS = """the value list string returns name object number module type call argument error class""".split()  # noqa: SIM905
CAUSAL = [*PLAIN, *SPECIAL, *(f"The {word} of" for word in WORDS)][:52]
MASKED = [
    text.replace("<mask>", "[MASK]") for text in (*HIDDEN, *(f"The [MASK] of a {word} is" for word in WORDS * 2))
][:50]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    folder = tmp_path_factory.mktemp("answers")
    return {name: answering_package(name, folder, **SMALL) for name in ("gpt", "bert")}


def _has_page() -> bool:
    try:
        return bool(page_scripts(fetch=False)) and shutil.which("node") is not None
    except DeploymentError:
        return False


def different(texts: list[str], expected: list[Any], found: list[Any]) -> list[tuple[str, Any, Any]]:
    both = zip(texts, expected, found, strict=True)
    return [(text, answer, other) for text, answer, other in both if answer != other]


@pytest.mark.parametrize(("name", "texts"), [("gpt", CAUSAL), ("bert", MASKED)])
def test_one_text_has_one_answer(packages: dict[str, Package], name: str, texts: list[str], tmp_path: Path) -> None:
    package = packages[name]
    assert package.manifest["native"]["architecture"]
    given = [*texts, ""]
    answers = by_program(package, given)
    assert answers[-1]["error"]
    assert len({str(answer) for answer in answers}) > len(texts) // 2
    assert different(given, answers, by_server(package, given)) == []
    if name == "gpt":
        assert different(given, answers, by_stream(package, given)) == []
    if _has_page():
        assert different(given, answers, by_page(package, given, tmp_path)) == []
    # transformers cuts no text to continue, and has no rule for one that is empty or whose mask is cut off.
    shared = [text for text, answer in zip(texts, answers, strict=False) if text != TOO_LONG and "error" not in answer]
    assert len(shared) >= 49
    for found in by_transformers(package, shared):
        assert different(shared, by_program(package, shared), found) == []

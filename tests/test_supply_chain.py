"""The locked versions are those that are tested, each with the digest of its file."""

from __future__ import annotations

import re

from tests.integration.foundry import PROJECT


def versions(file: str) -> dict[str, str]:
    """Name -> version without the part that names a build (``+cpu``)."""
    lines = (PROJECT / file).read_text().splitlines()
    found = [re.match(r"([\w.-]+)==([^\s;+]+)", line) for line in lines]
    return {item[1].lower().replace("_", "-").replace(".", "-"): item[2] for item in found if item}


def test_every_locked_version_is_that_of_the_constraints_and_has_a_hash() -> None:
    locked, constraints = versions("requirements.lock"), versions("constraints.txt")
    assert len(locked) > 100
    assert {name: constraints.get(name) for name in locked} == locked
    lines = [line for line in (PROJECT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_what_foundry_needs_is_locked() -> None:
    needed = {"torch", "kedro", "transformers", "datasets", "huggingface-hub", "wandb", "optuna", "safetensors"}
    assert needed <= set(versions("requirements.lock"))

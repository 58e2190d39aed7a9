"""A name of a tokenizer is looked up before anything else is done; the Hub is asked once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loopback.mini_hub import MiniHub

ASK = """
import sys
from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.tokenizer.given import require_on_hub
for name in sys.argv[1:]:
    try:
        require_on_hub(name)
    except DataError as err:
        print(" ".join(str(err).splitlines()))
    else:
        print("found")
"""


def ask(names: list[str], env: dict[str, str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ASK, *names], env=os.environ | env, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_hub_is_asked_for_a_name_and_the_cache_first(tmp_path: Path) -> None:
    with MiniHub() as hub:
        hub.store.create("models", "alice/words", "alice")
        found, missing, kind = ask(["alice/words", "alice/wrods", "bpee"], hub.env(home=tmp_path))
        assert found == "found"
        assert "the Hub has no such repository" in missing
        assert "alice/wrods" in missing
        assert "'bpe'" in kind
        assert len(hub.requests) == 3
        snapshot = tmp_path / "hub" / "models--alice--words" / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "tokenizer.json").write_text("{}")
        refs = tmp_path / "hub" / "models--alice--words" / "refs"
        refs.mkdir()
        (refs / "main").write_text("0" * 40)
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    cached, unknown = ask(["alice/words", "alice/other"], hub.env(home=tmp_path) | offline)
    assert cached == "found"
    assert "the Hub did not answer, and its cache has none" in unknown

"""Data sets of the Hugging Face Hub, served over loopback to the real clients in a child process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.loopback.mini_hub import MiniHub

_READ = """
import json, sys
from transformer_foundry.core.data import DataOptions, read_corpus
from transformer_foundry.core.errors import DataError
for settings in json.loads(sys.argv[1]):
    try:
        corpus = read_corpus(DataOptions(**settings), "sequence_classification")
        print(json.dumps([sum(corpus.plan.counts.values()), corpus.label_names, corpus.stamp()]))
    except DataError as err:
        print(json.dumps([err.problem, err.expected, err.remedy]))
"""

_UPLOAD = """
import json
from huggingface_hub import HfApi
api = HfApi()
api.create_repo("alice/tiny", repo_type="dataset")
rows = [json.dumps({"text": f"text number {number}", "label": ["neg", "pos"][number % 2]}) for number in range(60)]
content = "\\n".join(rows).encode()
api.upload_file(path_or_fileobj=content, path_in_repo="train.jsonl", repo_id="alice/tiny", repo_type="dataset")
"""


def run(code, *arguments, home, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, "HF_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What reading gives with the Hub, then without it."""
    import json

    home = tmp_path_factory.mktemp("hf-home")
    requests = [{}, {"config_name": "zz"}, {"split": "zz"}, {"revision": "zz"}, {"split": "train[:30]"}]
    settings = json.dumps([{"source": "alice/tiny", **request} for request in [*requests, {"source": "alice/nope"}]])
    with MiniHub(tokens={"hf_test": "alice"}) as hub:
        online = {**hub.env("hf_test"), "HF_HUB_OFFLINE": "0"}
        run(_UPLOAD, home=home, **online)
        lines = run(_READ, settings, home=home, **online)
        lines += run(_READ, json.dumps([{"source": "alice/tiny"}]), home=home, HF_HUB_OFFLINE="1")
    names = ("plain", "config", "split", "revision", "part", "missing", "offline")
    return {name: json.loads(line) for name, line in zip(names, lines, strict=True)}


@pytest.mark.slow
def test_a_hub_data_set_is_read(answers):
    assert answers["plain"][:2] == [60, ["neg", "pos"]]
    assert answers["part"][0] == 30


@pytest.mark.slow
def test_what_was_read_once_is_read_again_without_a_network(answers):
    assert answers["offline"] == answers["plain"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        ("config", "BuilderConfig 'zz' not found", "data.config_name"),
        ("split", 'Unknown split "zz"', "data.split"),
        ("revision", "no data set alice/tiny", "data.revision"),
        ("missing", "no data set alice/nope", "data.source"),
    ],
)
def test_what_is_not_there_is_said_in_three_lines(answers, name, problem, remedy):
    assert problem in answers[name][0]
    assert remedy in answers[name][2]

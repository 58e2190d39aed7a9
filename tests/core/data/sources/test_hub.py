"""Datasets of the Hugging Face Hub, served over loopback to the real clients in child processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.loopback.mini_hub import MiniHub

_UPLOAD = """
import json, sys, tempfile
import datasets
from huggingface_hub import HfApi
api, folder = HfApi(), tempfile.mkdtemp()
rows = [{"text": f"text number {n}", "label": ["neg", "pos"][n % 2], "picture": {"bytes": n}} for n in range(60)]
content = "\\n".join(map(json.dumps, rows)).encode()
for name in ("plain", "private", "gated", "busy", "broken", "slow"):
    api.create_repo(f"alice/{name}", repo_type="dataset", private=name == "private")
    api.upload_file(path_or_fileobj=content, path_in_repo="train.jsonl", repo_id=f"alice/{name}", repo_type="dataset")
api.create_repo("alice/tables", repo_type="dataset")
for name, mark in (("a.tsv", "\\t"), ("b.csv", ";")):
    table = "\\n".join([f"text{mark}label", *(f"text number {n}{mark}{n % 2}" for n in range(60))]).encode()
    api.upload_file(path_or_fileobj=table, path_in_repo=name, repo_id="alice/tables", repo_type="dataset")
tags = datasets.List(datasets.ClassLabel(names=["O", "B-X"]))
features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags})
words = {"tokens": [["see", f"town{n}"] for n in range(50)], "ner_tags": [[0, 1]] * 50}
datasets.Dataset.from_dict(words, features=features).to_parquet(f"{folder}/train.parquet")
api.create_repo("alice/tags", repo_type="dataset")
api.upload_folder(folder_path=folder, repo_id="alice/tags", repo_type="dataset")
from tests.core.data.samples import contract_for, corpus_of, documents_for
from transformer_foundry.core.data import DataOptions, fit_tokenizer
corpus = corpus_of(documents_for("causal_lm"), "causal_lm")
fit_tokenizer(corpus, contract_for("causal_lm", 300), DataOptions()).save(f"{folder}/tokenizer")
api.create_repo("alice/tokenizer")
api.upload_folder(folder_path=f"{folder}/tokenizer", repo_id="alice/tokenizer")
"""

_READ = """
import json, os, sys, time
time.sleep = lambda seconds: None  # huggingface_hub waits 23 s in all between its attempts
from tests.core.data.samples import contract_for, corpus_of, documents_for
from transformer_foundry.core.data import DataOptions, fit_tokenizer, read_corpus
from transformer_foundry.core.base.errors import DataError
for line in sys.stdin:
    request = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    os.environ.update({"HF_TOKEN": request.pop("token")} if "token" in request else {})
    task = request.pop("task", "sequence_classification")
    vocab_size = request.pop("vocab_size", None)
    try:
        if vocab_size is not None:
            corpus, contract = corpus_of(documents_for("causal_lm"), "causal_lm"), contract_for("causal_lm", vocab_size)
            tokenizer = fit_tokenizer(corpus, contract, DataOptions(tokenizer=request["source"]))
            print(json.dumps([tokenizer.vocab_size, tokenizer.encode("the dog")]), flush=True)
            continue
        corpus = read_corpus(DataOptions(**request), task)
        answer = [sum(corpus.assignment.counts.values()), corpus.label_names, corpus.digest()]
    except DataError as err:
        answer = [err.problem, err.expected, err.remedy]
    print(json.dumps(answer), flush=True)
"""

# Time-outs of a second, so that nothing waits long; huggingface_hub tries five times all the same.
_QUICK = {"HF_HUB_ETAG_TIMEOUT": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}


class Reader:
    """A child process that reads datasets and answers with what it found, or with the three lines of the error."""

    def __init__(self, hub: MiniHub, home: Path) -> None:
        self.hub = hub
        self.environment = {**os.environ, **hub.env(home=home), **_QUICK}
        self._child = self._start(self.environment)

    def ask(self, source: str, **request: object) -> list:
        return self._talk(self._child, {"source": source, **request})

    def ask_offline(self, source: str) -> list:
        with self._start({**self.environment, "HF_HUB_OFFLINE": "1"}) as child:
            return self._talk(child, {"source": source})

    def close(self) -> None:
        self._child.stdin.close()
        self._child.wait()

    def _start(self, environment: dict[str, str]) -> subprocess.Popen:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-c", _READ], env=environment, text=True, **pipes)

    def _talk(self, child: subprocess.Popen, request: dict) -> list:
        child.stdin.write(json.dumps(request) + "\n")
        child.stdin.flush()
        return json.loads(child.stdout.readline())


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    with MiniHub(tokens={"hf_alice": "alice", "hf_bob": "bob"}) as hub:
        upload = {**os.environ, **hub.env("hf_alice", home=tmp_path_factory.mktemp("upload"))}
        subprocess.run([sys.executable, "-c", _UPLOAD], env=upload, check=True, capture_output=True)
        hub.repo("alice/gated", "datasets").admitted = frozenset({"alice"})
        found = Reader(hub, tmp_path_factory.mktemp("home"))
        yield found
        found.close()


@pytest.fixture(autouse=True)
def no_faults_left(reader):
    yield
    reader.hub.faults.clear()
    reader.hub.delays.clear()


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_dataset_is_read(reader, streaming):
    assert reader.ask("alice/plain", streaming=streaming)[:2] == [60, ["neg", "pos"]]


def test_a_part_of_a_split_is_read(reader):
    assert reader.ask("alice/plain", split="train[:30]")[0] == 30


def test_a_stream_is_read_as_far_as_asked_and_is_the_same_again(reader):
    found = reader.ask("alice/plain", streaming=True, max_documents=20)
    assert found[0] == 20
    assert reader.ask("alice/plain", streaming=True, max_documents=20)[2] == found[2]


def test_what_was_read_once_is_read_again_without_a_network(reader):
    assert reader.ask_offline("alice/plain") == reader.ask("alice/plain")


@pytest.mark.parametrize("streaming", [False, True])
def test_tags_keep_the_names_that_the_hub_declares(reader, streaming):
    assert reader.ask("alice/tags", task="token_classification", streaming=streaming)[:2] == [50, ["O", "B-X"]]


# Before the next test: what was read with a token is in the cache and can be read again without.
@pytest.mark.parametrize(
    ("request_", "problem", "remedy"),
    [
        ({"source": "alice/plain", "config_name": "zz"}, "BuilderConfig 'zz' not found", "data.config_name"),
        ({"source": "alice/plain", "split": "zz"}, 'Unknown split "zz"', "data.split"),
        ({"source": "alice/plain", "split": "zz", "streaming": True}, "Bad split: zz", "data.split"),
        ({"source": "alice/plain", "revision": "zz"}, "no dataset alice/plain", "data.revision"),
        ({"source": "alice/plain", "text_column": "txt"}, "has no column txt (data.text_column)", "data.text_column"),
        ({"source": "alice/nope"}, "no dataset alice/nope", "data.source"),
        ({"source": "alice/private", "token": "hf_bob"}, "no dataset alice/private", "HF_TOKEN"),
        ({"source": "alice/private", "token": "hf_wrong"}, "HTTP 401", "HF_TOKEN"),
        ({"source": "alice/gated", "token": "hf_bob"}, "alice/gated is gated", "Request access"),
        ({"source": "alice/gated"}, "alice/gated is gated", "HF_TOKEN"),
    ],
)
def test_what_cannot_be_had_is_said_in_three_lines(reader, request_, problem, remedy):
    found = reader.ask(**request_)
    assert problem in found[0]
    assert found[1]
    assert remedy in found[2]


@pytest.mark.parametrize("name", ["private", "gated"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_private_or_gated_dataset_is_read_with_a_token_that_may(reader, name, streaming):
    assert reader.ask(f"alice/{name}", token="hf_alice", streaming=streaming)[0] == 60


def test_a_file_is_read_from_its_url(reader):
    address = f"{reader.hub.url}/datasets/alice/plain/resolve/main"
    assert reader.ask(f"{address}/train.jsonl")[0] == 60
    assert "nope.jsonl" in reader.ask(f"{address}/nope.jsonl")[0]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["a.tsv", "b.csv"])
def test_the_separator_of_a_table_at_a_url_is_found(reader, name, streaming):
    address = f"{reader.hub.url}/datasets/alice/tables/resolve/main/{name}"
    assert reader.ask(address, streaming=streaming)[:2] == [60, ["0", "1"]]


def test_a_hub_tokenizer_of_the_models_size_is_used_and_a_larger_one_refused(reader):
    fitting, refused = (reader.ask("alice/tokenizer", vocab_size=size) for size in (300, 280))
    assert fitting[0] == 300
    assert len(fitting[1]) >= 2
    assert refused[0] == "The tokenizer alice/tokenizer has 300 tokens but the model only 280."
    assert "vocab_size 300" in refused[2]


def test_a_hub_tokenizer_that_is_not_there_is_refused(reader):
    found = reader.ask("alice/nothing", vocab_size=300)
    assert found[0].startswith("The tokenizer alice/nothing cannot be read")
    assert "'auto'" in found[2]


def test_a_busy_hub_is_asked_again(reader):
    reader.hub.fail_next(503, times=2, path="*busy*")
    assert reader.ask("alice/busy")[0] == 60


def test_a_hub_that_stays_broken_is_given_up(reader):
    reader.hub.fail_next(503, times=500, path="*broken*")
    found = reader.ask("alice/broken")
    assert "the server fails (HTTP 503)" in found[0]
    assert "Run again later" in found[2]


def test_a_hub_that_does_not_answer_is_given_up(reader):
    reader.hub.stall_next(2, times=500, path="*slow*")
    found = reader.ask("alice/slow")
    assert "does not answer in time" in found[0]
    assert "local copy" in found[2]

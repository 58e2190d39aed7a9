"""Each bundled sample trains from a csv, from a jsonl and from a dataset of a loopback Hub."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest

from tests.core.data.samples import WORDS, sentences
from tests.loopback.mini_hub import MiniHub

_UPLOAD = """
import sys
from huggingface_hub import HfApi
api = HfApi()
for kind in ("text", "pairs"):
    name = f"alice/{kind}"
    api.create_repo(name, repo_type="dataset", private=True)
    file = f"{sys.argv[1]}/{kind}.jsonl"
    api.upload_file(path_or_fileobj=file, path_in_repo="train.jsonl", repo_id=name, repo_type="dataset")
"""

_TRAIN = """
import json, sys
from transformer_foundry.core import models, training
from transformer_foundry.core.data import DataOptions, fit_tokenizer, prepare_splits, read_corpus
for sample, source, folder in json.load(sys.stdin):
    adapter = models.load_model(models.read_export(f"data/01_raw/exports/{sample}"))
    contract, options = adapter.contract, DataOptions(source=source, max_length=32)
    corpus = read_corpus(options, contract.task, contract.num_labels)
    tokenizer = fit_tokenizer(corpus, contract, options)
    splits = prepare_splits(corpus, tokenizer, contract, options, folder)
    settings = training.TrainingOptions(max_steps=8, learning_rate=3e-3, per_device_train_batch_size=8, warmup_ratio=0)
    metrics = [record.metrics for record in training.fit(adapter, splits, settings) if hasattr(record, "metrics")]
    losses = [found["train/loss"] for found in metrics if "train/loss" in found]
    print(json.dumps([losses[0], losses[-1]]), flush=True)
"""


def write_sources(folder):
    """The same texts and pairs as csv and as jsonl."""
    pairs = [{"question": text, "answer": " ".join(WORDS[:4])} for text in sentences(400)]
    for kind, rows in (("text", [{"text": pair["question"]} for pair in pairs]), ("pairs", pairs)):
        (folder / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        with (folder / f"{kind}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.slow
def test_every_sample_trains_from_a_csv_a_jsonl_and_a_private_hub_data_set(tmp_path):
    write_sources(tmp_path)
    wanted = [
        (sample, source.format(kind=kind), str(tmp_path / f"{sample}-{number}"))
        for sample, kind in (("gpt", "text"), ("bert", "text"), ("t5", "pairs"), ("t5", "text"))
        for number, source in enumerate((f"{tmp_path}/{{kind}}.csv", f"{tmp_path}/{{kind}}.jsonl", "alice/{kind}"))
    ]
    with MiniHub(tokens={"hf_test": "alice"}) as hub:
        environment = {**os.environ, **hub.env("hf_test", home=tmp_path / "home")}
        subprocess.run([sys.executable, "-c", _UPLOAD, str(tmp_path)], env=environment, check=True, capture_output=True)
        command = [sys.executable, "-c", _TRAIN]
        done = subprocess.run(command, input=json.dumps(wanted), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    losses = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(losses) == len(wanted)
    assert all(last < first - 0.1 for first, last in losses), losses

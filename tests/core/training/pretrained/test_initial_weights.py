"""Beginning with trained weights: every tensor accounted for, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.core.export import small_models
from tests.core.publishing.packaging import make_package, write_export
from tests.core.training.tiny import VOCAB_SIZE, TinyTransformer, checkpoints, make_model, make_splits, run
from tests.loopback.mini_hub import MiniHub
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.files.atomic import sha256_of
from transformer_foundry.core.models import Adapter, adapt
from transformer_foundry.core.publishing import Package
from transformer_foundry.core.training import (
    load_initial_weights,
    read_weight_source,
    transfer_weights,
    write_checkpoint,
)
from transformer_foundry.core.training.checkpointing.state import capture_model
from transformer_foundry.core.training.pretrained.source import WeightSource

CONFIG = {"vocab_size": VOCAB_SIZE, "max_seq_len": 12}


def adapted(task: str) -> Adapter:
    kind = {"causal_lm": "decoder-only", "seq2seq_lm": "encoder-decoder"}.get(task, "encoder-only")
    return adapt(make_model(task), CONFIG, kind=kind, task=task)


def source_of(adapter: Adapter, **changes: Any) -> WeightSource:
    """The weights of ``adapter``, other than those a new model has."""
    for parameter in adapter.parameters():
        parameter.data.add_(1.0)
    kind, task = adapter.contract.kind, adapter.contract.task
    source = WeightSource("old", "run old, step 9", "a" * 64, capture_model(adapter.model), kind=kind, task=task)
    return dataclasses.replace(source, **changes)


def write_run(folder: Path, task: str = "masked_lm") -> Path:
    """A run with one checkpoint and the manifest that the pipeline writes."""
    last = checkpoints(run(make_model(task), make_splits(task), max_steps=4, num_samples=0))[-1]
    write_checkpoint(folder, last)
    manifest = {"model": {"kind": "encoder-only", "task": task, "vocabulary": "v"}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("task", ["causal_lm", "masked_lm", "seq2seq_lm", "sequence_classification"])
def test_a_model_takes_all_tensors_of_its_like(task: str) -> None:
    target, source = adapted(task), source_of(adapted(task))
    transfer = transfer_weights(target, source)
    assert (set(transfer.loaded), transfer.new, transfer.unused) == (set(source.tensors), (), ())
    assert all(torch.equal(value, source.tensors[name]) for name, value in target.model.state_dict().items())


def test_a_classifier_takes_the_body_of_a_masked_model_and_a_head_of_its_own() -> None:
    target, source = adapted("sequence_classification"), source_of(adapted("masked_lm"))
    head = target.model.head.weight.detach().clone()
    transfer = transfer_weights(target, source)
    assert (transfer.new, transfer.unused) == (("head.weight",), ("head.weight",))
    assert torch.equal(target.model.head.weight, head)
    assert torch.equal(target.model.embedding.weight, source.tensors["embedding.weight"])


def test_tied_and_untied_weights_fill_each_other() -> None:
    untied = adapted("causal_lm")
    untied.model.head.weight = torch.nn.Parameter(untied.model.head.weight.detach().clone())
    tied = source_of(adapted("causal_lm"))
    assert len(transfer_weights(untied, tied).loaded) == len(tied.tensors)
    untied.model.head.weight.data.add_(5.0)
    target = adapted("causal_lm")
    transfer = transfer_weights(target, source_of(untied))
    assert transfer.unused == ("head.weight",)  # the embedding came first, and they are one tensor here
    assert "embedding.weight" in transfer.loaded


def test_wrong_shapes_are_refused_with_both_shapes_and_nothing_is_changed() -> None:
    target, source = adapted("causal_lm"), source_of(adapted("causal_lm"))
    before = capture_model(target.model)
    wrong = dict(source.tensors) | {"embedding.weight": torch.zeros(40, 16), "head.weight": torch.zeros(40, 16)}
    with pytest.raises(CheckpointError, match=r"embedding\.weight \(40, 16\) there, \(32, 16\) here; head\.weight"):
        transfer_weights(target, dataclasses.replace(source, tensors=wrong))
    assert all(torch.equal(value, before[name]) for name, value in target.model.state_dict().items())


def test_another_kind_of_model_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"are of a model that is decoder-only; this model is encoder-only"):
        transfer_weights(adapted("masked_lm"), source_of(adapted("causal_lm")))


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(CheckpointError, match="embeddings would mean other words"):
        transfer_weights(adapted("causal_lm"), source_of(adapted("causal_lm"), vocabulary="a"), "b")


def test_weights_with_other_names_are_refused() -> None:
    source = source_of(adapted("causal_lm"))
    renamed = {f"other.{name}": value for name, value in source.tensors.items()}
    with pytest.raises(CheckpointError, match="No weight of run old, step 9 has a name of the model"):
        transfer_weights(adapted("causal_lm"), dataclasses.replace(source, tensors=renamed))


def test_a_run_is_a_source_by_name_and_by_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "old")
    by_name, by_folder = read_weight_source("old", tmp_path), read_weight_source(str(folder), tmp_path / "else")
    assert by_name.sha256 == by_folder.sha256
    assert (by_name.kind, by_name.task, by_name.vocabulary) == ("encoder-only", "masked_lm", "v")
    assert by_name.origin == "run old, step 4"


def test_a_damaged_run_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "old")
    weights = next(folder.glob("checkpoints/*/weights.safetensors"))
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(CheckpointError):
        read_weight_source("old", tmp_path)


def test_a_run_that_goes_on_needs_its_source_no_more(tmp_path: Path) -> None:
    write_run(tmp_path / "old")
    adapter = adapted("sequence_classification")
    begun = load_initial_weights(adapter, "old", state=None, manifest={}, runs_folder=tmp_path)
    assert begun["init_from"]["new"] == ["head.weight"]
    records = run(adapter, make_splits("sequence_classification"), max_steps=4, num_samples=0)
    state = checkpoints(records)[-1].state
    again = load_initial_weights(adapter, "old", state=state, manifest=begun, runs_folder=tmp_path / "gone")
    assert again == begun


@pytest.mark.parametrize(("begun", "words"), [({}, "weights of its own"), ({"source": "older"}, "weights of older")])
def test_a_run_that_goes_on_keeps_to_what_it_began_with(tmp_path: Path, begun: dict[str, str], words: str) -> None:
    state = checkpoints(run(max_steps=4, num_samples=0))[-1].state
    manifest = {"init_from": begun} if begun else {}
    with pytest.raises(CheckpointError, match=words):
        load_initial_weights(adapted("causal_lm"), "old", state=state, manifest=manifest, runs_folder=tmp_path)


def test_a_fork_cannot_also_begin_with_other_weights(tmp_path: Path) -> None:
    state = dataclasses.replace(checkpoints(run(max_steps=4, num_samples=0))[-1].state, forked_from="there")
    with pytest.raises(CheckpointError, match=r"Both run\.fork_from"):
        load_initial_weights(adapted("causal_lm"), "old", state=state, manifest={}, runs_folder=tmp_path)


@pytest.mark.parametrize("name", ["nothing", "no/such/place", ""])
def test_a_source_that_is_nowhere_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"model\.init_from is"):
        read_weight_source(name, tmp_path)


def test_the_nearest_run_or_folder_is_named_for_a_source_that_is_misspelt(tmp_path: Path) -> None:
    write_run(tmp_path / "bert-small")
    for name, meant in (("brt-small", "bert-small"), (f"{tmp_path}/bertsmall", f"{tmp_path}/bert-small")):
        with pytest.raises(CheckpointError) as caught:
            read_weight_source(name, tmp_path)
        assert caught.value.problem.endswith(f"Did you mean '{meant}'?")


def test_a_file_of_weights_alone_is_not_verified(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="not verified"):
        read_weight_source(str(tmp_path), tmp_path / "runs")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Package]:
    return make_package(write_export(tmp_path_factory.mktemp("export") / "gpt", small_models.RotaryGpt))


def test_a_package_fills_its_model(package: tuple[Adapter, Package]) -> None:
    adapter, made = package
    source = read_weight_source(str(made.folder), Path("runs"))
    transfer = transfer_weights(adapter, source)
    assert set(transfer.loaded) >= set(adapter.model.state_dict())
    assert transfer.new == ()


def test_a_package_whose_weights_changed_or_failed_is_refused(package: tuple[Adapter, Package], tmp_path: Path) -> None:
    manifest = json.loads((package[1].folder / "manifest.json").read_text())
    for file in package[1].folder.glob("*.safetensors"):
        (tmp_path / file.name).write_bytes(file.read_bytes() + b"x")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="is not what its manifest says"):
        read_weight_source(str(tmp_path), tmp_path / "runs")
    failed = [entry | {"status": "failed"} for entry in manifest["formats"]]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"formats": failed}))
    with pytest.raises(CheckpointError, match="the status 'failed'"):
        read_weight_source(str(tmp_path), tmp_path / "runs")


def test_a_package_whose_tokenizer_takes_any_memory_is_refused(
    package: tuple[Adapter, Package], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(package[1].folder, tmp_path / "package"))
    growing = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
    described = {
        "version": "1.0", "truncation": None, "padding": None, "pre_tokenizer": None, "post_processor": None,
        "decoder": None, "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"},
        "added_tokens": [{"id": 0, "content": "a", "normalized": True, "special": False}],
        "normalizer": {"type": "Sequence", "normalizers": [growing] * 3},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(described))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["tokenizer.json"] = {"sha256": sha256_of(folder / "tokenizer.json")}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="normalizer makes a text more than"):
        read_weight_source(str(folder), tmp_path / "runs")


READ = """
import sys
from pathlib import Path
from transformer_foundry.core.base.errors import CheckpointError
from transformer_foundry.core.training import read_weight_source
for name in sys.argv[1:]:
    try:
        source = read_weight_source(name, Path("runs"))
        print(source.sha256, len(source.tensors), source.origin)
    except CheckpointError as err:
        print(err.problem)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "manifest",
    [
        {"formats": [5], "files": {"a": 1}, "model": {}},
        {"formats": [{"format": "pytorch", "status": "verified"}], "files": {"a": 1}, "model": {}},
        {"formats": [{"format": "pytorch", "status": "verified", "file": "a"}], "files": {"b": 1}, "model": {}},
        {"formats": [{"format": "pytorch", "status": "verified", "file": "a"}], "files": {"a": 1}, "model": {}},
        {"formats": [{"format": "pytorch", "status": "verified", "file": "../a"}], "files": {"../a": {}}, "model": {}},
    ],
)
def test_a_manifest_that_is_made_otherwise_is_refused(tmp_path: Path, manifest: object) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    for file in (folder / "a", tmp_path / "a"):
        file.write_bytes(b"no weights")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="not verified"):
        read_weight_source(str(folder), tmp_path)


def test_a_repository_of_the_hub_is_a_source(package: tuple[Adapter, Package], tmp_path: Path) -> None:
    made = package[1]
    upload = "import sys, huggingface_hub as h; h.create_repo(sys.argv[2]); "
    upload += "h.upload_folder(repo_id=sys.argv[2], folder_path=sys.argv[1])"
    with MiniHub({"hf_alice": "alice"}) as hub:
        environment = os.environ | hub.env(home=tmp_path / "home") | {"HF_TOKEN": "hf_alice"}
        for arguments in ([upload, str(made.folder), "alice/gpt"], [READ, "alice/gpt", "alice/none"]):
            answer = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", *arguments],
                env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
            )  # fmt: skip
            assert answer.returncode == 0, answer.stderr
    found, missing = answer.stdout.splitlines()[-2:]
    expected = read_weight_source(str(made.folder), Path("runs"))
    assert found.startswith(f"{expected.sha256} {len(expected.tensors)} Hub repository alice/gpt at ")
    assert "the Hub has no such repository" in missing


def test_tiny_models_differ_in_the_head_only() -> None:
    """What the tests above rest on."""
    assert isinstance(make_model("masked_lm"), TinyTransformer)
    assert make_model("sequence_classification").head.weight.shape == (3, 16)

"""A package with model.gguf: a drawn GPT in the bytes that llama.cpp reads, its card, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.core.export.gguf.tiny import byte_tokenizer
from tests.core.publishing.packaging import make_package
from tests.loopback.hub_cards import card_errors
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds, Tokenizer
from transformer_foundry.core.export.gguf.file import read_gguf
from transformer_foundry.core.export.gguf.llama_cpp import has_llama_cpp
from transformer_foundry.core.export.gguf.package import add_gguf
from transformer_foundry.core.export.gguf.reference import GgufModel
from transformer_foundry.core.models import Adapter, read_export
from transformer_foundry.core.publishing import Package

pytest.importorskip("gguf")

BUNDLED = Path(__file__).parents[4] / "data" / "01_raw" / "exports"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Package]:
    folder = tmp_path_factory.mktemp("export") / "gpt"
    shutil.copytree(BUNDLED / "gpt", folder)
    sizes = {"vocab_size": 320, "d_model": 32, "num_layers": 2, "dim_feedforward": 48, "max_seq_len": 24}
    settings = json.loads((folder / "config.json").read_text()) | sizes
    (folder / "config.json").write_text(json.dumps(settings))
    tokenizer = Tokenizer(byte_tokenizer(), SpecialIds(pad=0, bos=1, eos=2), max_length=24, algorithm="bpe")
    return make_package(read_export(folder), tokenizer=tokenizer, formats=["pytorch", "transformers", "gguf"])


@pytest.mark.slow
def test_the_file_has_the_logits_of_the_drawn_model_and_the_manifest_says_so(made: tuple[Adapter, Package]) -> None:
    adapter, package = made
    entry = package.manifest["formats"][-1]
    assert (entry["format"], entry["status"], entry["file"]) == ("gguf", "verified", "model.gguf")
    assert entry["architecture"] == "gpt2"
    assert entry["max_abs_error"] <= entry["tolerance"]
    ids = torch.tensor([[1, 9, 10, 11, 12]])
    with torch.no_grad():
        expected = adapter(ids)
    found = GgufModel(package.folder / "model.gguf", exact_gelu=True).logits(ids)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert "computes GELU by the error function and llama.cpp in the tanh form" in entry["note"]
    assert ("llama_cpp" in entry) == has_llama_cpp()


@pytest.mark.slow
def test_name_license_and_tokenizer_are_in_the_file(made: tuple[Adapter, Package]) -> None:
    metadata, _ = read_gguf(made[1].folder / "model.gguf")
    assert metadata["general.name"] == made[1].manifest["model"]["name"]
    assert metadata["general.license"] == "apache-2.0"
    assert metadata["gpt2.context_length"] == 24
    assert metadata["tokenizer.ggml.tokens"][:3] == ["<|pad|>", "<|bos|>", "<|eos|>"]


@pytest.mark.slow
def test_the_modelfile_continues_a_prompt_as_it_is(made: tuple[Adapter, Package]) -> None:
    assert (made[1].folder / "Modelfile").read_text().splitlines() == [
        "FROM ./model.gguf",
        "PARAMETER num_ctx 24",
        "PARAMETER temperature 0.8",
        'PARAMETER stop "<|eos|>"',
        'TEMPLATE """{{ .Prompt }}"""',
    ]


@pytest.mark.slow
def test_the_card_says_what_was_run_and_what_follows(made: tuple[Adapter, Package]) -> None:
    card = (made[1].folder / "README.md").read_text()
    assert "| gguf | `model.gguf` |" in card
    run = "run: llama-cpp-python" if has_llama_cpp() else "follows from the architecture | `llama-completion"
    assert f"| llama.cpp | {run}" in card
    assert "| Ollama | follows from the architecture | `ollama create NAME -f Modelfile` |" in card
    assert "| vLLM | follows from the architecture | `vllm serve native` |" in card
    assert "| MLX-LM | no |  |" in card
    assert card_errors(card) == []


@pytest.mark.slow
def test_damage_of_the_file_is_seen_by_the_package_itself(made: tuple[Adapter, Package], tmp_path: Path) -> None:
    folder = shutil.copytree(made[1].folder, tmp_path / "package")
    assert {"model.gguf", "Modelfile"} <= made[1].manifest["files"].keys()
    with (folder / "model.gguf").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    said = subprocess.run([sys.executable, "verify_files.py"], cwd=folder, capture_output=True, text=True)
    assert (said.returncode, "model.gguf" in said.stderr) == (2, True)


@pytest.mark.slow
def test_a_tokenizer_that_llama_cpp_cannot_read_and_a_model_that_it_does_not_have_are_refused(
    made: tuple[Adapter, Package], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made[1].folder, tmp_path / "package"))
    (folder / "model.gguf").unlink()
    file = folder / "native" / "tokenizer.json"
    written = json.loads(file.read_text())
    file.write_text(json.dumps(written | {"normalizer": {"type": "NFC"}}))
    entry = add_gguf(folder, made[0], made[1].manifest, 1e-4, "mit")
    assert (entry["status"], entry["stage"], entry["file"]) == ("failed", "export", None)
    assert "changes texts first (NFC)" in entry["reason"]
    unknown = {"native": {"architecture": None, "reason": "it would be a GPT-2 if its head had no bias"}}
    entry = add_gguf(folder, made[0], made[1].manifest | unknown, 1e-4, "mit")
    assert entry["reason"] == "it is made from the native model, and it would be a GPT-2 if its head had no bias"
    assert not (folder / "model.gguf").exists()

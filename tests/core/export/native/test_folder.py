"""A drawn GPT in a package as GPT2LMHeadModel: loaded by transformers where neither this project nor its code is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

from tests.core.export.transformers_code.test_auto_map import run_alone
from tests.core.publishing.packaging import make_package
from tests.loopback.hub_client import HubClient
from tests.loopback.mini_hub import MiniHub
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds, Tokenizer
from transformer_foundry.core.export.native.folder import _with_older_names
from transformer_foundry.core.export.transformers_code.auto_map import prepare_tokenizer
from transformer_foundry.core.models import Adapter, read_export
from transformer_foundry.core.publishing import Package, read_package
from transformer_foundry.datasets import PackageDataset

BUNDLED = Path(__file__).parents[4] / "data" / "01_raw" / "exports"

LOADED = """
model = transformers.AutoModelForCausalLM.from_pretrained(folder)
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
alone = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/native")
ids = torch.tensor([[1, 9, 10, 11, 12]])
write = transformers.pipeline("text-generation", folder)
texts = [write(prompt, max_new_tokens=6, do_sample=False, return_full_text=False)[0]["generated_text"]
         for prompt in json.loads(open(f"{scratch}/prompts").read())]
written = model.generate(ids, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
same = all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), alone.state_dict().values()))
print(json.dumps({"class": type(model).__name__, "module": type(model).__module__, "written": written[0].tolist(),
                  "logits": model(ids).logits[0, -1].tolist(), "same": same, "side": tokenizer.padding_side,
                  "eos": model.generation_config.eos_token_id, "texts": texts}))
"""


def continued(adapter: Adapter, prompt: str) -> str:
    """Greedy continuation by six tokens, the start of documents first, without a cache: what the programs compute."""
    ids = [1, *(int(word[1:]) for word in prompt.split())]
    written: list[int] = []
    with torch.no_grad():
        while len(written) < 6 and written[-1:] != [2]:
            written.append(int(adapter(torch.tensor([ids + written]))[0, -1].argmax()))
    return " ".join(f"w{number}" for number in written if number > 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Package]:
    folder = tmp_path_factory.mktemp("export") / "gpt"
    shutil.copytree(BUNDLED / "gpt", folder)
    sizes = {"vocab_size": 96, "d_model": 32, "num_layers": 2, "dim_feedforward": 48, "max_seq_len": 24}
    settings = json.loads((folder / "config.json").read_text()) | sizes
    (folder / "config.json").write_text(json.dumps(settings))
    return make_package(read_export(folder), formats=["pytorch", "transformers"])


@pytest.mark.slow
def test_the_bundled_gpt_is_loaded_without_code_and_writes_the_same(
    made: tuple[Adapter, Package], tmp_path: Path
) -> None:
    adapter, package = made
    assert not (package.folder / "modeling_foundry.py").exists()
    prompts = [f"w{number} w{number + 7} w{90 - number}" for number in range(9, 19)]
    (tmp_path / "prompts").write_text(json.dumps(prompts))
    said = run_alone(package.folder, tmp_path, LOADED)
    assert said["texts"] == [continued(adapter, prompt) for prompt in prompts]
    ids = torch.tensor([[1, 9, 10, 11, 12]])
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(said["logits"]), adapter(ids)[0, -1], rtol=1e-4, atol=1e-4)
        for _ in range(12):
            ids = torch.cat([ids, adapter(ids)[:, -1].argmax(-1, keepdim=True)], 1)
    assert said["written"] == ids[0].tolist()
    assert (said["class"], said["same"], said["side"], said["eos"]) == ("GPT2LMHeadModel", True, "left", 2)
    assert said["module"].startswith("transformers.models.gpt2")


@pytest.mark.slow
def test_manifest_and_card_name_the_architecture_and_every_file_of_it(made: tuple[Adapter, Package]) -> None:
    _, package = made
    manifest, card = package.manifest, (package.folder / "README.md").read_text()
    assert manifest["native"] == {"architecture": "GPT2LMHeadModel", "model_type": "gpt2", "folder": "native"}
    entry = manifest["formats"][-1]
    assert (entry["format"], entry["status"], entry["file"]) == ("transformers", "verified", "native/model.safetensors")
    assert {"native/config.json", "native/model.safetensors", "native/tokenizer.json"} <= manifest["files"].keys()
    assert "GPT2LMHeadModel" in card
    assert "trust_remote_code" not in card


@pytest.mark.slow
def test_the_native_folder_is_kept_by_the_catalog_and_damage_in_it_is_seen(
    made: tuple[Adapter, Package], tmp_path: Path
) -> None:
    copied = Package(shutil.copytree(made[1].folder, tmp_path / "made"), made[1].manifest)
    entry = PackageDataset(filepath=str(tmp_path / "kept"))
    entry.save(copied)
    entry.save(Package(shutil.copytree(made[1].folder, tmp_path / "again"), made[1].manifest))
    assert read_package(tmp_path / "kept").manifest == json.loads(json.dumps(made[1].manifest))
    (tmp_path / "kept" / "native" / "config.json").write_text("{}")
    with pytest.raises(Exception, match=r"native/config\.json"):
        read_package(tmp_path / "kept")


@pytest.mark.slow
def test_the_hub_gives_it_by_the_name_of_the_repository(made: tuple[Adapter, Package], tmp_path: Path) -> None:
    with MiniHub({"hf_alice": "alice"}) as hub, HubClient(hub, tmp_path / "home") as client:
        published = client.publish(made[1].folder, "alice/native")
        names = hub.repo("alice/native").head.files.keys()
    # A process has loaded the revision with from_pretrained("alice/native") and compared it with the package.
    assert published["difference"] < 1e-4
    assert {"config.json", "native/config.json", "native/model.safetensors"} <= names
    assert not any(name.endswith("foundry.py") for name in names)


@pytest.mark.parametrize(
    ("kind", "rope", "older"),
    [
        ("llama", {"rope_theta": 300.0}, {"rope_theta": 300.0}),
        ("qwen2", {"rope_theta": 300.0}, {"rope_theta": 300.0}),
        ("gpt_neox", {"rope_theta": 50.0, "partial_rotary_factor": 0.5}, {"rotary_emb_base": 50.0, "rotary_pct": 0.5}),
    ],
)
def test_rotary_positions_have_the_names_that_other_programs_read_too(
    kind: str, rope: dict[str, float], older: dict[str, float], tmp_path: Path
) -> None:
    config = transformers.AutoConfig.for_model(kind, rope_parameters=rope | {"rope_type": "default"})
    config.save_pretrained(tmp_path)
    written = _with_older_names(json.loads((tmp_path / "config.json").read_text()))
    assert older.items() <= written.items()
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert transformers.AutoConfig.from_pretrained(tmp_path).rope_parameters == config.rope_parameters


def test_a_mask_takes_the_space_before_it_as_in_the_programs(tmp_path: Path) -> None:
    words = {word: number for number, word in enumerate(["<pad>", "<mask>", "a", "b", "\u0120"])}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(words, []))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.add_special_tokens(["<pad>", "<mask>"])
    Tokenizer(backend, SpecialIds(pad=0, mask=1)).save(tmp_path)
    encoding = {"prefix": [], "mask_takes_space": True, "mask_text": "<mask>"}
    prepare_tokenizer(tmp_path, {"model": {"task": "masked_lm"}, "encoding": encoding})
    read = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert read("a <mask> b")["input_ids"] == [2, 1, 4, 3]

"""The package: what is in it, that it works alone, and that damage is seen."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.core.export import small_models
from tests.core.models.sound_styles import write_style
from tests.core.publishing.packaging import checkpoint_of, make_package, run_alone, run_program, write_export
from tests.loopback.hub_cards import card_errors
from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.export.formats.pytorch import write_weights
from transformer_foundry.core.export.verification.reference_inputs import reference_inputs
from transformer_foundry.core.models import Adapter, ModelSource, load_model, read_export
from transformer_foundry.core.publishing import Package, read_package, require_whole
from transformer_foundry.core.publishing.package.templates import load_example

MODELS = {
    "causal_lm": (small_models.RotaryGpt, {}),
    "masked_lm": (small_models.MaskedEncoder, {"model_type": "bert", "pad_token_id": 0, "mask_token_id": 4}),
    "sequence_classification": (small_models.MaskedEncoder, {"num_classes": 3, "pad_token_id": 0}),
    "seq2seq_lm": (small_models.Translator, {"pad_token_id": 0, "decoder_start_token_id": 0}),
}


@pytest.fixture(scope="module", params=sorted(MODELS))
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ModelSource, Adapter, Package]:
    model, config = MODELS[request.param]
    export = write_export(tmp_path_factory.mktemp("export") / request.param, model, **config)
    adapter, package = make_package(export)
    assert package.manifest["model"]["task"] == request.param
    return export, adapter, package


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return make_package(write_export(tmp_path_factory.mktemp("export") / "gpt", small_models.RotaryGpt))[1]


@pytest.fixture
def package(original: Package, tmp_path: Path) -> Package:
    """A package that a test may damage."""
    return Package(shutil.copytree(original.folder, tmp_path / "package"), original.manifest)


@pytest.mark.slow
def test_modules_beside_model_py_are_packaged_and_loaded(tmp_path: Path) -> None:
    export = read_export(write_style(tmp_path / "export", "a package beside model.py, relative imports", vocab_size=96))
    adapter, package = make_package(export, formats=["pytorch", "transformers"])
    ids = torch.arange(5, 15).view(2, 5)
    code = (
        "import torch, load_example as e; print(e.load_model()(torch.arange(5, 15).view(2, 5)).double().sum().item())"
    )
    with torch.no_grad():
        assert float(run_alone(package.folder, code=code)) == pytest.approx(adapter(ids).double().sum().item())
    assert read_export(package.folder).identity == export.identity
    assert "imports layers/__init__.py" in package.manifest["formats"][-1]["reason"]


@pytest.mark.slow
def test_two_packages_of_the_same_parts_have_the_same_bytes_wherever_the_model_lies(tmp_path: Path) -> None:
    formats = ["pytorch", "pt2", "onnx", "onnx-int8", "transformers"]
    folders = []
    for place in ("a", "another/place"):
        export = write_export(tmp_path / place / "model", small_models.RotaryGpt)
        folders.append(make_package(export, formats=formats)[1].folder)
    files = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]

    assert [name for name in files[0] if files[0][name] != files[1][name]] == []
    here = str(tmp_path).encode(), str(Path(torch.__file__).parents[1]).encode()
    assert [name for name, content in files[0].items() if any(path in content for path in here)] == []


def test_the_manifest_has_the_sha256_of_every_file(made: tuple[ModelSource, Adapter, Package]) -> None:
    _, _, package = made
    names = {path.name for path in package.folder.iterdir()}
    assert names == set(package.manifest["files"]) | {"manifest.json"}
    for name, entry in package.manifest["files"].items():
        assert hashlib.sha256((package.folder / name).read_bytes()).hexdigest() == entry["sha256"]
    assert json.loads((package.folder / "manifest.json").read_text()) == package.manifest


def test_the_users_files_are_untouched(made: tuple[ModelSource, Adapter, Package]) -> None:
    export, _, package = made
    for name in ("model.py", "config.json"):
        assert (package.folder / name).read_bytes() == (export.folder / name).read_bytes()


def test_load_example_gives_the_models_own_logits_without_this_project(
    made: tuple[ModelSource, Adapter, Package],
) -> None:
    _, adapter, package = made
    inputs = reference_inputs(adapter.contract, 0)(3, 11)
    save_file(inputs, package.folder / "inputs")
    code = (
        "import torch; from load_example import load_model, main; from safetensors.torch import load_file, save_file\n"
        "with torch.no_grad(): save_file({'logits': load_model()(**load_file('inputs'))}, 'logits')\n"
        "main()"
    )
    output = run_alone(package.folder, code=code)
    with torch.no_grad():
        torch.testing.assert_close(load_file(package.folder / "logits")["logits"], adapter(**inputs))
    prompt = "" if adapter.contract.task == "masked_lm" else "w10 w11 w13"
    assert re.fullmatch(rf"prompt: .*{prompt}.*\nanswer: \S.*\n", output)
    for name in ("inputs", "logits"):
        (package.folder / name).unlink()


def test_load_example_answers_a_text_of_the_users(original: Package) -> None:
    prompt, answer = run_alone(original.folder, "w20 w21 w22").splitlines()
    assert prompt.endswith(" w20 w21 w22")
    assert re.match(r"answer: \S", answer)


@pytest.mark.parametrize(
    ("damage", "words"),
    [("begins", "no word"), ("weights", "download"), ("model.py", "damaged"), ("manifest.json", "cannot be read")],
)
def test_load_example_reports_an_error_in_a_sentence(package: Package, damage: str, words: str) -> None:
    weights, manifest = package.folder / "model.safetensors", package.folder / "manifest.json"
    if damage == "weights":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage != "begins":
        (package.folder / damage).write_text(f"raise SystemExit('it ran')\n#{(package.folder / damage).read_text()}")
    manifest.write_text(manifest.read_text().replace('"begins_document": true', '"begins_document": false'))
    answer = run_program(package.folder, "")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_hub_accepts_the_card(made: tuple[ModelSource, Adapter, Package]) -> None:
    from huggingface_hub import ModelCard

    text = (made[2].folder / "README.md").read_text()
    assert card_errors(text) == []
    card = ModelCard(text, ignore_metadata_errors=False).data
    assert (card.license, card.language, card.library_name) == ("apache-2.0", "en", "pytorch")
    metrics = {result.metric_type: result.metric_value for result in card.eval_results}
    assert metrics == {"loss": 2.6, "perplexity": 13.46}
    assert card.eval_results[0].dataset_split == "test"


def test_the_card_has_results_formats_and_limitations(made: tuple[ModelSource, Adapter, Package]) -> None:
    text = (made[2].folder / "README.md").read_text()
    for part in ("beats a bigram model", "built-in text of Python", "There is little text.", "`learning_rate`"):
        assert part in text
    assert "nan" not in text.lower().split()
    assert made[2].manifest["files"]["model.safetensors"]["sha256"] in text


@pytest.mark.slow
def test_every_snippet_of_the_card_runs(tmp_path: Path) -> None:
    model, config = MODELS["seq2seq_lm"]
    formats = ["pytorch", "pt2", "onnx", "torchscript"]
    _, package = make_package(write_export(tmp_path / "t5", model, **config), formats=formats)
    require_whole(package)
    snippets = re.findall(r"```python\n(.*?)```", (package.folder / "README.md").read_text(), re.S)
    assert len(snippets) == 4
    output = run_alone(package.folder, code="\n".join(snippets))
    assert len(set(output.replace("torch.Size([", "(").replace("])", ")").splitlines())) == 1


class RandomFeatures(nn.Module):
    """Draws a table that is not in the state_dict: building the model anew gives another one."""

    def __init__(self, vocab_size=96, d_model=32, max_seq_len=24):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.register_buffer("features", torch.randn(max_seq_len, d_model), persistent=False)
        self.head = nn.Linear(d_model, vocab_size)

    def forward(self, input_ids):
        x = self.tokens(input_ids) + self.features[: input_ids.shape[1]]
        return self.head(x.cumsum(1))


def test_buffers_that_a_new_model_does_not_reproduce_are_stored(tmp_path: Path, original: Package) -> None:
    _, package = make_package(write_export(tmp_path / "random", RandomFeatures))
    assert package.problems == ()
    assert "features" in load_file(package.folder / "model.safetensors")
    assert "cos" not in load_file(original.folder / "model.safetensors")


def test_a_buffer_that_cannot_be_written_to_is_loaded(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("scale", torch.ones(1).expand(4))
    write_weights(model, tmp_path / "weights")
    other = nn.Linear(2, 2)
    other.register_buffer("scale", torch.ones(1).expand(4))
    load_example._load_weights(other, tmp_path / "weights")
    assert torch.equal(other.weight, model.weight)


def test_the_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    export = write_export(tmp_path / "gpt", small_models.RotaryGpt)
    state = checkpoint_of(load_model(export), export)
    other = SimpleNamespace(**vars(state) | {"identity": {"model_code": "0" * 64}})
    with pytest.raises(DeploymentError, match=r"another model\.py"):
        make_package(export, state=other)


def test_a_damaged_file_is_found_when_the_package_is_read(package: Package) -> None:
    assert read_package(package.folder).manifest == package.manifest
    weights = package.folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DeploymentError, match=r"model\.safetensors .* missing or damaged"):
        read_package(package.folder)


def test_the_card_may_be_edited_by_hand(package: Package) -> None:
    (package.folder / "README.md").write_text("# Mine\n")
    assert read_package(package.folder).manifest == package.manifest


def test_a_folder_without_a_manifest_is_not_a_package(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="no complete package"):
        read_package(tmp_path)


@pytest.mark.parametrize(
    ("entry", "count"),
    [
        ({"format": "onnx", "status": "failed", "stage": "export", "reason": "cannot be made"}, 0),
        ({"format": "onnx", "status": "failed", "stage": "parity", "reason": "differs by 1 at (1, 1)"}, 1),
        ({"format": "pytorch", "status": "failed", "stage": "export", "reason": "cannot be made"}, 1),
    ],
)
def test_wrong_formats_and_missing_weights_are_problems(entry: dict[str, str], count: int) -> None:
    package = replace(Package(Path(), {}), manifest={"formats": [entry]})
    assert len(package.problems) == count
    if count:
        with pytest.raises(DeploymentError, match=re.escape(entry["reason"])):
            require_whole(package)

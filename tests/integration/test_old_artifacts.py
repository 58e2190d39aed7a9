"""What users made with version 0.1.0 is still read: data, runs, searches, packages, registry and copies on Drive.

``tests/fixtures/make_artifacts.py`` made the artefacts and describes them. Fingerprints cover the content of
``model.py``, ``config.json`` and the data file, and the name of the data file, but no folder: each test unpacks them
into its ``tmp_path``, and ``Artefacts.settings`` replaces the three paths among the recorded parameters.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.fixtures.make_artifacts import STUDY, describe_machine
from tests.integration.foundry import PROJECT, environment

ARCHIVE = PROJECT / "tests" / "fixtures" / "artifacts-0.1.0.tar.xz"

OTHER_MACHINE = 0.02
"""Difference allowed between weights after 300 steps where kernels add in another order.

1.4e-3 with the kernels of a CPU without AVX (ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE) against AVX512."""


class Artefacts:
    """The artefacts in a folder of the test's.

    Args:
        folder: Where the archive was unpacked.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.data_dir = folder, folder / "data"
        self.recorded: dict[str, Any] = json.loads((folder / "recorded.json").read_text())
        self.settings = self.recorded["settings"] | {
            "data_dir": self.data_dir,
            "model.source": folder / "tiny",
            "data.source": folder / "orchard.txt",
        }

    @property
    def is_same_machine(self) -> bool:
        """Whether results must be equal to the bit."""
        # torch and MKL choose kernels by the instructions and the vendor of the CPU; another kernel adds in another
        # order and rounds differently. One thread (``environment``): their number changes the order, too.
        return describe_machine() == self.recorded["machine"]

    def kedro(self, *arguments: object) -> str:
        """Run a command of kedro and return what it printed."""
        command = [sys.executable, "-m", "kedro", *map(str, arguments)]
        result = subprocess.run(command, cwd=PROJECT, env=environment(), capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def run(self, pipelines: str, settings: Mapping[str, object]) -> str:
        """Run ``kedro run`` with the recorded parameters and ``settings``."""
        merged = self.settings | settings
        parameters = ",".join(f"{name}={value}" for name, value in merged.items())
        return self.kedro("run", "--pipelines", pipelines, "--params", parameters)


@pytest.fixture
def old(tmp_path: Path) -> Artefacts:
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(tmp_path, filter="data")
    return Artefacts(tmp_path)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def rows(metrics: Path) -> list[dict[str, float]]:
    """Return what a run logged and does not depend on its speed."""
    names = ("step", "train/loss", "train/learning_rate", "train/grad_norm", "eval/loss")
    lines = (json.loads(line) for line in metrics.read_text().splitlines())
    return [{name: line[name] for name in names if name in line} for line in lines]


def assert_resumed_to_the_recorded_end(old: Artefacts, run: Path) -> None:
    """Compare the last checkpoint of ``run`` with the one that 0.1.0 reached, and what was logged on the way."""
    from safetensors.torch import load_file
    from torch.testing import assert_close

    assert [session["step"] for session in read(run / "manifest.json")["sessions"]] == [0, old.recorded["stopped_at"]]
    expected = old.data_dir / "06_models" / "tiny"
    step = old.recorded["result"]["step"]
    (found,), (known,) = ([*folder.glob(f"checkpoints/step-{step:08d}-*")] for folder in (run, expected))
    allowed = {"rtol": 0.0, "atol": 0.0 if old.is_same_machine else OTHER_MACHINE}
    assert_close(load_file(found / "weights.safetensors"), load_file(known / "weights.safetensors"), **allowed)
    logged = [rows(folder / "metrics.jsonl") for folder in (run, expected)]
    assert [row["step"] for row in logged[0]] == [row["step"] for row in logged[1]]
    if old.is_same_machine:
        assert read(run / "manifest.json")["result"] == old.recorded["result"]
        assert logged[0] == logged[1]


def test_the_catalog_loads_tokens_and_tokenizer(old: Artefacts) -> None:
    from transformer_foundry.datasets import TokenizerDataset, TokenSplitsDataset

    folder = old.data_dir / "05_model_input" / "tiny"
    tokenizer = TokenizerDataset(filepath=str(folder / "tokenizer")).load()
    splits = TokenSplitsDataset(filepath=str(folder / "tokens")).load()
    identity = read(old.data_dir / "06_models" / "tiny" / "manifest.json")["identity"]
    assert (splits.fingerprint, tokenizer.digest()) == (identity["data"], identity["tokenizer"])
    assert tokenizer.decode(splits.train.input_ids[0]) in (old.folder / "orchard.txt").read_text()


def test_the_catalog_loads_a_run(old: Artefacts) -> None:
    from transformer_foundry.datasets import TrainingRunDataset

    run = TrainingRunDataset(filepath=str(old.data_dir / "06_models" / "stopped")).load()
    assert [row["step"] for row in run.history] == [1, 20, 40, 60, 80, 100, 120]
    assert run.latest().step == old.recorded["stopped_at"]
    assert run.best().step == 100


def test_the_catalog_loads_a_study_and_what_it_found(old: Artefacts) -> None:
    from transformer_foundry.datasets import OptionalJSONDataset, StudyDataset

    study = StudyDataset(filepath=str(old.data_dir / STUDY)).load().study()
    best = OptionalJSONDataset(filepath=str((old.data_dir / STUDY).with_name("best_parameters.json"))).load()
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "COMPLETE", "WAITING", "WAITING"]
    assert best["parameters"] == study.best_trial.params


def test_the_catalog_loads_package_and_registry(old: Artefacts) -> None:
    from transformer_foundry.datasets import PackageDataset, RegistryDataset

    package = PackageDataset(filepath=str(old.data_dir / "07_model_output" / "tiny")).load()
    versions = RegistryDataset(filepath=str(old.data_dir / "registry")).load().versions()["TinyGPT"]
    assert {entry["status"] for entry in package.manifest["formats"]} == {"verified"}
    assert [version.aliases for version in versions] == [("production",), ("candidate",)]
    assert all(PackageDataset(filepath=str(version.folder)).load() for version in versions)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("checkpoints list stopped", ["step 100", "interrupt", "intact", "best"]),
        ("checkpoints inspect stopped --step 100", ["step 100 of 300", "train/loss", "learning_rate: 0.002"]),
        ("runs list", ["stopped", "tiny", "300"]),
        ("runs compare tiny stopped", ["train loss", "best eval loss"]),
        ("models list", ["TinyGPT:1  production", "TinyGPT:2  candidate"]),
        ("models show TinyGPT@production", ["TinyGPT:1", "run: tiny", "step: 300"]),
        ("models compare TinyGPT:1 TinyGPT:2", ["bits_per_byte", "the same"]),
        ("models promote TinyGPT:2 --force", ["TinyGPT:2", "production", "version 1"]),
    ],
)
def test_a_command_shows_what_there_is(old: Artefacts, command: str, said: list[str]) -> None:
    shown = old.kedro(*command.split(), "--data-dir", old.data_dir)
    assert "DAMAGED" not in shown
    for words in said:
        assert words in shown


def test_a_checkpoint_is_exported_and_restored(old: Artefacts) -> None:
    there = ("--data-dir", old.data_dir)
    old.kedro("checkpoints", "export", "stopped", old.folder / "kept", *there)
    old.kedro("checkpoints", "restore", "stopped", "--step", 100, *there)
    assert "interrupt" not in old.kedro("checkpoints", "list", "stopped", *there)
    (exported,) = (old.folder / "kept").iterdir()
    old.kedro("checkpoints", "restore", "stopped", "--from", exported, *there)
    assert f"step {old.recorded['stopped_at']}  interrupt" in old.kedro("checkpoints", "list", "stopped", *there)


@pytest.mark.slow
def test_a_stopped_run_continues_with_its_tokens_to_the_same_weights(old: Artefacts) -> None:
    tokens = [*(old.data_dir / "05_model_input").rglob("*.bin")]
    unpacked = [path.stat().st_mtime_ns for path in tokens]
    old.run("data_engineering,training", old.recorded["stopped"])
    assert [path.stat().st_mtime_ns for path in tokens] == unpacked
    assert_resumed_to_the_recorded_end(old, old.data_dir / "06_models" / "stopped")


@pytest.mark.slow
def test_a_run_whose_machine_is_gone_continues_from_drive(old: Artefacts) -> None:
    new = old.folder / "new"
    old.run("training", old.recorded["stopped"] | {"data_dir": new, "drive.folder": old.folder / "drive"})
    assert_resumed_to_the_recorded_end(old, new / "06_models" / "stopped")


@pytest.mark.slow
def test_a_search_continues_its_paused_trials(old: Artefacts) -> None:
    from transformer_foundry.datasets import StudyDataset

    dataset = StudyDataset(filepath=str(old.data_dir / STUDY))
    before = dataset.load().study().get_trials()
    old.run("tuning", {})
    after = dataset.load().study().get_trials()
    assert [trial.params for trial in after] == [trial.params for trial in before]
    assert after[:2] == before[:2]
    for trial, paused in zip(after[2:], before[2:], strict=True):
        *earlier, last = trial.user_attrs["sessions"]
        assert earlier == paused.user_attrs["sessions"]
        assert (last["from"], last["to"]) == (6, 8)
    expected = [old.recorded["trials"][str(trial.number)] for trial in after]
    assert [trial.value for trial in after] == pytest.approx(expected, abs=0 if old.is_same_machine else 1e-3, rel=0)


@pytest.mark.slow
def test_a_fork_takes_an_old_checkpoint_and_the_best_parameters_of_an_old_search(old: Artefacts) -> None:
    forked = {"run.name": "forked", "run.fork_from": "stopped", "run.preparation": "tiny", "training.use_best": "true"}
    old.run("training", forked)
    best = read((old.data_dir / STUDY).with_name("best_parameters.json"))["parameters"]
    manifest = read(old.data_dir / "06_models" / "forked" / "manifest.json")
    assert [session["step"] for session in manifest["sessions"]] == [old.recorded["stopped_at"]]
    assert {name: manifest["parameters"]["training"][name] for name in best} == best


@pytest.mark.slow
def test_an_old_run_is_packaged_and_registered_as_the_next_version(old: Artefacts) -> None:
    old.run("deployment", {"deployment.formats": "[pytorch,torchscript]"})
    folders = [old.data_dir / "registry" / "TinyGPT" / version for version in ("v2", "v3")]
    # Not the files: safetensors writes the entries of its metadata in a random order.
    before, now = (load_file(folder / "model.safetensors") for folder in folders)
    assert before.keys() == now.keys()
    assert all(torch.equal(before[name], now[name]) for name in before)
    shown = old.kedro("models", "list", "--data-dir", old.data_dir)
    assert "TinyGPT:1  production" in shown
    assert "TinyGPT:3  candidate" in shown


ANSWERS = """
import json, sys
sys.modules["transformer_foundry"] = None  # a package needs nothing of this project
from pathlib import Path
import numpy, onnxruntime, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from load_example import load_model

folder, recorded = Path.cwd(), numpy.load(sys.argv[1])
ids, logits = torch.tensor(recorded["input_ids"]), torch.tensor(recorded["logits"])
session = onnxruntime.InferenceSession("model.onnx")
with torch.no_grad():
    answers = {
        "transformers": AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)(ids).logits,
        "pytorch": load_model(folder)(ids),
        "pt2": torch.export.load("model.pt2").module()(ids),
        "torchscript": torch.jit.load("model.torchscript.pt")(ids),
        "onnx": torch.tensor(session.run(None, {session.get_inputs()[0].name: ids.numpy()})[0]),
    }
differences = {name: float((answer - logits).abs().max()) for name, answer in answers.items()}
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
print(json.dumps({"differences": differences, "text": tokenizer.decode(tokenizer("The orchard")["input_ids"])}))
"""


def in_package(old: Artefacts, *arguments: object) -> str:
    """Run Python in the folder of the package, in a process without this project, and return what it printed."""
    folder = old.data_dir / "07_model_output" / "tiny"
    own = {"HF_HOME": str(old.folder / "huggingface"), "PYTHONPATH": str(folder)}
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(command, cwd=folder, env=environment() | own, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_every_format_of_an_old_package_gives_the_recorded_logits(old: Artefacts) -> None:
    answers = json.loads(in_package(old, "-c", ANSWERS, old.folder / "logits.npz"))
    assert answers["differences"] == pytest.approx(dict.fromkeys(answers["differences"], 0), abs=1e-5)
    assert answers["text"] == "The orchard"


def test_the_program_of_an_old_package_answers(old: Artefacts) -> None:
    assert "answer: " in in_package(old, "inference.py", "The orchard", "--max-new-tokens", 4, "--seed", 0)

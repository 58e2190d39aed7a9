"""``kedro doctor`` finds problems, prints a fix for each, and never shows a key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from transformer_foundry.cli import cli, doctor
from transformer_foundry.cli.doctor import check_disk, check_keys, check_packages, check_tested_versions
from transformer_foundry.console.service_keys import KEYS

KEY = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*(key.variable for key in KEYS), "HF_HOME", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_suitable_machine_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=50 * 2**30))
    result = CliRunner().invoke(cli, ["doctor", "--data-dir", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "FAIL" not in result.output
    assert "Ready." in result.output
    for subject in ("Python 3", "memory free", "Packages", "50 GiB free", "W&B", "Hugging Face", "Drive", "GPU"):
        assert subject in result.output


def test_a_full_disk_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    result = CliRunner().invoke(cli, ["doctor", "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert f"FAIL  0.5 GiB free for {tmp_path}\n      -> Delete old runs" in result.output
    assert "1 problem(s) to fix." in result.output


def test_a_file_in_place_of_the_data_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    (finding,) = check_disk(tmp_path / "data" / "deeper")
    assert finding.status == "FAIL"


def test_a_missing_or_outdated_package_fails() -> None:
    (finding,) = check_packages(["click>=8", "numpy<1", "no-such-package-at-all", "nor-this; extra == 'dev'"])
    assert finding.status == "FAIL"
    assert "no-such-package-at-all is missing" in finding.message
    assert "numpy is" in finding.message
    assert "click" not in finding.message
    assert "nor-this" not in finding.message
    assert finding.fix


def test_versions_other_than_the_tested_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.13.0+cu130", "numpy": "2.1.3"}
    monkeypatch.setattr(doctor, "_version", versions.get)
    (tmp_path / "constraints.txt").write_text("# ours\ntorch==2.13.0\nnumpy==2.4.6\n")
    (finding,) = check_tested_versions(tmp_path / "constraints.txt")
    assert finding.message.endswith("tested ones: numpy 2.1.3 (2.4.6)")


def test_a_key_is_known_to_be_set_and_never_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "token").write_text(KEY)
    found = dict(zip((key.variable for key in KEYS), check_keys(), strict=True))
    assert {name for name, finding in found.items() if finding.status == "ok"} == {"WANDB_API_KEY", "HF_TOKEN"}
    assert KEY not in "".join(f"{finding.message}{finding.fix}" for finding in found.values())


def test_only_the_gpu_check_loads_torch() -> None:
    program = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from transformer_foundry.cli import cli, doctor\n"
        "doctor.check_gpu = lambda: []\n"
        "result = CliRunner().invoke(cli, ['doctor'])\n"
        "print('Drive' in result.output, 'torch' in sys.modules)\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout == "True False\n"


def test_nothing_is_written(tmp_path: Path) -> None:
    CliRunner().invoke(cli, ["doctor", "--data-dir", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()

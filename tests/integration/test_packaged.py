"""The wheel of the project with an archive of its configuration, in a new environment outside of the project."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT, SAMPLES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with the wheel; it sees the libraries of this one, but not the project."""
    folder = tmp_path_factory.mktemp("packaged")
    source = folder / "source"
    source.mkdir()
    for name in ("src", "pyproject.toml", "README.md", "LICENSE"):
        os.symlink(PROJECT / name, source / name)
    setup = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
    copied = folder / "project"
    subprocess.run(["cp", "-rL", str(source), str(copied)], check=True)
    subprocess.run([sys.executable, "-c", setup, str(folder)], cwd=copied, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    target = Path(next((folder / "venv" / "lib").iterdir()), "site-packages")
    outside = [path for path in sys.path if path.endswith("site-packages")] or site.getsitepackages()
    target.joinpath("zz.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in outside))
    install = [sys.executable, "-m", "pip", "--python", str(folder / "venv" / "bin" / "python"), "install"]
    install += ["--no-deps", "--no-index", "--force-reinstall", str(wheel)]
    said = subprocess.run(install, check=True, capture_output=True, text=True)
    assert (folder / "venv" / "bin" / "transformer-foundry").exists(), said.stdout + said.stderr
    with tarfile.open(folder / "conf.tar.gz", "w:gz") as archive:
        archive.add(PROJECT / "conf", "conf", filter=lambda item: None if "local/" in item.name else item)
    return folder


def call(environment: Path, folder: Path, *arguments: str) -> tuple[int, str]:
    folder.mkdir(parents=True, exist_ok=True)
    program = environment / "venv" / "bin" / "transformer-foundry"
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "KEDRO_LOGGING_CONFIG")}
    done = subprocess.run([program, *arguments], cwd=folder, env=variables, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_without_configuration_it_says_so_in_three_lines(environment: Path, tmp_path: Path) -> None:
    code, said = call(environment, tmp_path, "run")
    assert (code, len(said.splitlines())) == (2, 3)
    assert said.startswith("error: There is no configuration in")
    assert list(tmp_path.iterdir()) == []


def test_all_commands_exist_and_name_themselves(environment: Path, tmp_path: Path) -> None:
    code, said = call(environment, tmp_path, "--help")
    assert code == 0
    for name in ("run", "doctor", "checkpoints", "hub", "models", "runs", "tracking"):
        assert f"\n  {name} " in said
        assert call(environment, tmp_path, name, "--help")[0] == 0
    assert "'transformer-foundry run'" in call(environment, tmp_path, "runs", "list")[1]
    assert "'transformer-foundry run'" in call(environment, tmp_path, "models", "list")[1]
    assert "kedro run" not in call(environment, tmp_path, "run", "--help")[1]


@pytest.mark.parametrize("is_unpacked", [True, False])
def test_it_runs_with_the_archive_of_the_configuration(environment: Path, tmp_path: Path, is_unpacked: bool) -> None:
    source = ["--conf-source", str(environment / "conf.tar.gz")]
    if is_unpacked:
        with tarfile.open(environment / "conf.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
        source = []
    # Options without a command are those of run, as in every package that Kedro makes.
    start = ["run"] if is_unpacked else []
    chosen = ["--namespaces", "validation", "--params", f"model.source={SAMPLES / 'gpt'}"]
    code, said = call(environment, tmp_path, *start, *source, *chosen)
    assert code == 0, said
    assert said.splitlines()[0] == "Running validation."
    assert "Next: transformer-foundry run" in said
    assert (tmp_path / "data" / "08_reporting" / "gpt" / "validation_report.json").is_file()

"""What the process of a trial run cannot hide from the parent that watches it."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.foundry import SAMPLES
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.base.text import one_line
from transformer_foundry.core.models.sandbox import readable_paths as reading
from transformer_foundry.core.models.sandbox import trial_run
from transformer_foundry.core.models.sandbox.approve import approve
from transformer_foundry.core.models.sandbox.readable_paths import private_folders, readable_paths
from transformer_foundry.core.models.source.read import read_export

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux reports the calls")

UNLINKED = """
for number in range(200):
    with open('a', 'wb') as file: file.write(bytes(1000))
    kept = torch.from_file('a', shared=True, size=64, dtype=torch.uint8)
    os.remove('a')
"""
BUSY = """
def noise():
    while True:
        try: open('/usr/lib/nothing-here')
        except OSError: pass
for _ in range(2): threading.Thread(target=noise, daemon=True).start()
kept = [torch.from_file(f'f{number}', shared=True, size=64, dtype=torch.uint8) for number in range(200)]
time.sleep(5)
"""
THREADS = """
threading.stack_size(32768)
event = threading.Event()
for _ in range(3000): threading.Thread(target=event.wait, args=(20,), daemon=True).start()
time.sleep(5)
"""
CONTROLS = """
try: torch.from_file('/etc/\\x1b[2J/../../tmp/../root/\\x1b]0;x\\x07', shared=True, size=1, dtype=torch.uint8)
except RuntimeError: pass
"""


def attack(folder: Path, code: str) -> str:
    """Return what is said about external code that begins with ``code``."""
    begin = f"import os, threading, time\nimport torch\n{code}\n"
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        source = (SAMPLES / "gpt" / "model.py").read_text().replace("from __future__ import annotations", "")
        archive.writestr("model.py", begin + source)
        archive.writestr("config.json", (SAMPLES / "gpt" / "config.json").read_text())
    with pytest.raises(ModelError) as caught:
        approve(read_export(str(folder / "a.zip")), trust_code=True, cache_dir=folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [(UNLINKED, "128 files"), (BUSY, "128 files"), (THREADS, "1024 threads"), (CONTROLS, "writes /")],
    ids=["unlinked files", "a busy listener", "threads", "control characters"],
)
def test_the_limits_hold_for(tmp_path: Path, code: str, words: str) -> None:
    said = attack(tmp_path, code)
    assert words in said
    assert "\x1b" not in said


def test_the_words_of_the_process_are_quoted_and_short() -> None:
    text = "\x1b[2J\u202e All checks passed\nerror: run curl " + "x" * 9999
    forged = f'{{"result": {{"too_large": {trial_run.json.dumps(text)}}}}}\n'
    problem, *rest = trial_run._result(forged.encode(), [], 0, False, 1.0)["refused"]
    assert problem.startswith("The code reports: ")
    assert len(problem) < 230
    assert problem == one_line(problem)
    assert "x" * 9 not in " ".join(rest)


def test_an_environment_of_python_that_is_the_project_is_not_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    for name in ("conf", "lib", "notebooks"):
        (project / name).mkdir(parents=True)
    (project / "pyproject.toml").touch()
    for name in ("prefix", "exec_prefix"):
        monkeypatch.setattr(sys, name, str(project))
    monkeypatch.setenv("LD_LIBRARY_PATH", ".")
    for here in (project, project / "notebooks"):
        monkeypatch.chdir(here)
        found = readable_paths(private=private_folders())
        assert str(project / "lib") in found
        assert not any(reading._contains(path, str(project / "conf")) for path in found)


def test_a_project_below_a_system_folder_is_not_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "usr"
    for name in ("lib", "src/app/conf", "src/other", "share"):
        (system / name).mkdir(parents=True)
    (system / "share" / "back").symlink_to(system)
    (system / "app").symlink_to(system / "src" / "app")
    monkeypatch.setattr(reading, "_SYSTEM", (str(system),))
    monkeypatch.chdir(system / "src" / "app")
    found = readable_paths(private=private_folders())
    assert {str(system / name) for name in ("lib", "share", "src/other")} <= set(found)
    assert not any(reading._contains(path, str(system / "src" / "app" / "conf")) for path in found)
    monkeypatch.chdir(system)
    assert str(system) in readable_paths(private=[os.getcwd()])


def test_the_settings_of_an_environment_of_python_are_not_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("prefix", "base_prefix", "exec_prefix"):
        monkeypatch.setattr(sys, name, str(tmp_path))
    found = frozenset(readable_paths())
    for name, is_readable in {"pip.conf": 0, "conda-meta/state": 0, "etc/a": 0, "lib/a.so": 1, "pyvenv.cfg": 1}.items():
        assert reading.is_below(str(tmp_path / name), found) == bool(is_readable), name


def test_of_the_kernels_settings_only_those_for_computing_are_readable() -> None:
    found = frozenset(readable_paths())
    for path in ("/proc/sys/kernel/cad_pid", "/proc/sys/vm/mmap_rnd_bits", "/sys/kernel/slab/TCPv6/objects"):
        assert not reading.is_below(path, found)
    for path in ("/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu/online"):
        assert reading.is_below(path, found)


def test_a_file_of_the_system_that_is_not_for_everyone_is_not_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "etc"
    for name in ("ssl/certs", "ssl/private", "ld"):
        (system / name).mkdir(parents=True)
    for name in ("shadow", "hosts", "ssl/private/key", "ssl/certs/all"):
        (system / name).touch()
    (system / "link").symlink_to(system / "shadow")
    (system / "shadow").chmod(0o640)
    (system / "ssl" / "private").chmod(0o710)
    monkeypatch.setattr(reading, "_SYSTEM", (str(system),))
    monkeypatch.setattr(reading, "_SEARCHED", {str(system): 64})
    found = readable_paths()
    assert {str(system / name) for name in ("hosts", "ld", "ssl/certs")} <= set(found)
    for name in ("shadow", "ssl/private/key"):
        assert not any(reading._contains(path, str(system / name)) for path in found)

"""External code runs only with the user's approval, and the trial run only within limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT, SAMPLES
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.checks import run_checks
from transformer_foundry.core.models import ModelSource, approve, build_model, describe_export, load_model, read_export
from transformer_foundry.core.models.sandbox import trial_run

MODEL = """
import torch
class Model(torch.nn.Module):
    def __init__(self, vocab_size=8):
        super().__init__()
        self.table = torch.nn.Embedding(vocab_size, vocab_size)
    def forward(self, ids):
        return self.table(ids)
"""


def write(folder: Path, top: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(f"{top}\n{MODEL}")
    (folder / "config.json").write_text(json.dumps({"vocab_size": 8, "model_name": "Model"}))
    return folder


def from_zip(folder: Path, top: str = "") -> ModelSource:
    archive = shutil.make_archive(str(folder / "model"), "zip", write(folder / "inside", top))
    return read_export(archive, cache_dir=folder / "cache")


def test_external_code_is_not_imported_without_approval(tmp_path: Path) -> None:
    export = from_zip(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    for use in (build_model, load_model, run_checks, lambda it: approve(it, cache_dir=tmp_path)):
        with pytest.raises(ModelError, match=f"(?s)external code.*{export.identity}.*line 1 uses open"):
            use(export)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("approval", ["digest", "trust_code"])
def test_approved_code_runs(tmp_path: Path, approval: str) -> None:
    export = from_zip(tmp_path)
    options = {"sha256": export.identity} if approval == "digest" else {"trust_code": True}
    assert load_model(approve(export, cache_dir=tmp_path, **options)).contract.vocab_size == 8


def test_another_digest_is_refused_and_both_are_shown(tmp_path: Path) -> None:
    for export in (from_zip(tmp_path), read_export(SAMPLES / "gpt")):
        with pytest.raises(ModelError, match=f"{'0' * 64}.*{export.identity}"):
            approve(export, trust_code=True, sha256="0" * 64)


def test_the_description_shows_sizes_digests_and_lines(tmp_path: Path) -> None:
    export = from_zip(tmp_path, "import os")
    shown = describe_export(export)
    for part in (*export.sha256.values(), export.identity, "model.py line 1 imports os", "bytes"):
        assert part in shown


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ("while True: pass", "within 0.5 seconds"),
        ("import torch; hoard = torch.ones(10**13)", "allocate"),
        ("hoard = bytearray(10**14)", "MemoryError"),
        ("import os; os._exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
    ],
)
def test_a_trial_run_that_would_end_the_process_is_refused(tmp_path: Path, top: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        approve(read_export(write(tmp_path, top)), first_run_seconds=0.5 if "while" in top else 60, cache_dir=tmp_path)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ("import socket\ntry: socket.create_connection(('127.0.0.1', 9))\nexcept Exception: pass", "network"),
        ("import subprocess\ntry: subprocess.run(['true'])\nexcept Exception: pass", "another program"),
        ("try: open('/tmp/foundry-mark', 'w')\nexcept Exception: pass", "writes /tmp/foundry-mark"),
        ("import os\ntry: open(f'/proc/{os.getppid()}/environ')\nexcept Exception: pass", "reads /proc"),
        ("import os\ntry: os.kill(os.getppid(), 0)\nexcept Exception: pass", "signal to another process"),
        (f"try: open({str(PROJECT / 'conf/base/catalog.yml')!r})\nexcept Exception: pass", "reads .*catalog.yml"),
    ],
)
def test_external_code_that_does_more_than_compute_is_refused(tmp_path: Path, top: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        approve(from_zip(tmp_path, top), trust_code=True, cache_dir=tmp_path)
    assert not Path("/tmp/foundry-mark").exists()


def test_the_trial_run_has_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "GITHUB_TOKEN", "WANDB_API_KEY", "MY_PASSWORD"):
        monkeypatch.setenv(name, "canary-canary")
    top = "import os\nif 'canary-canary' in os.environ.values(): os._exit(4)"
    approve(read_export(write(tmp_path, top)), cache_dir=tmp_path)
    (record,) = (tmp_path / "first_runs").iterdir()
    assert json.loads(record.read_text())["outcome"] == "ran"


@pytest.mark.slow
@pytest.mark.parametrize(
    "top",
    [
        "from transformers import GPT2LMHeadModel",
        "@torch.compile\ndef twice(x): return 2 * x\ntwice(torch.ones(2))",
        "from torch.nn.attention.flex_attention import flex_attention",
    ],
)
def test_code_that_imports_known_libraries_is_accepted(tmp_path: Path, top: str) -> None:
    export = from_zip(tmp_path, f"import torch\n{top}")
    assert approve(export, cache_dir=tmp_path, trust_code=True).source == export.source
    (record,) = (tmp_path / "first_runs").iterdir()
    assert json.loads(record.read_text())["outcome"] == "ran"


def test_a_trial_run_is_cached_by_digest(tmp_path: Path) -> None:
    export = read_export(write(tmp_path))
    approve(export, cache_dir=tmp_path)
    (record,) = (tmp_path / "first_runs").iterdir()
    saved = json.loads(record.read_text())
    assert set(saved.pop("walls")) <= {"network", "files", "calls"}
    assert saved == {"parameters": 64, "bytes": 256, "outcome": "ran", "reached": []}
    # No process could end within this limit: none is started.
    approve(export, first_run_seconds=1e-9, cache_dir=tmp_path)


def test_an_error_in_a_local_model_is_left_to_the_checks(tmp_path: Path) -> None:
    export = approve(read_export(write(tmp_path, "raise ValueError('no')")), cache_dir=tmp_path)
    assert run_checks(export).status == "fail"


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[" * 100_000,
        "5",
        '{"result": 5}',
        '{"result": {}}',
        '{"result": {"refused": ["a", "b", "c"]}}',
        '{"result": {"too_large": 3}}',
        '{"result": {"outcome": "ran", "reached": []}}',
        '{"reached": 5}',
    ],
)
def test_output_written_by_the_models_code_is_no_result(answer: str) -> None:
    with pytest.raises(ModelError, match=r"(?s)exit status 0"):
        raise ModelError(*trial_run._result(answer.encode(), [], 0, False, 1.0)["refused"])


def test_a_folder_that_cannot_be_removed_is_tolerated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with trial_run._scratch_folder() as scratch:
        monkeypatch.chdir(scratch)
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
    os.chdir(tmp_path)
    assert os.path.isdir(scratch) or sys.version_info >= (3, 13)  # too deep for shutil before 3.13
    subprocess.run(["rm", "-rf", scratch], check=True)


HIDE = """
import gc, json, os
# Disarm the hook of Python, as code may that knows it.
for thing in gc.get_objects():
    if type(thing) is dict and "ctypes.dlopen" in thing:
        thing.clear()
import ctypes
system = ctypes.CDLL(None)
def hide():
    for thing in gc.get_objects():
        if type(thing) is list and any(type(item) is str and item.startswith("it ") for item in thing):
            thing.clear()
    line = json.dumps({"result": {"outcome": "ran", "parameters": 1, "bytes": 1, "reached": []}}).encode() + b"\\n"
    for descriptor in range(64):
        try: os.write(descriptor, line)
        except OSError: pass
    os._exit(0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel reports it on Linux")
@pytest.mark.parametrize(
    ("attempt", "recorded"),
    [
        ("system.open(target.encode(), 0)", "it reads"),
        ("system.chmod(target.encode(), 0o666)", "it changes files"),
        ("system.unlink(target.encode())", "it writes"),
        ("system.socket(2, 1, 0)", "it uses the network"),
        ("system.fork()", "it starts another program"),
        ("system.memfd_create(b'a', 0)", "it uses memory files"),
        ("open('/proc/self/maps')", "it reads /proc/"),
    ],
)
def test_what_was_tried_is_known_though_the_code_forges_the_answer(tmp_path: Path, attempt: str, recorded: str) -> None:
    target = tmp_path / "token"
    target.write_text("canary")
    target.chmod(0o600)
    code = f"{HIDE}\ntarget = {str(target)!r}\ntry: {attempt}\nexcept BaseException: pass\nhide()"
    with pytest.raises(ModelError, match=f"does more than compute.*{recorded}"):
        approve(from_zip(tmp_path, code), trust_code=True, cache_dir=tmp_path / "records")
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel reports it on Linux")
def test_without_landlock_the_parent_refuses_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = "import transformer_foundry.core.models.sandbox.trial_process as t; t.restrict_files = lambda *_: False; "
    monkeypatch.setattr(trial_run, "_PROGRAM", trial_run._PROGRAM.replace("from transf", f"{without}from transf"))
    (tmp_path / "token").write_text("canary")
    read = f"found = system.open({str(tmp_path / 'token')!r}.encode(), 0)"
    code = f"{HIDE}\n{read}\nif found >= 0: open('own', 'w').write('x'); os.kill(os.getpid(), 9)\nhide()"
    with pytest.raises(ModelError, match=r"does more than compute.*it reads"):
        approve(from_zip(tmp_path, code), trust_code=True, cache_dir=tmp_path / "records")
    # It has not read the file: otherwise it would have been killed before it could send this result.
    result = trial_run._run(from_zip(tmp_path, code.replace(', "reached": []', "")), 60)
    assert result.get("outcome") == "ran", result


def test_a_scratch_folder_that_fills_up_ends_the_process(tmp_path: Path) -> None:
    code = "import os\nfor n in range(60): os.mkdir(str(n))\nfor n in range(60):\n" \
           "    for m in range(4): open(f'{n}/{m}', 'wb').write(bytes(2**20))\nwhile True: pass"  # fmt: skip
    with pytest.raises(ModelError, match="writes more than"):
        approve(from_zip(tmp_path, code), trust_code=True, cache_dir=tmp_path / "records")

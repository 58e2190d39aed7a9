"""What external code tries in its trial run is recorded, whatever it does to its own process and to the connection."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.models.sandbox.test_approve import from_zip
from tests.integration.foundry import PROJECT
from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.sandbox import readable_paths as reading
from transformer_foundry.core.models.sandbox import trial_run
from transformer_foundry.core.models.sandbox.approve import approve
from transformer_foundry.core.models.sandbox.readable_paths import readable_paths
from transformer_foundry.core.models.sandbox.watcher import Watcher

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux reports the calls")

FORGED = {"result": {"outcome": "ran", "parameters": 7, "bytes": 28}}
FIND = f"""
import fcntl, os, stat, sys
def is_socket(descriptor):
    try: return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError: return False
channel = next(filter(is_socket, range(3, 256)))
os.write(channel, b'''{json.dumps(FORGED)}
''')
"""
ATTEMPT = """
try: import ctypes; ctypes.CDLL(None)
except BaseException: pass
os._exit(0)
"""
REPLACE = "os.dup2(os.open('/dev/null', os.O_WRONLY), channel)"
FLOOD = "for _ in range(40): os.write(channel, b'x' * 65536 + b'\\n')"
BLOCK = """
fcntl.fcntl(channel, fcntl.F_SETFL, os.O_NONBLOCK)
try:
    while True: os.write(channel, b'x' * 4096)
except OSError: pass
"""
OWN_HOOK = """
def stop(event, arguments):
    if event == 'open' and b'attempt' in os.fsencode(arguments[0]): raise ValueError
sys.addaudithook(stop)
"""
RAISES = """
class Name(str):
    def __getitem__(self, place): raise ValueError
try: open(Name('/etc/shadow'))
except ValueError: os._exit(0)
"""
PATCHED = """
import builtins, contextlib
from transformer_foundry.core.models.sandbox import audit_hook
audit_hook.ATTEMPT, audit_hook._LONGEST_REPORT, contextlib.suppress = '', 0, None
for name in ('OSError', 'PermissionError'): setattr(builtins, name, ValueError)
"""
NATIVE = """
import gc
for thing in gc.get_objects():
    if type(thing) is dict and 'ctypes.dlopen' in thing: thing.clear()
import ctypes
ctypes.CDLL(None).{call}
os._exit(0)
"""
TRIES = {
    "replaces the connection": (f"try: {REPLACE}\nexcept OSError: pass", "calls native code"),
    "closes the connection": ("try: os.close(channel)\nexcept OSError: pass", "closes the connection"),
    "closes a range": ("os.closerange(channel, channel + 9)", "calls native code"),
    "fills the connection": (BLOCK, "native code"),
    "writes too much": (FLOOD, "fills the connection"),
    "adds its own hook": (OWN_HOOK, "calls native code"),
    "has a name that raises": (RAISES, "fails in open"),
    "replaces what the hook uses": (PATCHED, "calls native code"),
    "removes a folder by native code": (NATIVE.format(call="rmdir(b'/nobody')"), "writes /nobody"),
    "makes a folder by native code": (NATIVE.format(call="mkdir(b'/nobody', 511)"), "writes /nobody"),
}  # fmt: skip
PROGRAM = f"""
import json, os, sys
sys.path.insert(0, {str(PROJECT / "src")!r})
from transformer_foundry.core.models.sandbox import trial_process
from transformer_foundry.core.models.sandbox.audit_hook import kernel_report, watch
job = json.load(sys.stdin)
walls, is_watched = trial_process._restrict(job['readable'], job['scratch'], job['channel'])
if not is_watched: os._exit(9)
import ctypes
os.write(job['channel'], json.dumps({{'ready': walls}}).encode() + b'\\n')
watch(kernel_report(), job['readable'], job['scratch'])
exec(job['code'])
os._exit(0)
"""


def record(scratch: Path, code: str, readable: tuple[str, ...] = ()) -> Watcher:
    """Return what watched a process that runs ``code`` as in a trial run."""
    ours, theirs = socket.socketpair()
    job = {"channel": theirs.fileno(), "scratch": str(scratch), "readable": [*readable_paths(*sys.path), *readable]}
    process = subprocess.Popen(
        [sys.executable, "-I", "-B", "-c", PROGRAM], cwd=scratch, stdin=subprocess.PIPE, pass_fds=(theirs.fileno(),)
    )
    theirs.close()
    watcher = Watcher(process.pid, ours, job["readable"], str(scratch), sys.path)
    process.communicate(json.dumps(job | {"code": code}).encode(), timeout=60)
    watcher.stop()
    ours.close()
    if process.returncode == 9:
        pytest.skip("this system does not report calls")
    return watcher


@pytest.mark.parametrize(("code", "words"), TRIES.values(), ids=TRIES)
def test_an_attempt_is_recorded_though_the_code(tmp_path: Path, code: str, words: str) -> None:
    assert words in "; ".join(record(tmp_path, FIND + code + ATTEMPT).reached)


def test_code_that_uses_its_own_descriptors_and_folders_is_recorded_for_nothing(tmp_path: Path) -> None:
    own = "a = os.dup(0); b = os.dup2(a, 200); os.close(a); os.closerange(200, 210); os.closerange(0, 2)"
    folders = "import tempfile\nwith tempfile.TemporaryDirectory() as folder: open(folder + '/a', 'w').close()"
    assert record(tmp_path, f"import os\n{own}\nos.environ['TMPDIR'] = os.getcwd()\n{folders}").reached == []


def test_folders_that_are_made_and_removed_are_counted(tmp_path: Path) -> None:
    code = NATIVE.replace("os._exit(0)", "").format(call="getpid()")
    code = f"import os\n{code}\nfor _ in range(200): ctypes.CDLL(None).mkdir(b'a', 511), ctypes.CDLL(None).rmdir(b'a')"
    assert "it writes more than 128 files" in "; ".join(record(tmp_path, code).reached)


def test_a_file_below_a_system_folder_that_is_not_for_everyone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, scratch = tmp_path / "usr", tmp_path / "scratch"
    for folder in (scratch, system / "rules.d"):
        folder.mkdir(parents=True)
    for name, mode in {"key": 0o600, "rules.d/rule": 0o644, "public": 0o644}.items():
        (system / name).touch(mode)
    (system / "rules.d").chmod(0o700)
    monkeypatch.setattr(reading, "_SYSTEM", (str(system),))
    code = f"""
for name in ('key', 'rules.d/rule', 'public'):
    try: open(f'{system}/{{name}}').close(), open(name.replace('/', '-'), 'w').close()
    except PermissionError: pass
"""
    watcher = record(scratch, code, (str(system),))
    assert watcher.reached == [f"it reads {system}/key"[:109], f"it reads {system}/rules.d/rule"[:109]]
    assert [path.name for path in scratch.iterdir()] == ["public"]


def test_external_code_that_replaces_the_connection_is_refused(tmp_path: Path) -> None:
    code = f"{FIND}\ntry: {REPLACE}\nexcept OSError: pass\n{ATTEMPT}"
    with pytest.raises(ModelError, match=r"it closes the connection to its parent; it calls native code"):
        approve(from_zip(tmp_path, code), trust_code=True, cache_dir=tmp_path / "records")


def test_the_protections_in_the_record_are_not_those_that_the_code_names(tmp_path: Path) -> None:
    forged = json.dumps({"ready": ["forged"]}) + "\n" + json.dumps(FORGED) + "\n"
    watcher = record(tmp_path, f"{FIND}\nos.write(channel, {forged.encode()!r})")
    assert watcher.walls
    assert set(watcher.walls) <= {"network", "files", "calls"}
    named = json.dumps({"result": FORGED["result"] | {"walls": ["forged"]}})
    assert "refused" in trial_run._result(named.encode(), [], 0, False, 1.0)


def test_a_watcher_that_fails_is_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"ready": no list}\n')
        watcher = Watcher(2**30, ours, [], str(tmp_path))  # no process has this number
        watcher.stop()
    assert watcher.reached == ["it makes the process fail that watches it"]

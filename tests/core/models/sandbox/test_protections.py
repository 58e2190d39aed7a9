"""Each action that a trial run must refuse, including calls that bypass Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT

BEGIN = f"""
import os, sys
sys.path.insert(0, {str(PROJECT / "src")!r})
from transformer_foundry.core.models.sandbox.audit_hook import readable_paths, watch
from transformer_foundry.core.models.sandbox.landlock import restrict_files
from transformer_foundry.core.models.sandbox.seccomp import restrict_calls
home, scratch, parent = {{home!r}}, {{scratch!r}}, {{parent}}
os.chdir(scratch)
import ctypes, signal, socket, sqlite3, subprocess, threading
system = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    answer = getattr(system, name)(*arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return answer
"""
RESTRICT = "if not {protection}: print('not supported here'); sys.exit()\n"
ATTEMPT = "try: {attempt}\nexcept OSError: print('refused')\nelse: print('done')\n"

HOOK = "transformer_foundry.core.models.sandbox.audit_hook"

FILES = {
    "read a file of the user": "call('open', f'{home}/token'.encode(), 0)",
    "list the user's folder": "os.listdir(home)",
    "write the user's shell profile": "open(f'{home}/.bashrc', 'a')",
    "read the environment of the parent": "open(f'/proc/{parent}/environ', 'rb').read()",
    "read it through its threads": "open(f'/proc/{parent}/task/{parent}/environ', 'rb').read()",
    "read the command line of the parent": "open(f'/proc/{parent}/cmdline', 'rb').read()",
    "start a program": "call('execv', b'/bin/true', (ctypes.c_char_p * 2)(b'true', None))",
    "leave a file for later": "open('/dev/shm/foundry-mark', 'w')",
}
CALLS = {
    "open a socket": "socket.socket()",
    "open a socket, bypassing Python": "call('socket', 2, 1, 0)",
    "start a program": "subprocess.run(['true'])",
    "start a program, bypassing Python": "call('execv', b'/bin/true', (ctypes.c_char_p * 2)(b'true', None))",
    "fork": "call('fork')",
    "signal the parent": "os.kill(parent, 0)",
    "signal all processes of the user": "os.kill(-1, 0)",
    "read the parent's memory": "call('ptrace', 16, parent, 0, 0)",
    "change the parent's limits": "call('prlimit', parent, 7, None, ctypes.create_string_buffer(16))",
    "change the parent's priority": "os.setpriority(0, parent, os.getpriority(0, parent))",
    "change the parent's processors": "os.sched_setaffinity(parent, os.sched_getaffinity(parent))",
    "enter other namespaces": "call('unshare', 0x10000000)",
}
HARMLESS = {
    "a thread": "t = threading.Thread(target=int); t.start(); t.join()",
    "a file in the scratch folder": "open(f'{scratch}/new', 'w').write('x')",
    "a library": "import decimal, _decimal",
    "a signal to itself": "os.kill(os.getpid(), 0)",
    "its own processors": "os.sched_setaffinity(0, os.sched_getaffinity(0))",
    "its own limits": "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
}
WATCHED = {
    "import ctypes as c; c.CDLL(None)": "native code",
    "ctypes.pythonapi.Py_IsInitialized": "native code",
    "open(f'//proc/{parent}/environ')": "reads",
    "os.chdir(f'/proc/{parent}')": "reads",
    "os.open(f'/proc/{parent}', os.O_RDONLY)": "reads",
    "open(f'/proc/self/root{home}/token')": "reads",
    "open(f'{home}/token')": "reads",
    "os.symlink(f'{home}/token', 'here')": "changes",
    "os.rename('own', f'{home}/.profile')": "changes",
    "sqlite3.connect(f'{home}/a.db')": "changes",
    "os.kill(-1, 0)": "signal",
    "os.killpg(os.getpgid(parent), 0)": "signal",
    "[open(f'{n}', 'w') for n in range(100)]": "more than 64 files",
    "[(os.mkdir('in'), os.chdir('in')) for n in range(100)]": "more than 64 files",
    "sys.modules['_posixsubprocess'].fork_exec()": "another program",
    "os.path.realpath = lambda path: scratch; open(f'{home}/token')": "reads",
    f"import {HOOK} as h; h._LISTS = h._WRITING = h._file_actions = 0; open(f'{{home}}/token')": "reads",
}


def run(tmp_path: Path, program: str) -> str:
    """Return the output of a program that runs like the process of a trial run."""
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    home.mkdir(), scratch.mkdir()
    (home / "token").write_text("canary")
    begin = BEGIN.format(home=str(home), scratch=str(scratch), parent=os.getpid())
    ended = subprocess.run([sys.executable, "-I", "-B", "-c", begin + program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    if "not supported" in ended.stdout:
        pytest.skip("this system does not support the protection")
    return ended.stdout.strip()


@pytest.mark.parametrize("attempt", FILES.values(), ids=FILES)
def test_landlock_refuses_to(tmp_path: Path, attempt: str) -> None:
    restrict = RESTRICT.format(protection="restrict_files(readable_paths(), (scratch, os.devnull))")
    assert run(tmp_path, restrict + ATTEMPT.format(attempt=attempt)) == "refused"


@pytest.mark.parametrize("attempt", CALLS.values(), ids=CALLS)
def test_seccomp_refuses_to(tmp_path: Path, attempt: str) -> None:
    assert run(tmp_path, RESTRICT.format(protection="restrict_calls()") + ATTEMPT.format(attempt=attempt)) == "refused"


@pytest.mark.parametrize("attempt", [*FILES.values(), *CALLS.values()])
def test_without_protections_the_attempts_succeed(tmp_path: Path, attempt: str) -> None:
    if "execv" in attempt or "/dev/shm" in attempt or "fork" in attempt or "ptrace" in attempt:
        pytest.skip("it would do harm, or end the process")
    assert run(tmp_path, ATTEMPT.format(attempt=attempt)) == "done"


@pytest.mark.parametrize("attempt", HARMLESS.values(), ids=HARMLESS)
def test_the_protections_allow(tmp_path: Path, attempt: str) -> None:
    restrict = RESTRICT.format(
        protection="restrict_files(readable_paths(), (scratch, os.devnull)) and restrict_calls()"
    )
    watched = "watch([], readable_paths(), scratch)\n"
    assert run(tmp_path, restrict + watched + ATTEMPT.format(attempt=attempt)) == "done"


@pytest.mark.parametrize(("attempt", "recorded"), WATCHED.items())
def test_the_audit_hook_refuses_and_records(tmp_path: Path, attempt: str, recorded: str) -> None:
    # Without the other protections, as on a system that has none.
    watched = "reached = []\nwatch(reached, readable_paths(), scratch)\n"
    shown = run(tmp_path, watched + ATTEMPT.format(attempt=attempt) + "print(*reached)\n")
    assert shown.startswith("refused")
    assert recorded in shown

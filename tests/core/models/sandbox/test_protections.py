"""Each action that a trial run must refuse, including calls that bypass Python."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.foundry import PROJECT
from transformer_foundry.core.models.sandbox import system_calls
from transformer_foundry.core.models.sandbox.seccomp import filter_program

BEGIN = f"""
import os, sys
sys.path.insert(0, {str(PROJECT / "src")!r})
from transformer_foundry.core.models.sandbox.audit_hook import watch
from transformer_foundry.core.models.sandbox.readable_paths import readable_paths
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
    "read a file of the system for root alone": "open('/etc/shadow').read()",
    "start a program": "call('execv', b'/bin/true', (ctypes.c_char_p * 2)(b'true', None))",
    "leave a file for later": "open('/dev/shm/foundry-mark', 'w')",
    "read its own memory map": "open('/proc/self/maps').read()",
    "read its own memory map by number": "open(f'/proc/{os.getpid()}/maps').read()",
    "write its own memory": "open('/proc/self/mem', 'r+b')",
    "list its open files": "os.listdir('/proc/self/fd')",
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
    "change the mode of a file": "os.chmod(f'{home}/token', 0o666)",
    "change the mode of an open file": "call('fchmod', os.open(f'{home}/token', os.O_RDONLY), 0o666)",
    "change a mode by the newest call": "call('syscall', 452, -100, f'{home}/token'.encode(), 0o666, 0)",
    "change the times of a file": "os.utime(f'{home}/token', (1, 1))",
    "change the owner of a file": "os.chown(f'{home}/token', os.getuid(), os.getgid())",
    "cut a file": "os.truncate(f'{home}/token', 0)",
    "set an attribute of a file": "call('setxattr', f'{home}/token'.encode(), b'user.a', b'1', ctypes.c_size_t(1), 0)",
    "rename a file": "os.rename(f'{home}/token', f'{home}/other')",
    "link to a file": "os.link(f'{home}/token', f'{scratch}/other')",
    "leave a link": "os.symlink(f'{home}/token', f'{scratch}/other')",
    "keep a file in memory": "os.memfd_create('a')",
    "share memory": "call('shmget', 0, ctypes.c_size_t(4096), 0o1600)",
    "put text into a terminal": "call('ioctl', 0, 0x5412, b'l')",
    "hide from its parent": "call('prctl', 4, 0, 0, 0, 0)",
    "pair sockets": "socket.socketpair()",
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
    restrict = RESTRICT.format(protection="restrict_files(readable_paths(*sys.path), (scratch, os.devnull))")
    assert run(tmp_path, restrict + ATTEMPT.format(attempt=attempt)) == "refused"


@pytest.mark.parametrize("attempt", CALLS.values(), ids=CALLS)
def test_seccomp_refuses_to(tmp_path: Path, attempt: str) -> None:
    assert run(tmp_path, RESTRICT.format(protection="restrict_calls()") + ATTEMPT.format(attempt=attempt)) == "refused"


@pytest.mark.parametrize("attempt", [*FILES.values(), *CALLS.values()])
def test_without_protections_the_attempts_succeed(tmp_path: Path, attempt: str) -> None:
    if "/proc/self/mem" in attempt or "setxattr" in attempt or "ioctl" in attempt or "452" in attempt:
        pytest.skip("it depends on the system")
    if "execv" in attempt or "/dev/shm" in attempt or "fork" in attempt or "ptrace" in attempt:
        pytest.skip("it would do harm, or end the process")
    assert run(tmp_path, ATTEMPT.format(attempt=attempt)) == "done"


@pytest.mark.parametrize("attempt", HARMLESS.values(), ids=HARMLESS)
def test_the_protections_allow(tmp_path: Path, attempt: str) -> None:
    restrict = RESTRICT.format(
        protection="restrict_files(readable_paths(*sys.path), (scratch, os.devnull)) and restrict_calls()"
    )
    watched = "watch(print, readable_paths(*sys.path), scratch)\n"
    assert run(tmp_path, restrict + watched + ATTEMPT.format(attempt=attempt)) == "done"


@pytest.mark.parametrize(("attempt", "recorded"), WATCHED.items())
def test_the_audit_hook_refuses_and_records(tmp_path: Path, attempt: str, recorded: str) -> None:
    # Without the other protections, as on a system that has none.
    watched = "reached = []\nwatch(reached.append, readable_paths(*sys.path), scratch)\n"
    shown = run(tmp_path, watched + ATTEMPT.format(attempt=attempt) + "print(*reached)\n")
    assert shown.startswith("refused")
    assert recorded in shown


def decide(
    machine: str,
    call: int,
    *arguments: int,
    architecture: int | None = None,
    is_watched: bool = False,
    channel: int | None = None,
) -> str:
    """Return what the filter does with a call: a small interpreter of its instructions."""
    folder_calls = () if is_watched else system_calls.FOLDER_CALLS
    program = filter_program(machine, 77, folder_calls, channel=channel, is_watched=is_watched)
    known = system_calls.ARCHITECTURES[machine] if architecture is None else architecture
    data = {0: call, 4: known, 16: arguments[0] if arguments else 0, 24: arguments[1] if arguments[1:] else 0}
    place = value = 0
    while True:
        code, if_true, if_false, constant = program[place]
        place += 1
        if code == 0x20:
            value = data[constant]
        elif code == 0x06:
            return {0x7FFF0000: "allow", 0x7FC00000: "watch", 0x00050000: "refuse"}[constant & 0xFFFF0000]
        else:
            holds = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
            place += if_true if holds else if_false


@pytest.mark.parametrize("machine", system_calls.ARCHITECTURES)
@pytest.mark.parametrize("is_watched", [False, True])
def test_the_filter_allows_what_is_listed_and_nothing_else(machine: str, is_watched: bool) -> None:
    def numbers(*tables: object) -> set[int]:
        found = {system_calls.number_of(name, machine) for table in tables for name in table}  # type: ignore[attr-defined]
        return {number for number in found if number is not None}

    listed = numbers(system_calls.ALLOWED, () if is_watched else system_calls.FOLDER_CALLS)
    some = numbers(system_calls.SPECIAL, system_calls.OPENING)
    for call in range(700):
        decided = decide(machine, call, 12345, 12345, is_watched=is_watched)
        if call in listed:
            assert decided == "allow", call
        elif call not in some:
            assert decided == ("watch" if is_watched else "refuse"), call
    opening = numbers(("open", "openat", "creat"))
    assert {decide(machine, call, is_watched=is_watched) for call in opening} == {"watch" if is_watched else "allow"}


@pytest.mark.parametrize("machine", system_calls.ARCHITECTURES)
def test_the_filter_looks_at_arguments_and_at_the_architecture(machine: str) -> None:
    def call(name: str, *arguments: int) -> str:
        number = system_calls.number_of(name, machine)
        assert number is not None
        return decide(machine, number, *arguments)

    assert [call("clone", flags) for flags in (0x10000, 0)] == ["allow", "refuse"]
    assert [call("kill", process) for process in (77, 1, 0)] == ["allow", "refuse", "refuse"]
    assert [call("prlimit64", process) for process in (0, 77, 1)] == ["allow", "allow", "refuse"]
    assert [call("ioctl", 0, request) for request in (0x5401, 0x5412)] == ["allow", "refuse"]
    assert [call("fcntl", 0, command) for command in (3, 8)] == ["allow", "refuse"]
    assert [call("prctl", option) for option in (15, 4)] == ["allow", "refuse"]
    assert {call(name, 5) for name in ("close", "dup2", "dup3") if name != "dup2" or machine == "x86_64"} == {"allow"}
    assert call("clone3") == call("openat2") == "refuse"
    assert decide(machine, 0, architecture=0x40000003) == "refuse"
    assert decide(machine, 0x40000000) == "refuse"


@pytest.mark.parametrize("machine", system_calls.ARCHITECTURES)
def test_the_filter_keeps_one_descriptor_as_it_is(machine: str) -> None:
    def call(name: str, *arguments: int) -> str:
        number = system_calls.number_of(name, machine)
        return "watch" if number is None else decide(machine, number, *arguments, is_watched=True, channel=5)

    assert [call("close", descriptor) for descriptor in (4, 5, 6)] == ["allow", "watch", "allow"]
    for name in ("dup2", "dup3"):
        assert (call(name, 1, 5), call(name, 5, 5)) == ("watch", "watch")
    assert call("dup3", 5, 1) == "allow"
    ranges = ((0, 4), (0, 5), (5, 5), (4, 6), (5, 2**32 - 1), (6, 9), (9, 1))
    assert [call("close_range", *ends) for ends in ranges] == ["allow", *["watch"] * 4, "allow", "allow"]


def test_the_numbers_are_those_of_the_kernel() -> None:
    for machine, path, pattern in (
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+)\s+(\d+)$"),
        ("aarch64", "/usr/include/asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+)\s+(\d+)$"),
    ):
        if not Path(path).is_file():
            pytest.skip("the headers of the kernel are not installed")
        found = dict(re.findall(pattern, Path(path).read_text(), re.M))
        found |= {"newfstatat": found["fstatat"]} if "fstatat" in found else {}
        tables = (system_calls.ALLOWED, system_calls.FOLDER_CALLS, system_calls.OPENING, system_calls.SPECIAL)
        for name in {name for table in (*tables, *system_calls.REPORTED.values()) for name in table}:
            number = system_calls.number_of(name, machine)
            assert name not in found or number == int(found[name]), name

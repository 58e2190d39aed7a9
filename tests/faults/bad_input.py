"""Every kind of bad input through the real command, and how it ended: ``python -m tests.faults.bad_input [WORDS]``.

The commands are those of a user (``python -m kedro run ...``, ``python -m transformer_foundry.core.checks ...``), run
by the interpreter's own ``runpy`` in a fork of a process that has imported the libraries: three seconds less for each.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.foundry import PROJECT, arguments

KEDRO, CHECKS = "kedro", "transformer_foundry.core.checks"
TIMEOUT_S = 120
MOST_LINES = 3


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Exit code; negative for a signal.
        out: What it printed to stdout.
        err: What it printed to stderr.
        seconds: How long it took.
    """

    code: int
    out: str
    err: str
    seconds: float

    def problems(self, said: Sequence[str], goes_on: bool = False) -> list[str]:
        """Return what is wrong with how it ended, for bad input that should be met with the words ``said``.

        Args:
            said: Words that its errors must hold.
            goes_on: Whether it should warn and reach its end; otherwise it should be refused.
        """
        # Errors are printed on stderr; warnings of a command that continues are in its output.
        printed = self.out + self.err if goes_on else self.err
        lines = [line for line in self.err.splitlines() if line.strip()]
        found = [] if self.code in ((0,) if goes_on else (1, 2)) else [f"exit code {self.code}"]
        found += [] if goes_on or 1 <= len(lines) <= MOST_LINES else [f"{len(lines)} lines"]
        found += ["a traceback"] if "Traceback" in self.out + self.err else []
        return found + [f"does not say {word!r}" for word in said if word.lower() not in printed.lower()]


def preload() -> None:
    """Import what the commands import, so that a fork of this process need not."""
    import kedro.framework.cli
    import kedro.framework.session  # noqa: F401

    # First of ours: it sets what other libraries read when they are imported.
    import transformer_foundry.cli  # isort: skip
    import datasets  # noqa: F401
    import torch

    import transformer_foundry.core.checks.runner
    import transformer_foundry.core.data.sources.read
    import transformer_foundry.core.publishing.hub.errors as hub_errors
    import transformer_foundry.core.system.hub_client as hub_waits
    import transformer_foundry.core.training
    import transformer_foundry.hooks.tracking.wandb_run as tracker
    import transformer_foundry.pipeline_registry  # noqa: F401
    from transformer_foundry.core.models.source.download import Downloads

    torch.set_num_threads(1)
    # Waits for a server that does not answer, made short: time limit, attempts, first pause.
    Downloads.__init__.__defaults__ = (2.0, 2, 0.05, time.sleep)  # type: ignore[misc]
    hub_waits.WAIT_S, hub_errors._PAUSE_S, tracker.INIT_TIMEOUT_S = 1.0, 0.05, 4


def import_again(folder: Path) -> None:
    """Import what the command that ran in ``folder`` had imported when it ended."""
    for name in (folder / "modules").read_text().split():
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def run_in_fork(module: str, command: Sequence[str], folder: Path, variables: dict[str, str] | None = None) -> Ended:
    """Run ``python -m MODULE COMMAND...`` in a fork of this process.

    Args:
        module: The module to run as ``__main__``.
        command: Its arguments.
        folder: Where its output is kept meanwhile.
        variables: Environment variables beside those of this process.
    """
    out, err = folder / "stdout", folder / "stderr"
    began = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_the_command(module, command, out, err, variables or {})
    code = _wait(child)
    return Ended(code, out.read_text(errors="replace"), err.read_text(errors="replace"), time.monotonic() - began)


def kedro_arguments(data_dir: Path, pipelines: str, settings: dict[str, object]) -> list[str]:
    """Return the arguments of ``python -m kedro`` for the quick settings and ``settings``."""
    return arguments(data_dir, pipelines, settings)[3:]


def _be_the_command(module: str, command: Sequence[str], out: Path, err: Path, variables: dict[str, str]) -> None:
    code = 70
    try:
        os.setsid()
        for path, number in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        os.environ.update(variables)
        os.chdir(PROJECT)
        sys.argv = [module, *command]
        code = _run(module)
        out.with_name("modules").write_text("\n".join(set(sys.modules) - {"__main__"}))
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _run(module: str) -> int:
    """Run the module and return what the interpreter would end with."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def _wait(child: int) -> int:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(words: Sequence[str]) -> int:
    """Run the cases whose name holds one of ``words`` (all without any) and print the table."""
    from tests.faults.bad_input_cases import CASES, prepare
    from tests.loopback.mini_hub import MiniHub

    chosen = [case for case in CASES if not words or any(word in case.name for word in words)]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="foundry-bad-input-") as scratch, MiniHub() as hub:
        # Before the import: the Hub's client reads its settings once.
        os.environ.update(hub.env("hf_test", Path(scratch) / "hf"))
        os.environ.setdefault("FOUNDRY_CACHE", f"{scratch}/cache")
        preload()
        base = Path(scratch) / "base"
        ended = run_in_fork(KEDRO, kedro_arguments(base, "", {"deployment.formats": "[pytorch]"}), Path(scratch))
        assert ended.code == 0, ended.err
        import_again(Path(scratch))
        for number, case in enumerate(chosen):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            with prepare(case, folder, base, hub) as (module, command, variables):
                ended = run_in_fork(module, command, folder, variables)
            problems = ended.problems(case.said, case.goes_on) + case.left_behind(folder)
            failed += bool(problems)
            print(f"{'FAIL' if problems else 'ok':4} {ended.code:3} {ended.seconds:5.1f} s  {case.name}")
            for line in [*problems, *((ended.err or ended.out).splitlines()[-12:] if problems or words else [])]:
                print(f"          {line[:220]}")
            sys.stdout.flush()
            shutil.rmtree(folder)
    print(f"{len(chosen) - failed} of {len(chosen)} cases end with at most {MOST_LINES} clear lines")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

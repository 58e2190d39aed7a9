"""What is left after a crash at every single file-system call of a save, or after every one of them has failed.

    python -m tests.faults.crash_points PLAN... [--torn] [--error EIO [--once]] [--budgets 8]

The plans are first-save, save, drive and training. Each point is tried in a forked child, so that imports are paid
once: the plan's state is made, the act is done under the fault, and what is on the disk is verified by another child,
as after a restart. Prints a line of JSON for each plan; exit code 1 if a single state was not usable. Needs gcc.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("faultfs.c")
NEVER = 2**62


def build_library(folder: Path) -> Path:
    """Compile the library that makes calls fail."""
    library = folder / "faultfs.so"
    command = ["gcc", "-shared", "-fPIC", "-O2", "-w", "-o", str(library), str(SOURCE), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


def in_child(act: Callable[[], object]) -> tuple[int, str]:
    """Run ``act`` in a fork; return its exit code (minus the signal that killed it) and what it raised or returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        code, text = 0, ""
        try:
            text = str(act())
        except BaseException as err:
            code, text = 3, f"{type(err).__name__}: {err}".splitlines()[0]
        os.write(writer, text[:300].encode())
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        text = stream.read().decode()
    status = os.waitpid(child, 0)[1]
    return (-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), text


class Faults:
    """The library, armed in the process that is to fail."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        arguments = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, *[ctypes.c_long] * 3]
        self._library.faultfs_arm.argtypes = arguments
        self._folder = str(folder).encode()

    def arm(
        self, *, kill_at: int = 0, torn: bool = False, error: int = 0, span: Any = (0, 0), budget: int = -1
    ) -> None:
        self._library.faultfs_arm(self._folder, kill_at, int(torn), error, *span, budget)

    def counted(self) -> tuple[int, int]:
        """Return calls and written bytes since arming."""
        return self._library.faultfs_calls(), self._library.faultfs_written()


def points(options: argparse.Namespace, calls: int, size: int) -> Iterator[dict[str, Any]]:
    """Yield the arguments of ``arm`` for each point to try."""
    if options.budgets:
        for index in range(options.budgets):
            yield {"budget": int(size * (index + 0.5) / options.budgets)}
        return
    for number in range(1, calls + 1, options.stride):
        if options.error:
            span = (number, number if options.once else NEVER)
            yield {"error": getattr(errno, options.error), "span": span}
        else:
            yield {"kill_at": number, "torn": options.torn}


def main() -> int:
    options = parse()
    if "faultfs.so" not in os.environ.get("LD_PRELOAD", ""):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {"LD_PRELOAD": str(build_library(Path(folder))), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "tests.faults.crash_points", *sys.argv[1:]]
            return subprocess.run(command, env=environment, check=False).returncode
    from tests.faults import plans

    failed = False
    for name in options.plans:
        with tempfile.TemporaryDirectory() as folder:
            plan = plans.PLANS[name](Path(folder).resolve())
            report = try_all(plan, Faults(Path(os.environ["LD_PRELOAD"]), plan.faulty), options)
        print(json.dumps({"plan": name, **report}), flush=True)
        failed = failed or bool(report["bad"]) or not report["tried"]
    return int(failed)


def try_all(plan: Any, faults: Faults, options: argparse.Namespace) -> dict[str, Any]:
    """Try every point and return what came of them."""

    def act(**point: Any) -> object:
        faults.arm(**point)
        plan.act()
        return json.dumps(faults.counted())

    in_child(plan.set_up)
    code, counted = in_child(act)
    assert code == 0, f"the act fails without a fault: {counted}"
    calls, size = json.loads(counted)
    code, why = in_child(plan.verify)
    assert code == 0, f"the state is not usable without a fault: {why}"
    ends: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    for point in points(options, calls, size):
        in_child(plan.set_up)
        code, text = in_child(lambda point=point: act(**point))  # type: ignore[misc]
        ends["killed" if code == -9 else "went on" if code == 0 else f"stopped: {text[:60]}"] += 1
        code, why = in_child(plan.verify)
        if code:
            bad[f"{why} {point}"] += 1
    tried = sum(ends.values())
    return {"calls": calls, "tried": tried, "bad": sum(bad.values()), "ends": ends, "why": bad}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plans", nargs="+", choices=["first-save", "save", "drive", "training"])
    parser.add_argument("--torn", action="store_true", help="half of a write is done before the kill")
    parser.add_argument("--error", help="calls fail with this errno instead of the kill")
    parser.add_argument("--once", action="store_true", help="one call fails, not all from there on")
    parser.add_argument("--budgets", type=int, default=0, help="the disk is full at so many points")
    parser.add_argument("--stride", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

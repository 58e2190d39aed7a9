"""Machines that vanish behind a slow upload: only what has reached the cloud survives.

    python -m tests.faults.vanishing_machine [--kills 10] [--mb-per-s 2] [--seed 0]

A session saves a checkpoint of 4 MB every three seconds and copies to a mount. A thread uploads files of the mount one
at a time at the given rate, small ones mostly first, each visible in the cloud only when whole, as Drive does. Then the
session is killed, disk and mount are wiped, the mount becomes what the cloud has, and the next session resumes from
there. Prints what was lost and what was written; exit code 1 if more than an interval and an upload was lost.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

STEP_S = 0.1
SAVE_STEPS = 30
SIZE = 10**6
CHECKPOINT_BYTES = 4 * SIZE
SMALL_FIRST = 0.7


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Relative path -> size and time of change."""
    found = {}
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                status = path.stat()
                found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
        except OSError:
            continue
    return found


class Upload(threading.Thread):
    """Brings what changes in ``mount`` to ``cloud``, at a rate."""

    def __init__(self, mount: Path, cloud: Path, bytes_per_s: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.mount, self.cloud, self._rate, self._chance = mount, cloud, bytes_per_s, random.Random(seed)
        self._known: dict[str, tuple[int, int]] = {}
        self._stopped = threading.Event()
        self.uploaded = self.deleted = self.most = 0

    def run(self) -> None:
        while not self._stopped.is_set():
            now = files_of(self.mount)
            self.most = max(self.most, sum(size for size, _ in now.values()))
            for name in [name for name in self._known if name not in now]:
                self.deleted += self._known.pop(name)[0]
                (self.cloud / name).unlink(missing_ok=True)
            changed = [name for name, status in now.items() if self._known.get(name) != status]
            if not changed:
                self._stopped.wait(0.02)
                continue
            smallest = min(changed, key=lambda name: now[name][0])
            self._upload(smallest if self._chance.random() < SMALL_FIRST else self._chance.choice(changed), now)

    def _upload(self, name: str, now: dict[str, tuple[int, int]]) -> None:
        if self._stopped.wait(now[name][0] / self._rate) or files_of(self.mount).get(name) != now[name]:
            return  # it changed on the way: begin again
        target = self.cloud / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.mount / name, target)
        self._known[name] = now[name]
        self.uploaded += now[name][0]

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def train(data_dir: Path, mount: Path, mb_per_s: float) -> None:
    """What a session does until it is killed."""
    from tests.hooks.runs import Run
    from transformer_foundry.hooks.drive.callback import DriveCallback

    run = Run(data_dir, DriveCallback(), sections={"drive": {"folder": str(mount), "upload_mb_per_s": mb_per_s}})
    run.begin(inputs=("previous_run",))
    state = run.dataset.load().latest()
    step = 0 if state is None else state.step
    run.start(step)
    print(step, flush=True)
    while True:
        time.sleep(STEP_S)
        step += 1
        run.progress(step)
        if step % SAVE_STEPS == 0:
            run.checkpoint(step, SIZE)


def reached(data_dir: Path) -> int:
    rows = (data_dir / "06_models" / "gpt" / "metrics.jsonl").read_text().split("\n")[:-1]
    return int(json.loads(rows[-1])["step"]) if rows else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--mb-per-s", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--session", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session:
        train(*options.session, options.mb_per_s)
    chance, lost, uploaded, deleted, before, most = random.Random(options.seed), [], 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cloud, mount, data_dir = root / "cloud", root / "mount", root / "data"
        cloud.mkdir()
        for _ in range(options.kills + 1):
            for path in (mount, data_dir):
                shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(cloud, mount)
            upload = Upload(mount, cloud, options.mb_per_s * 1e6, options.seed)
            upload._known = files_of(mount)
            command = [sys.executable, "-m", "tests.faults.vanishing_machine", "--mb-per-s", str(options.mb_per_s)]
            session = subprocess.Popen(
                [*command, "--session", str(data_dir), str(mount)], stdout=subprocess.PIPE, text=True
            )
            assert session.stdout is not None
            step = int(next(line for line in session.stdout if line.strip().isdigit()))
            lost.append(max(0, before - step) * STEP_S)
            upload.start()
            time.sleep(chance.uniform(4, 15))
            session.kill()
            session.wait()
            upload.stop()
            before = reached(data_dir)
            print(f"began at step {step} (lost {lost[-1]:.1f} s), vanished at step {before}", flush=True)
            uploaded, deleted = uploaded + upload.uploaded, deleted + upload.deleted
            most = max(most, upload.most)
        live = sum(size for size, _ in files_of(cloud).values())
        kept = sum(path.parent.parent.name == "checkpoints" for path in cloud.rglob("manifest.json"))
    allowed = SAVE_STEPS * STEP_S + CHECKPOINT_BYTES / (options.mb_per_s * 1e6)
    print(
        f"lost at most {max(lost):.1f} s of {allowed:.1f} allowed; checkpoints of {CHECKPOINT_BYTES / 1e6:.0f} MB: "
        f"{live / CHECKPOINT_BYTES:.2f} of them lie in the cloud in {kept} generations, at most "
        f"{most / CHECKPOINT_BYTES:.2f} lay on the mount, {uploaded / CHECKPOINT_BYTES:.1f} were uploaded and "
        f"{deleted / CHECKPOINT_BYTES:.1f} deleted in {options.kills + 1} sessions"
    )
    return int(max(lost) > allowed)


if __name__ == "__main__":
    sys.exit(main())

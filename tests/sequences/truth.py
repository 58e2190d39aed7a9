"""What is true of a run, read from its checkpoints, metrics and tokens without the code of this project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """An intact checkpoint: every file has the size and sha256 of its manifest."""

    folder: Path
    step: int
    best_step: int | None
    fence: int
    weights: str
    identity: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A run: what it was started with, what it has logged, what it has saved."""

    folder: Path
    data_dir: Path
    manifest: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]
    checkpoints: tuple[Checkpoint, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def model(self) -> str:
        code, config = (self.manifest["identity"].get(name, "") for name in ("model_code", "config"))
        return hashlib.sha256(f"model.py:{code}\nconfig.json:{config}\n".encode()).hexdigest()

    @property
    def data(self) -> str:
        return str(self.manifest["identity"].get("data"))

    @property
    def newest(self) -> Checkpoint | None:
        return max(self.checkpoints, key=lambda item: (item.step, item.fence), default=None)

    @property
    def best(self) -> Checkpoint | None:
        """The checkpoint of the lowest validation loss that was logged up to the newest one; the newest without."""
        if self.newest is None:
            return None
        losses = [(row["eval/loss"], row["step"]) for row in self.rows if "eval/loss" in row]
        losses = [(loss, step) for loss, step in losses if step <= self.newest.step]
        wanted = min(losses)[1] if losses else self.newest.step
        return next((item for item in self.checkpoints if item.step == wanted), self.newest)

    def tokens(self) -> Mapping[str, Any] | None:
        """The index of the tokens that the run was trained on, if they are still there."""
        for path in self.data_dir.glob("05_model_input/*/tokens/*.json"):
            index = read(path)
            if index.get("fingerprint") == self.data:
                return index
        return None


def runs(data_dir: Path) -> list[Run]:
    found = []
    for path in sorted(data_dir.glob("06_models/*/manifest.json")):
        manifest = read(path)
        if "identity" in manifest:
            folder = path.parent
            found.append(Run(folder, data_dir, manifest, tuple(read_rows(folder / "metrics.jsonl")), intact(folder)))
    return found


def intact(run_folder: Path) -> tuple[Checkpoint, ...]:
    found = []
    for path in sorted(run_folder.glob("checkpoints/step-*/manifest.json")):
        manifest, folder = read(path), path.parent
        files = manifest.get("files") or {}
        if files and all(sha256(folder / name) == entry["sha256"] for name, entry in files.items()):
            identity, fence = manifest["identity"], manifest.get("fence", 0)
            weights = sha256(folder / "weights.safetensors")
            found.append(Checkpoint(folder, manifest["step"], manifest["best_step"], fence, weights, identity))
    return tuple(found)


def read(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is none or it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.is_file() else []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:  # damaged
            continue
    return rows


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

"""Reads an offline W&B run back, independently of how it was written.

wandb ships the classes of its messages but no reader for the files. A ``run-*.wandb`` file is a log in LevelDB's
format: a 7-byte header ``:W&B``, magic number, version; then blocks of 32 KiB with chunks of crc32 (4 bytes, little
endian), length (2), kind (1 whole, 2 first, 3 middle, 4 last) and data. Less than 7 bytes at the end of a block are
padding. A crash cuts the last record off; everything before it can be read, so the reader stops there quietly.
"""

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

BLOCK_BYTES = 32768
HEADER_BYTES = 7


@dataclass
class OfflineRun:
    """What one ``.wandb`` file holds."""

    run_id: str | None = None
    project: str | None = None
    name: str | None = None
    group: str | None = None
    tags: list = field(default_factory=list)
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    artifacts: list = field(default_factory=list)
    files: list = field(default_factory=list)
    metrics: list = field(default_factory=list)
    alerts: list = field(default_factory=list)
    exit_code: int | None = None


def read_runs(folder):
    """Read every offline run under the ``dir`` that wandb was given, in the order they were started."""
    return [read_run(path) for path in sorted(Path(folder).glob("wandb/offline-run-*/run-*.wandb"))]


def read_run(path):
    """Read one ``.wandb`` file."""
    from wandb.proto import wandb_internal_pb2

    run = OfflineRun()
    for data in raw_records(Path(path).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        _add(run, record)
    return run


def raw_records(data):
    """Yield the bytes of each record; raise ValueError at a wrong checksum."""
    if data[:4] != b":W&B":
        raise ValueError("not a W&B run file")
    position, parts = HEADER_BYTES, []
    while position + HEADER_BYTES <= len(data):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < HEADER_BYTES:
            position += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        body = data[position + HEADER_BYTES : position + HEADER_BYTES + length]
        if kind == 0 or len(body) < length:
            return
        position += HEADER_BYTES + length
        if checksum != zlib.crc32(body, zlib.crc32(bytes([kind]))) & 0xFFFFFFFF:
            raise ValueError(f"wrong checksum before byte {position}")
        parts.append(body)
        if kind in (1, 4):
            yield b"".join(parts)
            parts = []


def _add(run, record):
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run.run_id, run.project = record.run.run_id, record.run.project
        run.name, run.group, run.tags = record.run.display_name, record.run.run_group, list(record.run.tags)
        _put_all(run.config, record.run.config.update)
    elif kind == "config":
        _put_all(run.config, record.config.update)
    elif kind == "summary":
        _put_all(run.summary, record.summary.update)
    elif kind == "history":
        run.history.append(_put_all({}, record.history.item))
    elif kind == "artifact":
        run.artifacts.append(_artifact(record.artifact))
    elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
        run.artifacts.append(_artifact(record.request.log_artifact.artifact))
    elif kind == "files":
        run.files += [entry.path for entry in record.files.files]
    elif kind == "metric":
        run.metrics.append((record.metric.name or record.metric.glob_name, record.metric.step_metric))
    elif kind == "alert":
        run.alerts.append((record.alert.title, record.alert.text))
    elif kind == "exit":
        run.exit_code = record.exit.exit_code


def _put_all(tree, items):
    for item in items:
        *outer, last = list(item.nested_key) or [item.key]
        branch = tree
        for key in outer:
            branch = branch.setdefault(key, {})
        branch[last] = json.loads(item.value_json)
    return tree


def _artifact(artifact):
    return {
        "name": artifact.name,
        "type": artifact.type,
        "files": sorted(entry.path for entry in artifact.manifest.contents),
    }

"""Read the last logged step from W&B's offline files of a run, and which of them are not uploaded.

wandb keeps rows in memory for a while, and a kill loses them; only the file shows which rows are safe. A
``run-*.wandb`` file is a log in LevelDB's format: a header of 7 bytes, then blocks of 32 KiB with chunks of
checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last part of a record) and data; each record
is a protobuf message. A crash leaves an incomplete record at the end.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["folders_to_sync", "last_logged_step"]

_HEADER_BYTES = 7
_BLOCK_BYTES = 32768
_CHUNK_HEADER = struct.Struct("<IHB")
_WHOLE, _LAST = 1, 4


def last_logged_step(folder: Path, run_id: str, metric: str) -> int:
    """Return the largest value of ``metric`` in the offline files of a run, -1 if there is none.

    Args:
        folder: The ``dir`` that wandb was given.
        run_id: Id of the run; each of its sessions has its own file.
        metric: Name of the metric that counts steps.
    """
    files = folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb")
    return max((step for path in files for step in _steps(path, metric)), default=-1)


def folders_to_sync(folder: Path, run_id: str) -> list[Path]:
    """Return the folders of the offline sessions of a run that ``wandb sync`` has not uploaded, the oldest first.

    A session that was killed before wandb wrote its first record is left out: ``wandb sync`` ends at such a folder and
    uploads none of those that it is called with.

    Args:
        folder: The ``dir`` that wandb was given.
        run_id: Id of the run.
    """
    found = sorted(folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))
    # wandb marks what it has uploaded with an empty file.
    left = [path for path in found if not path.with_name(f"{path.name}.synced").exists()]
    return [path.parent for path in left if next(_records(path.read_bytes()), None) is not None]


def _steps(path: Path, metric: str) -> Iterator[int]:
    from wandb.proto.wandb_internal_pb2 import Record

    for data in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        for item in record.history.item:
            if metric in (item.key, *item.nested_key):
                yield int(json.loads(item.value_json))


def _records(data: bytes) -> Iterator[bytes]:
    parts: list[bytes] = []
    position = _HEADER_BYTES
    while position + _CHUNK_HEADER.size <= len(data):
        left = _BLOCK_BYTES - position % _BLOCK_BYTES
        if left < _CHUNK_HEADER.size:
            position += left
            continue
        _, length, kind = _CHUNK_HEADER.unpack_from(data, position)
        position += _CHUNK_HEADER.size
        part = data[position : position + length]
        if kind == 0 or len(part) < length:
            return
        position += length
        parts.append(part)
        if kind in (_WHOLE, _LAST):
            yield b"".join(parts)
            parts = []

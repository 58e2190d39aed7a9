"""Copies of the SQLite file of a study, and the way back to the newest of them when the file is damaged or emptied.

A copy is ``copies/<number>-<first digits of its sha256>.db`` beside the file: its name says whether it is whole.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from pathlib import Path

from transformer_foundry.core.base.errors import TuningError
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.files.atomic import make_folder, sha256_of, sync
from transformer_foundry.core.files.lock import lock_file
from transformer_foundry.core.files.plain_files import plain_opener
from transformer_foundry.core.studies.tuning.storage.study_schema import foreign_part, open_study

__all__ = ["find_damage", "keep_copy", "restore_study", "set_aside"]

_log = logging.getLogger(__name__)

KEPT = 2
_DIGITS = 16

# Of Optuna's tables, the same since version 3: what is stored here never changes afterwards.
_STORED = (
    "SELECT number, 'parameter', param_name, param_value FROM trials JOIN trial_params USING (trial_id)",
    "SELECT number, 'step', step, intermediate_value FROM trials JOIN trial_intermediate_values USING (trial_id)",
    "SELECT number, 'result', state, value FROM trials LEFT JOIN trial_values USING (trial_id) "
    "WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')",
)


def keep_copy(path: Path) -> None:
    """Copy the file of a study, which other processes may be writing, and keep the two newest copies.

    A search goes on without a copy: where none can be written, a warning says so.
    """
    folder = _folder(path)
    copies = _copies(path)
    number = 1 + max((_number(copy) for copy in copies), default=0)
    temporary = folder / f"{number:06d}.new"
    try:
        make_folder(folder)
        temporary.unlink(missing_ok=True)
        with open_study(path) as live, contextlib.closing(sqlite3.connect(temporary)) as copy:
            live.backup(copy)
        sync(temporary)
        temporary.replace(folder / f"{number:06d}-{sha256_of(temporary)[:_DIGITS]}.db")
        for old in copies[: 1 - KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as err:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _log.warning("No copy of the study %s can be kept: %s.", path, err)


def restore_study(path: Path) -> None:
    """Put the newest whole copy in place of a study that is damaged, emptied or altered; the file is set aside.

    A study that is missing is none that was damaged: whoever deletes it starts a new search, and the copies are set
    aside too.

    Raises:
        TuningError: If it is damaged, and no copy is whole.
    """
    if not path.parent.is_dir():
        return
    with open(path.parent / ".study.lock", "a", opener=plain_opener) as lock:
        lock_file(lock, wait=True)  # the processes of a search may start together
        copy = next(filter(_is_whole, reversed(_copies(path))), None)
        if not path.exists():
            if _copies(path):
                aside = set_aside(_folder(path))
                _log.warning("%s is missing: a new search starts. Copies of the earlier one are in %s.", path, aside)
            return
        damage = find_damage(path, copy)
        if damage is None:
            return
        if copy is None:
            raise _damaged(path, damage)
        aside = set_aside(path)
        copy.replace(path)
        sync(path.parent)
        keep_copy(path)
    trials = counted(len({row[0] for row in _stored(path)}), "trial")
    _log.warning("%s %s: it is restored from its last copy (%s) and kept as %s.", path, damage, trials, aside.name)


def find_damage(path: Path, copy: Path | None = None) -> str | None:
    """Return what is wrong with the file of a study; None if it is whole, or cannot be looked at now.

    Args:
        path: The file.
        copy: A whole copy of an earlier state, whose trials the file must have.
    """
    foreign = foreign_part(path)  # first: to check a table is to evaluate its schema
    if foreign is not None:
        return foreign
    try:
        with open_study(path) as database:
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            return "is damaged"
        if copy is not None and (missing := _stored(copy) - _stored(path)):
            return "has lost what it held" if not _stored(path) else f"differs in {_trials_of(missing)}"
    except sqlite3.OperationalError:  # locked; what opens it next reports it
        return None
    except sqlite3.DatabaseError:
        return "is damaged"
    return None


def set_aside(path: Path) -> Path:
    """Rename a file or folder, and what SQLite keeps beside it, to a name that is free; return that name."""
    numbers = iter(range(1, 10**6))
    target = next(
        free for number in numbers if not (free := path.with_name(f"{path.stem}-aside-{number}{path.suffix}")).exists()
    )
    for suffix in ("-wal", "-shm", "-journal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            beside.replace(target.with_name(target.name + suffix))
    path.replace(target)
    return target


def _stored(path: Path) -> set[tuple[object, ...]]:
    rows: set[tuple[object, ...]] = set()
    with open_study(path) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "trials" in tables:
            for query in _STORED:
                rows.update(database.execute(query))
    return rows


def _trials_of(rows: set[tuple[object, ...]]) -> str:
    numbers = sorted({int(str(row[0])) for row in rows})
    return f"{counted(len(numbers), 'trial')} from its copy"


def _folder(path: Path) -> Path:
    return path.parent / "copies"


def _copies(path: Path) -> list[Path]:
    return sorted(_folder(path).glob("??????-*.db"))


def _number(copy: Path) -> int:
    number = copy.name.partition("-")[0]
    return int(number) if number.isdigit() else 0


def _is_whole(copy: Path) -> bool:
    try:
        return sha256_of(copy)[:_DIGITS] == copy.stem.partition("-")[2] and foreign_part(copy) is None
    except OSError:
        return False


def _damaged(path: Path, damage: str) -> TuningError:
    return TuningError(
        f"The study {path} {damage}, and there is no copy of it that is whole.",
        "Expected an intact SQLite file of a search.",
        "Restore the file, or move it away to start a new search.",
    )

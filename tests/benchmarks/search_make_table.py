"""Make tables of learning curves: small models trained in full with every configuration of a grid, or with drawn ones.

``python -m tests.benchmarks.search_make_table FOLDER [--problems schedules,...] [--processes 2]`` takes four to ten
minutes of one core for a table. A search can then be replayed against the tables in milliseconds (``search_replay``).
Curves are written one by one, and an interrupted command continues with the next. It needs no package of this project.
"""

import argparse
import json
import multiprocessing
import os
from functools import cache
from pathlib import Path

import numpy as np

from tests.benchmarks.search_problems import PROBLEMS, train


@cache
def _rows(name):
    return PROBLEMS[name].configurations()


@cache
def _tokens(name):
    return PROBLEMS[name].tokens()


def _start():
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()


def _train_row(task):
    name, index = task
    return name, index, train(PROBLEMS[name], _rows(name)[index], *_tokens(name))


def _read_curves(path):
    """Index -> curve of what earlier commands have trained; a last line that was cut off is taken away."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    path.write_text("".join(whole), encoding="utf-8")
    entries = [json.loads(line) for line in whole]
    return {entry["index"]: entry["curve"] for entry in entries}


def _write_table(folder, name, curves):
    problem, rows = PROBLEMS[name], _rows(name)
    kept = sorted(curves)
    stored = {
        "curves": np.array([curves[index] for index in kept], dtype=np.float32),
        "space": json.dumps(problem.space),
        "every": problem.every,
    }
    if problem.n_rows is not None:
        stored["rows"] = json.dumps([rows[index] for index in kept])
    np.savez_compressed(folder / f"{name}.npz", **stored)
    print(
        f"{name}: {len(kept)} of {len(rows)} configurations, best loss {stored['curves'][:, -1].min():.3f}", flush=True
    )


def _make(folder, names, processes, limit):
    partial = {name: folder / f"{name}.jsonl" for name in names}
    curves = {name: _read_curves(partial[name]) for name in names}
    wanted = {name: min(limit or len(_rows(name)), len(_rows(name))) for name in names}
    tasks = [(name, index) for name in names for index in range(wanted[name]) if index not in curves[name]]
    for name in names:
        if len(curves[name]) >= wanted[name]:
            _write_table(folder, name, curves[name])
    with multiprocessing.get_context("spawn").Pool(processes, _start) as pool:
        for name, index, curve in pool.imap_unordered(_train_row, tasks):
            curves[name][index] = curve
            with partial[name].open("a", encoding="utf-8") as file:
                file.write(json.dumps({"index": index, "curve": curve}) + "\n")
            if len(curves[name]) == wanted[name]:
                _write_table(folder, name, curves[name])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, help="configurations of each table, to try the command")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    _make(arguments.folder, arguments.problems.split(","), arguments.processes, arguments.limit)


if __name__ == "__main__":
    main()

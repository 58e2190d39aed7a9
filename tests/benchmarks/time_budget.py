"""Whether ``training.max_hours`` is kept over sessions that are killed, and the forecast after 30 steps.

``python -m tests.benchmarks.time_budget [--budgets 20 40 60] [--kinds gpt bert t5] [--seed 0] [--clock wall|cpu]``
takes about fifteen minutes. Each run is a process that is killed with SIGKILL three times at a random moment; the next
session goes on from the newest checkpoint that was whole. The seconds of the clock are those of this script: of each
session up to the checkpoint that was gone on from, after the libraries were loaded. Wall time needs a quiet machine:
what others do to the speed after the last plan, or after step 30, is not the planner's. ``--clock cpu`` measures and
plans in seconds of the process's own CPU time.
"""

import argparse
import itertools
import json
import logging
import multiprocessing
import os
import random
import re
import signal
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch

from transformer_foundry.core import data as core_data
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.models import load_model, read_export
from transformer_foundry.core.training import Checkpoint, Progress, TrainingOptions, fit, trainer
from transformer_foundry.core.training.monitoring import step_timing, time_budget, validator
from transformer_foundry.datasets.training_run import TrainingRunDataset

EXPORTS = Path(__file__).parents[2] / "data" / "01_raw" / "exports"
CLOCKS = {"wall": time.monotonic, "cpu": time.process_time}
KILLS, STEPS = 3, 180
COMMON = {"device": "cpu", "num_samples": 0, "per_device_train_batch_size": 4, "eval_steps": 50}


class Forecasts(logging.Handler):
    def __init__(self):
        super().__init__()
        self.seconds = []

    def emit(self, record):
        found = re.match(r"Forecast: ([\d.e+-]+) (s|min|h) more", record.getMessage())
        if found:
            self.seconds.append(float(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]])


def prepare(name):
    export = read_export(EXPORTS / name)
    contract, options = load_model(export).contract, DataOptions(max_documents=600)
    corpus = core_data.read_corpus(options, contract.task, contract.num_labels)
    tokenizer = core_data.fit_tokenizer(corpus, contract, options)
    return export, core_data.prepare_splits(corpus, tokenizer, contract, options)


def use_clock(name):
    torch.set_num_threads(1)
    for module in (validator, trainer, step_timing, time_budget):
        module.time = SimpleNamespace(perf_counter=CLOCKS[name], monotonic=CLOCKS[name])
    return CLOCKS[name]


def train(export, splits, options, folder, clock_name):
    """One session, in a process of its own; a line in ``log`` for each record."""
    clock = use_clock(clock_name)
    dataset = TrainingRunDataset(filepath=str(folder / "run"), keep=2)
    state = dataset.load().latest()
    with (folder / "log").open("a", encoding="utf-8") as log:
        print(json.dumps({"from": 0 if state is None else state.step}), file=log, flush=True)
        adapter = load_model(export)
        torch.use_deterministic_algorithms(False)  # the first call imports the compiler: a library is no training
        began = clock()
        for record in fit(adapter, splits, options, resume_from=state):
            line = {"step": record.step, "seconds": clock() - began}
            if isinstance(record, Progress):
                line |= {"rate": record.metrics["train/learning_rate"], "total": record.total_steps}
            elif isinstance(record, Checkpoint):
                line |= {"counted": record.state.time_plan.trained_s}
            dataset.save(record)
            print(json.dumps(line), file=log, flush=True)
        dataset.wait()


def read_log(folder):
    """Return the sessions: the step each began at, and its lines."""
    sessions = []
    for text in (folder / "log").read_text().splitlines() if (folder / "log").exists() else []:
        line = json.loads(text) if text.endswith("}") else {}
        if "from" in line:
            sessions.append((line["from"], []))
        elif line:
            sessions[-1][1].append(line)
    return sessions


def run(export, splits, seconds, folder, clock_name):
    """Kill three sessions and let the fourth end; return all of them."""
    options = TrainingOptions(max_hours=seconds / 3600, save_steps=10, logging_steps=5, **COMMON)
    stream, context = random.Random(seconds), multiprocessing.get_context("spawn")
    for kill in range(KILLS + 1):
        limit = stream.uniform(0.15, 0.3) * seconds if kill < KILLS else float("inf")
        process = context.Process(target=train, args=(export, splits, options, folder, clock_name))
        process.start()
        while process.is_alive():
            sessions = read_log(folder)
            if len(sessions) > kill and sessions[kill][1] and sessions[kill][1][-1]["seconds"] > limit:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(stream.uniform(0.01, 0.05))
        process.join()
    return read_log(folder), options


def judge(sessions, options, seconds):
    lines = [line for _, found in sessions for line in found]
    rate = next(line["rate"] for line in reversed(lines) if "rate" in line)
    counted = next(line["counted"] for line in reversed(lines) if "counted" in line)
    clock = sessions[-1][1][-1]["seconds"]
    for (_, found), (start, _) in itertools.pairwise(sessions):
        clock += max((line["seconds"] for line in found if line["step"] == start and "counted" in line), default=0.0)
    starts, plans = [start for start, _ in sessions], [line["total"] for line in lines if "total" in line]
    floor = options.min_lr_ratio * options.learning_rate
    return (
        f"counted {counted:.1f} s ({counted / seconds - 1:+.1%}), clock {clock:.1f} s ({clock / seconds - 1:+.1%}), "
        f"last learning rate {rate / floor:.2f} x its floor, sessions from {starts}, {lines[-1]['step']} steps, "
        f"planned {min(plans)} to {max(plans)}"
    )


def forecast(export, splits, clock_name):
    """Return what the forecast says of the steps after the 30th, and what they take."""
    handler, clock = Forecasts(), use_clock(clock_name)
    log = logging.getLogger("transformer_foundry")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    reached = {}
    for record in fit(load_model(export), splits, TrainingOptions(max_steps=STEPS, **COMMON)):
        reached[record.step] = clock()
    log.removeHandler(handler)
    return handler.seconds[0], reached[STEPS] - reached[step_timing.FORECAST_STEPS]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--budgets", type=float, nargs="+", default=[20, 40, 60])
    parser.add_argument("--kinds", nargs="+", default=["gpt", "bert", "t5"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    COMMON["seed"] = arguments.seed
    for name in arguments.kinds:
        export, splits = prepare(name)
        said, took = forecast(export, splits, arguments.clock)
        print(f"{name}: forecast after 30 steps {said:.1f} s, took {took:.1f} s ({said / took - 1:+.1%})", flush=True)
        for seconds in arguments.budgets:
            with tempfile.TemporaryDirectory() as folder:
                found = judge(*run(export, splits, seconds, Path(folder), arguments.clock), seconds)
            print(f"{name}: budget {seconds:.0f} s, {found}", flush=True)


if __name__ == "__main__":
    main()

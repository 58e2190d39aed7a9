"""Whether ``training.max_hours`` is kept, and the forecast after 30 steps: wall time, so on a quiet machine.

``python -m tests.benchmarks.time_budget [--budgets 20 40 60] [--kinds gpt bert t5]`` takes about ten minutes. Each run
is cut off three times at a random moment (its generator is dropped) and goes on from its last checkpoint. The time
between the last checkpoint and the cut is done again and does not count.
"""

import argparse
import logging
import random
import re
import time
from pathlib import Path

import torch

from transformer_foundry.core import data as core_data
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.exports import load_model, read_export
from transformer_foundry.core.training import Checkpoint, Progress, TrainingOptions, fit

EXPORTS = Path(__file__).parents[2] / "data" / "01_raw" / "exports"
KILLS = 3


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


def run(export, splits, seconds, seed):
    """Return the seconds that the run says it took, those of the clock, and the last learning rate."""
    options = TrainingOptions(max_hours=seconds / 3600, device="cpu", num_samples=0, save_steps=10, logging_steps=5,
                              per_device_train_batch_size=4, eval_steps=50)  # fmt: skip
    stream, state, clock, rate = random.Random(seed), None, 0.0, 0.0
    for kill in range(KILLS + 1):
        began, limit = time.monotonic(), stream.uniform(0.15, 0.3) * seconds if kill < KILLS else float("inf")
        records = fit(load_model(export), splits, options, resume_from=state)
        for record in records:
            if isinstance(record, Checkpoint):
                state, saved = record.state, time.monotonic() - began
            elif isinstance(record, Progress):
                rate = record.metrics["train/learning_rate"]
            if time.monotonic() - began > limit and state is not None:
                break
        records.close()
        clock += saved
    return state.counters.trained_s, clock, rate / (options.min_lr_ratio * options.learning_rate)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--budgets", type=float, nargs="+", default=[20, 40, 60])
    parser.add_argument("--kinds", nargs="+", default=["gpt", "bert", "t5"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    log, handler = logging.getLogger("transformer_foundry"), Forecasts()
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    for name in arguments.kinds:
        export, splits = prepare(name)
        for seconds in arguments.budgets:
            counted, clock, rate = run(export, splits, seconds, int(seconds))
            print(f"{name}: budget {seconds:.0f} s, counted {counted:.1f} s ({counted / seconds - 1:+.1%}), clock "
                  f"{clock:.1f} s, last learning rate {rate:.2f} x its floor", flush=True)  # fmt: skip
        handler.seconds.clear()
        options = TrainingOptions(max_steps=180, device="cpu", num_samples=0, per_device_train_batch_size=4)
        reached = {}
        for record in fit(load_model(export), splits, options):
            reached[record.step] = time.monotonic()
        took = reached[180] - reached[30]
        print(f"{name}: forecast after 30 steps {handler.seconds[0]:.1f} s, took {took:.1f} s "
              f"({handler.seconds[0] / took - 1:+.1%})", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()

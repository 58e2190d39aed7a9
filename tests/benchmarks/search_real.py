"""What a search of the real model costs: pause and resume against TPE without pruning, to the same loss.

``python -m tests.benchmarks.search_real [--seeds 2] [--trials 40] [--steps 40] [--processes 1]`` takes about eight CPU
minutes a seed. Both search the default space of the bundled GPT on the built-in text, the default configuration first,
with the same budget: that of so many trials in full. The cost is the CPU seconds of the process, one thread, until a
completed trial has

- the best loss that TPE finds with its whole budget;
- a loss within 1 % of the lowest that either of the two finds.

At the end the winner and the default are trained with two fresh seeds.
"""

import argparse
import math
import multiprocessing
import statistics
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import torch

from transformer_foundry.core import data as core_data
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.models import load_model, read_export
from transformer_foundry.core.studies.tuning import (
    TuningOptions,
    compare_with_default,
    load_study,
    make_full_training,
    make_train_trial,
    model_space,
    paused_checkpoints_in,
    search,
)
from transformer_foundry.core.training.options import TrainingOptions

GPT = Path(__file__).parents[2] / "data" / "01_raw" / "exports" / "gpt"
METHODS = {"pause_resume": {}, "tpe": {"sampler": "tpe", "pruner": "none"}}
TOLERANCE = 0.01


class RealProblem:
    """The bundled GPT and its tokens, made once."""

    def __init__(self, folder, n_trials, steps):
        self.folder, self.n_trials, self.steps = folder, n_trials, steps
        self.base = TrainingOptions(device="cpu", max_steps=steps)
        self.export = read_export(GPT)
        contract = load_model(self.export).contract
        self.model = {"kind": contract.kind, "task": contract.task}
        options = DataOptions()
        corpus = core_data.read_corpus(options, contract.task, contract.num_labels)
        tokenizer = core_data.fit_tokenizer(corpus, contract, options)
        self.splits = core_data.prepare_splits(corpus, tokenizer, contract, options)

    def search(self, method, seed):
        """Return the study and, for each completed trial, (CPU seconds so far, loss)."""
        options = TuningOptions(
            n_trials=self.n_trials, max_steps=self.steps, seed=seed, min_gain=0.0, **METHODS[method]
        )
        space = model_space(self.export, options, self.base, **self.model)
        trial = make_train_trial(self.export, self.splits, self.base, options, space=space, **self.model)
        storage = optuna.storages.InMemoryStorage()
        # On disk, as in the pipeline: writing and reading the states of paused trials is part of the cost.
        checkpoints = paused_checkpoints_in(self.folder / f"{method}-{seed}", options.paused_gib)
        began, found = time.process_time(), []
        for record in search(space, trial, options, storage, checkpoints=checkpoints):
            if record.state == "complete":
                found.append((time.process_time() - began, record.loss))
        return load_study(storage), found

    def verdict(self, study):
        train = make_full_training(self.export, self.splits, self.base, self.steps, **self.model)
        seed = self.base.seed + 1
        return compare_with_default(study, study.best_params, train, steps=self.steps, n_seeds=2, first_seed=seed)[
            "verdict"
        ]


def search_once(task):
    """One search in this process: (method, seed) -> what it found and when, and for ours the verdict."""
    method, seed, n_trials, steps = task
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        problem = RealProblem(Path(folder), n_trials, steps)
        study, found = problem.search(method, seed)
        return method, seed, found, problem.verdict(study) if method == "pause_resume" else None


def seconds_to(found, target):
    return next((seconds for seconds, loss in found if loss <= target), math.inf)


def print_costs(found):
    """The costs of one seed; return them: goal -> (seconds of ours, of TPE)."""
    theirs = min(loss for _, loss in found["tpe"])
    goals = {"TPE's best": theirs, "within 1 % of both": (1 + TOLERANCE) * min(x for f in found.values() for _, x in f)}
    costs = {}
    for goal, target in goals.items():
        costs[goal] = [seconds_to(found[method], target) for method in METHODS]
        print(f"1.   {goal}, loss {target:.4f}: {costs[goal][0]:.1f} CPU s, TPE {costs[goal][1]:.1f}", flush=True)
    return costs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    tasks = [(method, seed, arguments.trials, arguments.steps) for seed in range(arguments.seeds) for method in METHODS]
    results, costs = {}, []
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=1) as pool:
        for method, seed, found, verdict in pool.imap_unordered(search_once, tasks):
            results.setdefault(seed, {})[method] = found
            best, spent = min(loss for _, loss in found), found[-1][0]
            print(f"seed {seed} {method:12} best {best:.4f}, {len(found)} complete, {spent:.1f} CPU s", flush=True)
            if verdict:
                print(f"5.   {verdict}", flush=True)
            if len(results[seed]) == len(METHODS):
                costs.append(print_costs(results[seed]))
    for goal in costs[0]:
        ours, theirs = (statistics.median(cost[goal][index] for cost in costs) for index in (0, 1))
        reached = sum(math.isfinite(cost[goal][0]) for cost in costs)
        print(
            f"1. {goal}: median {ours:.1f} CPU s, TPE {theirs:.1f}: {ours / theirs:.2f}; reached {reached}/{len(costs)}"
        )


if __name__ == "__main__":
    main()

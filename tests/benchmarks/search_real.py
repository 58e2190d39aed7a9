"""What a search of the real model costs: pause and resume against TPE without pruning, to the same loss.

``python -m tests.benchmarks.search_real [--seeds 2] [--trials 10] [--steps 40]`` takes about six CPU minutes on one
thread. Both search the default space of the bundled GPT on the built-in text, the default configuration first. The
loss to reach is within 1 % of the lowest that either finds with the whole budget; the cost is the CPU seconds of this
process until a completed trial has it. At the end the winner and the default are trained with two fresh seeds.
"""

import argparse
import math
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import optuna
import torch

from transformer_foundry.core import data as core_data
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.exports import load_model, read_export
from transformer_foundry.core.training.options import TrainingOptions
from transformer_foundry.core.tuning import (
    TuningOptions,
    compare_with_default,
    load_study,
    make_full_training,
    make_train_trial,
    model_space,
    paused_states,
    search,
)

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
        states = paused_states(self.folder / f"{method}-{seed}", options.paused_gib)
        began, found = time.process_time(), []
        for record in search(space, trial, options, storage, states=states):
            if record.state == "complete":
                found.append((time.process_time() - began, record.loss))
        return load_study(storage), found

    def verdict(self, study):
        train = make_full_training(self.export, self.splits, self.base, self.steps, **self.model)
        seed = self.base.seed + 1
        return compare_with_default(study, study.best_params, train, steps=self.steps, n_seeds=2, first_seed=seed)[
            "verdict"
        ]


def seconds_to(found, target):
    return next((seconds for seconds, loss in found if loss <= target), math.inf)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        problem = RealProblem(Path(folder), arguments.trials, arguments.steps)
        for seed in range(arguments.seeds):
            outcomes = {method: problem.search(method, seed) for method in METHODS}
            target = (1 + TOLERANCE) * min(loss for _, found in outcomes.values() for _, loss in found)
            for method, (study, found) in outcomes.items():
                print(
                    f"1. seed {seed} {method:12} {seconds_to(found, target):6.1f} CPU s to loss {target:.4f}; "
                    f"best {study.best_value:.4f} in {found[-1][0]:.1f} CPU s",
                    flush=True,
                )
            print(f"5. seed {seed} {problem.verdict(outcomes['pause_resume'][0])}", flush=True)


if __name__ == "__main__":
    main()

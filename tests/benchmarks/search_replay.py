"""Replay searches against tables of learning curves: what each costs, and how often it finds the best.

``python -m tests.benchmarks.search_replay [--seeds 40] [--baseline-seeds 80] [--tables topics,...]``

Prints three of the numbers that the search is judged by:

1. full trainings until a completed trial lies within 1 % of the table's best, by strategy, with the share of searches
   that get there (at most 100 full trainings are paid);
2. with half the steps of 40 unpruned TPE trials: how often a search ends within 1 % of the best;
3. how often the best configuration, once begun, is not trained to its end in those searches;

and of searches that end by themselves, because nothing more is to be gained: what they cost and find.
"""

import argparse
import math
import warnings

import numpy as np
import optuna

from tests.benchmarks.search_table import NAMES, TOLERANCE, Table
from transformer_foundry.core.studies.tuning import TuningOptions, search

MOST_TRAININGS = 100
BASELINES = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}


def losses_of_ours(table, seed, n_trials, min_gain=0.0):
    """Final losses of the completed trials of our search, in their order."""
    settings = TuningOptions(
        n_trials=n_trials, max_steps=table.full_steps, evals_per_trial=table.n_evals, seed=seed, min_gain=min_gain
    )
    for record in search(table.space, table.train, settings, optuna.storages.InMemoryStorage()):
        if record.state == "complete":
            yield record.loss


def losses_of_baseline(table, seed, n_trials, sampler):
    """Final losses of one of Optuna's samplers as Optuna sets it, each trial trained in full."""
    study = optuna.create_study(sampler=sampler(seed=seed))
    for _ in range(min(n_trials, len(table.rows) if table.is_drawn else n_trials)):
        trial = study.ask()
        proposed = table.propose(lambda dimension, trial=trial: dimension.suggest(trial))
        configuration = table.nearest_untried(proposed) if table.is_drawn else proposed
        *_, (_, loss) = table.train(configuration)
        _tell(study, trial, table.space, configuration, loss)
        yield loss


def _tell(study, trial, space, configuration, loss):
    if trial.params == configuration:
        study.tell(trial, loss)
        return
    # What was trained is the nearest row of the table, and the sampler is to learn from that.
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    distributions = space.distributions(configuration)
    study.add_trial(optuna.create_trial(params=configuration, distributions=distributions, value=loss))


def losses(table, method, seed, n_trials):
    table.reset()
    if method in BASELINES:
        return losses_of_baseline(table, seed, n_trials, BASELINES[method])
    return losses_of_ours(table, seed, n_trials)


def cost_to_target(table, method, seed):
    """Full trainings until a trial within 1 % of the best is complete; infinite if none is."""
    for loss in losses(table, method, seed, MOST_TRAININGS):
        if loss <= table.target:
            return table.cost
    return math.inf


def final_loss(table, method, seed, n_trials):
    return min(losses(table, method, seed, n_trials), default=math.inf)


def costs_by_method(tables, methods, seeds, baseline_seeds):
    found = {}
    for name in methods:
        for table in tables:
            n_seeds = seeds if name == "pause_resume" else baseline_seeds
            costs = np.array([cost_to_target(table, name, seed) for seed in range(n_seeds)])
            found[name, table.name] = costs
            low, middle, high = np.percentile(costs, [25, 50, 75], method="nearest")
            reached = np.isfinite(costs).mean()
            print(
                f"{name:18} {table.name:14} {middle:6.1f} [{low:5.1f}, {high:5.1f}]  reached {reached:.2f}", flush=True
            )
    return found


def print_ratios(found, tables):
    for other in ("tpe", "random"):
        if {(other, tables[0].name), ("pause_resume", tables[0].name)} - found.keys():
            continue
        ratios = []
        for table in tables:
            middle = [np.percentile(found[name, table.name], 50, method="nearest") for name in ("pause_resume", other)]
            ratios.append(middle[0] / min(middle[1], MOST_TRAININGS))
        mean = math.exp(np.mean(np.log(ratios)))
        listed = ", ".join(f"{table.name} {ratio:.2f}" for table, ratio in zip(tables, ratios, strict=True))
        print(f"1. pause_resume / {other}: geometric mean {mean:.3f} ({listed})")


def print_half_budget(tables, seeds):
    for table in tables:
        limit = table.best_loss * (1 + TOLERANCE)
        ours, left_behind = [], []
        for seed in range(seeds):
            ours.append(final_loss(table, "pause_resume", seed, 20))
            left_behind.append(table.has_left_the_best_behind())
        theirs = [final_loss(table, "tpe", seed, 40) for seed in range(seeds)]
        begun = [value for value in left_behind if value is not None]
        print(
            f"2. {table.name:14} within 1 %: pause_resume with 20 trainings {np.mean(np.array(ours) <= limit):.2f}, "
            f"40 unpruned TPE trials {np.mean(np.array(theirs) <= limit):.2f};  "
            f"3. best begun in {len(begun)} of {seeds}, left behind in {sum(begun)}",
            flush=True,
        )


def print_stops(tables, seeds):
    """What searches with the default ``min_gain`` cost and find; one that spends all its budget has not stopped."""
    for table in tables:
        found, costs = [], []
        for seed in range(seeds):
            table.reset()
            found.append(min(losses_of_ours(table, seed, MOST_TRAININGS, TuningOptions().min_gain)))
            costs.append(table.cost)
        low, middle, high = np.percentile(costs, [25, 50, 75], method="nearest")
        print(
            f"stop {table.name:14} within 1 %: {np.mean(np.array(found) <= table.target):.2f}; trainings paid "
            f"{middle:.1f} [{low:.1f}, {high:.1f}]; not stopped {np.mean(np.array(costs) > MOST_TRAININGS - 1):.2f}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--baseline-seeds", type=int, default=80)
    parser.add_argument("--tables", default=",".join(NAMES))
    parser.add_argument("--methods", default="pause_resume,tpe,random")
    parser.add_argument("--skip-half-budget", action="store_true")
    parser.add_argument("--stops", type=int, default=0, help="seeds of searches that end by themselves")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    tables = [Table(name) for name in arguments.tables.split(",")]
    methods = [name for name in arguments.methods.split(",") if name]
    found = costs_by_method(tables, methods, arguments.seeds, arguments.baseline_seeds)
    print_ratios(found, tables)
    if not arguments.skip_half_budget:
        print_half_budget(tables, arguments.seeds)
    if arguments.stops:
        print_stops(tables, arguments.stops)


if __name__ == "__main__":
    main()

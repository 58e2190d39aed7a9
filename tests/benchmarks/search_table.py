"""A table of learning curves in the place of training: searches are replayed against it in milliseconds.

A table holds a space of choices and the validation losses of each of its configurations, in the order of
``itertools.product``. Choices that are numbers are searched by their level (0, 1, 2, ...), so that samplers see order.
A table of a space without end holds configurations that were drawn at random: whatever is proposed there becomes the
nearest of them.
"""

import dataclasses
import itertools
import json
from functools import cached_property
from pathlib import Path

import numpy as np

from transformer_foundry.core.studies.tuning.space import SearchSpace, parse_space
from transformer_foundry.core.studies.tuning.strategies.candidates import encode

FOLDER = Path(__file__).parent / "tables"
NAMES = (
    "topics",
    "docstrings",
    "unicode_names",
    "source_code",
    "schedules",
    "seq2seq",
    "optimizers",
    "sums",
    "classifier",
    "wide",
)
TOLERANCE = 0.01
"""A trial has found the best if its final loss is within this share of the table's lowest."""


@dataclasses.dataclass(frozen=True)
class DrawnSpace(SearchSpace):
    """A space of which only some configurations can be trained: any other becomes the nearest of ``rows``."""

    rows: tuple = ()

    def complete(self, value_of):
        return self.nearest_row(super().complete(value_of))

    def nearest_row(self, configuration, untried=None):
        """Return the row that is nearest, of those with the numbers ``untried`` if given."""
        gap = np.abs(self._points - encode(self, [configuration]))
        gap = np.where(np.isnan(gap), np.isnan(self._points) != np.isnan(encode(self, [configuration])), gap)
        gap[:, self._is_named] = gap[:, self._is_named] > 0
        distances = (gap**2).sum(1)
        among = np.arange(len(self.rows)) if untried is None else np.array(untried)
        return dict(self.rows[among[distances[among].argmin()]])

    @cached_property
    def _points(self):
        return encode(self, self.rows)

    @cached_property
    def _is_named(self):
        return np.array([not dimension.is_ordered for dimension in self.dimensions])


class Table:
    """Learning curves by configuration, which meters what is asked of it."""

    def __init__(self, name, folder=FOLDER):
        with np.load(Path(folder) / f"{name}.npz") as stored:
            self.curves, self.every = stored["curves"].astype(float), int(stored["every"])
            self.choices = json.loads(str(stored["space"]))
            drawn = json.loads(str(stored["rows"])) if "rows" in stored else None
        self.name = name
        self.n_evals = self.curves.shape[1]
        self.full_steps = self.n_evals * self.every
        # Under other names: a warm-up of level 2 is not a warm-up of twice the steps.
        self.choices = _levels_by_name(self.choices)
        if drawn is None:
            self.rows = list(self._grid_rows())
            self.space = parse_space({name: self._entry(name) for name in self.choices}, dict.fromkeys(self.choices))
        else:
            self.rows = [{f"{name}_level": value for name, value in row.items()} for row in drawn]
            space = parse_space(self.choices, dict.fromkeys(self.choices))
            self.space = DrawnSpace(space.dimensions, space.default, tuple(self.rows))
        self._index = {self._key(row): index for index, row in enumerate(self.rows)}
        assert len(self._index) == len(self.curves), (len(self._index), len(self.curves))
        self.reset()

    @property
    def best_loss(self):
        return float(self.curves[:, -1].min())

    @property
    def target(self):
        return self.best_loss * (1 + TOLERANCE)

    @property
    def cost(self):
        """Full trainings that were asked for."""
        return self.steps / self.full_steps

    def reset(self):
        self.steps, self.reached = 0, {}

    def train(self, parameters, resume_from=None):
        """Yield (step, loss) from the step at which the trial was paused."""
        index = self._index[self._key(parameters)]
        for evaluation in range((resume_from or 0) // self.every, self.n_evals):
            self.steps += self.every
            self.reached[index] = max(evaluation + 1, self.reached.get(index, 0))
            yield (evaluation + 1) * self.every, float(self.curves[index, evaluation])

    @property
    def is_drawn(self):
        """Whether only some configurations of the space are in the table."""
        return isinstance(self.space, DrawnSpace)

    def propose(self, value_of):
        """Return a configuration of the space, in the table or not."""
        return SearchSpace.complete(self.space, value_of)

    def nearest_untried(self, configuration):
        """Return the row that is nearest to ``configuration`` of those of which nothing was trained."""
        untried = [index for index in range(len(self.rows)) if index not in self.reached]
        return self.space.nearest_row(configuration, untried)

    def has_left_the_best_behind(self):
        """Whether the best configuration was begun but not trained to its end; None if it was never begun."""
        evaluations = self.reached.get(int(self.curves[:, -1].argmin()))
        return None if evaluations is None else evaluations < self.n_evals

    def _is_ordered(self, name):
        return all(isinstance(choice, int | float) for choice in self.choices[name]["choices"])

    def _entry(self, name):
        entry = self.choices[name]
        when = {"when": entry["when"]} if "when" in entry else {}
        if self._is_ordered(name):
            return {"type": "int", "low": 0, "high": len(entry["choices"]) - 1, **when}
        return {"type": "categorical", "choices": entry["choices"], **when}

    def _grid_rows(self):
        levels = [
            range(len(entry["choices"])) if self._is_ordered(name) else entry["choices"]
            for name, entry in self.choices.items()
        ]
        seen = set()
        for values in itertools.product(*levels):
            row = {}
            for (name, entry), value in zip(self.choices.items(), values, strict=True):
                if all(row[other] in allowed for other, allowed in entry.get("when", {}).items()):
                    row[name] = value
            if self._key(row) not in seen:
                seen.add(self._key(row))
                yield row

    @staticmethod
    def _key(row):
        return json.dumps(dict(row), sort_keys=True)


def _levels_by_name(space):
    return {
        f"{name}_level": {
            key: {f"{other}_level": values for other, values in value.items()} if key == "when" else value
            for key, value in entry.items()
        }
        for name, entry in space.items()
    }

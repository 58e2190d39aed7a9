"""Learning curves in closed form that stand in for training."""

import math


class CurveTrainer:
    """Loss 1 + (log10(lr) + 2.5)^2 + exp(-step / 20), reported every ``every`` of ``steps``; counts what it trains."""

    def __init__(self, steps=100, every=10):
        self.steps, self.every = steps, every
        self.tried = []
        self.trained_steps = 0

    def __call__(self, parameters, resume_from=None):
        if resume_from is None:
            self.tried.append(dict(parameters))
        for step in range((resume_from or 0) + self.every, self.steps + 1, self.every):
            self.trained_steps += self.every
            yield step, curve_loss(parameters["learning_rate"], step)


def curve_loss(learning_rate, step):
    return 1 + (math.log10(learning_rate) + 2.5) ** 2 + math.exp(-step / 20)

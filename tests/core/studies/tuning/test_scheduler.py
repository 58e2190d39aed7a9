"""What a worker does next, where another decides at the same moment."""

import pytest

from tests.core.studies.tuning.curves import CurveTrainer
from transformer_foundry.core.studies.tuning.options import TuningOptions
from transformer_foundry.core.studies.tuning.paused_checkpoints import PausedCheckpoints
from transformer_foundry.core.studies.tuning.scheduler import TrialJob, TrialScheduler, Wait
from transformer_foundry.core.studies.tuning.search_loop import search
from transformer_foundry.core.studies.tuning.space import parse_space
from transformer_foundry.core.studies.tuning.storage import load_study, open_storage
from transformer_foundry.core.studies.tuning.storage.trial_store import TrialStore

SPACE = parse_space(
    {"learning_rate": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}}, {"learning_rate": 1e-3}
)


class InterruptedStore(TrialStore):
    """Lets another worker decide between the decision of this one and what it writes."""

    other = None

    def start(self, configuration, **attributes):
        self._let_other_decide()
        return super().start(configuration, **attributes)

    def claim(self, trial):
        self._let_other_decide()
        return super().claim(trial)

    def ask(self):
        self._let_other_decide()
        return super().ask()

    def _let_other_decide(self):
        other, self.other = self.other, None
        if other is not None:
            self.others_decision = other.next()


@pytest.mark.parametrize("sampler", ["pause_resume", "random"])
def test_two_workers_that_decide_at_once_do_not_spend_the_same_training_twice(tmp_path, sampler):
    storage, checkpoints = open_storage(tmp_path / "study.db"), PausedCheckpoints()
    options = TuningOptions(n_trials=5, max_steps=100, sampler=sampler, pruner="none", min_gain=0.0)
    list(search(SPACE, CurveTrainer(), options, storage, checkpoints=checkpoints))
    options = TuningOptions(n_trials=6, max_steps=100, sampler=sampler, pruner="none", min_gain=0.0)
    study = load_study(storage)
    store = InterruptedStore(study, storage, SPACE, options)
    store.other = TrialScheduler(TrialStore(study, storage, SPACE, options), checkpoints)
    decisions = TrialScheduler(store, checkpoints).next(), store.others_decision
    assert [type(decision) for decision in decisions] == [Wait, TrialJob]

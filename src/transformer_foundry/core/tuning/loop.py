"""The search: ask Optuna for a configuration, train it, tell the result; one record for each trial that has ended.

It knows no model: ``train_trial`` is any generator of validation losses, so a table of learning curves can stand in
for training. The study in the storage is the only state, and every step of it is written before it is acted on:
a search that is killed at any moment goes on from the storage, with interrupted trials tried again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Protocol

from transformer_foundry.core.errors import TuningError
from transformer_foundry.core.tuning.options import TuningOptions
from transformer_foundry.core.tuning.pruning import make_pruner, make_sampler
from transformer_foundry.core.tuning.records import TrialRecord, TrialState
from transformer_foundry.core.tuning.space import SearchSpace
from transformer_foundry.core.tuning.storage import STUDY_NAME, quiet_optuna, sign_of_life

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

__all__ = ["TrainTrial", "finished_trials", "record_of", "search"]

ERROR_ATTRIBUTE = "error"
SECONDS_ATTRIBUTE = "seconds"
SETTINGS_ATTRIBUTE = "settings"

FAILURES_BEFORE_GIVING_UP = 3
"""When the first trials fail one and all, the cause is the set-up and not the configurations."""

POLL_S = 0.5
"""Pause between two looks at trials that other workers, or a dead one, still hold."""


class TrainTrial(Protocol):
    """Trains one configuration."""

    def __call__(
        self, parameters: Mapping[str, Any], resume_from: Any = None
    ) -> Generator[tuple[int, float], None, None]:
        """Yield (step, validation loss) at each evaluation, steps ascending; the last pair is the result.

        Args:
            parameters: The configuration: name -> value.
            resume_from: Where to go on instead of starting; None starts.
        """


def search(
    space: SearchSpace,
    train_trial: TrainTrial,
    options: TuningOptions,
    storage: BaseStorage,
    *,
    identity: Mapping[str, Any] | None = None,
) -> Iterator[TrialRecord]:
    """Search ``space`` for the configuration with the lowest validation loss, until the study has ``n_trials``.

    The default configuration is tried first. Trials that earlier sessions finished count; interrupted ones are tried
    again. A trial whose training raises is a record too, and so is one whose loss stops being finite (pruned).

    Args:
        space: What is searched.
        train_trial: Trains one configuration.
        options: How many trials, which sampler and pruner.
        storage: Where the study is kept; see :func:`~transformer_foundry.core.tuning.storage.open_storage`.
        identity: What the trials' losses depend on beside the configuration, JSON-able: model, data, seed.

    Yields:
        One record for each trial that has ended, after the storage has it.

    Raises:
        TuningError: If the stored study searched another space, other settings or another ``identity``, or if the
            first trials all fail.
    """
    study = _open_study(space, options, storage, identity or {})
    while (trial := _next_trial(study, space, options, storage)) is not None:
        ended = _run_trial(study, trial, train_trial, storage)
        if ended is None:
            continue
        yield record_of(ended, [other for other in finished_trials(study) if other.number != ended.number])
        _stop_if_all_fail(finished_trials(study), options)


def finished_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that have a result: complete, pruned, or failed by their own error; not the interrupted."""
    from optuna.trial import TrialState as State

    trials = study.get_trials(deepcopy=False, states=(State.COMPLETE, State.PRUNED, State.FAIL))
    return [trial for trial in trials if trial.state != State.FAIL or trial.user_attrs.get(ERROR_ATTRIBUTE)]


def record_of(trial: FrozenTrial, others: Sequence[FrozenTrial]) -> TrialRecord:
    """Describe a trial that has ended, compared with ``others`` that had."""
    loss = trial.value
    earlier = [other.value for other in others if _state_of(other) == "complete" and other.value is not None]
    is_best = _state_of(trial) == "complete" and loss is not None and all(loss < value for value in earlier)
    complete = [*earlier, loss] if _state_of(trial) == "complete" and loss is not None else earlier
    curve = tuple(sorted(trial.intermediate_values.items()))
    return TrialRecord(
        number=trial.number,
        state=_state_of(trial),
        parameters=dict(trial.params),
        loss=loss,
        steps=curve[-1][0] if curve else 0,
        seconds=float(trial.user_attrs.get(SECONDS_ATTRIBUTE, 0.0)),
        is_best=is_best,
        best_loss=min(complete, default=None),
        curve=curve,
        error=trial.user_attrs.get(ERROR_ATTRIBUTE),
    )


def _state_of(trial: FrozenTrial) -> TrialState:
    names: dict[str, TrialState] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return names[trial.state.name]


def _open_study(space: SearchSpace, options: TuningOptions, storage: BaseStorage, identity: Mapping[str, Any]) -> Study:
    import optuna

    pruner = make_pruner(options, space.largest("warmup_ratio", otherwise=0.0))
    with quiet_optuna():
        study = optuna.create_study(
            study_name=STUDY_NAME, storage=storage, pruner=pruner, direction="minimize", load_if_exists=True
        )
    # What would make the stored losses incomparable; the number of trials, the sampler and the pruner may change.
    settings = json.loads(json.dumps({"space": space.to_dict(), "max_steps": options.max_steps, **identity}))
    stored = study.user_attrs.get(SETTINGS_ATTRIBUTE)
    if stored is None:
        study.set_user_attr(SETTINGS_ATTRIBUTE, settings)
    else:
        _refuse_differences(stored, settings)
    first = space.first_configuration()
    if first:
        study.enqueue_trial(first, skip_if_exists=True)
    return study


def _refuse_differences(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    differences = [
        f"{name} was {_short(before)} and is {_short(now)}" for name, before, now in _differences(stored, settings)
    ]
    if differences:
        raise TuningError(
            f"The stored study does not match this search: {'; '.join(differences)}.",
            "Expected the same space, steps, model, data and training options, or losses could not be compared.",
            "Go back to the earlier values, or search under another name: --params run.name=NEW.",
        )


def _differences(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif before != now:
        yield path, before, now


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _next_trial(study: Study, space: SearchSpace, options: TuningOptions, storage: BaseStorage) -> Trial | None:
    """Return the next trial to run, or None when the study is complete; wait while others hold the last trials."""
    import optuna

    seen: set[int] = set()
    while True:
        with quiet_optuna():
            optuna.storages.fail_stale_trials(study)
        finished = finished_trials(study)
        if len(finished) >= options.n_trials or _out_of_time(finished, options):
            return None
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        if len(finished) + len(running) < options.n_trials:
            study.sampler = make_sampler(options, len(finished) + len(running))
            with quiet_optuna():
                return study.ask(space.distributions())
        _vouch_once(storage, running, seen)
        time.sleep(POLL_S)


def _vouch_once(storage: BaseStorage, running: Sequence[FrozenTrial], seen: set[int]) -> None:
    # Optuna never takes a trial for dead that was killed before its first heartbeat: give it one, once.
    for trial in running:
        if trial._trial_id not in seen and hasattr(storage, "record_heartbeat"):
            storage.record_heartbeat(trial._trial_id)
        seen.add(trial._trial_id)


def _out_of_time(finished: Sequence[FrozenTrial], options: TuningOptions) -> bool:
    if options.timeout_minutes is None:
        return False
    seconds = sum(float(trial.user_attrs.get(SECONDS_ATTRIBUTE, 0.0)) for trial in finished)
    return seconds >= 60 * options.timeout_minutes


def _run_trial(study: Study, trial: Trial, train_trial: TrainTrial, storage: BaseStorage) -> FrozenTrial | None:
    """Train one trial and tell its end; None if another worker took this process for dead and owns the trial now."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState as State

    began = time.monotonic()
    state, loss, error = State.FAIL, None, None
    try:
        with ExitStack() as stack:
            stack.enter_context(sign_of_life(storage, trial._trial_id))
            reports = stack.enter_context(closing(train_trial(trial.params)))
            state, loss, error = _follow(trial, reports)
    except UpdateFinishedTrialError:
        return None
    except Exception as err:  # The model of a trial may raise anything; that is a result, with its cause kept.
        error = f"{type(err).__name__}: {' '.join(str(err).split())}"
    except BaseException:
        _try_again(study, trial)
        raise
    trial.set_user_attr(SECONDS_ATTRIBUTE, time.monotonic() - began)
    trial.set_user_attr(ERROR_ATTRIBUTE, error)
    return study.tell(trial, loss if state == State.COMPLETE else None, state=state)


def _follow(trial: Trial, reports: Iterator[tuple[int, float]]) -> tuple[Any, float | None, str | None]:
    """Report each loss to the study until the trial ends, is pruned or diverges: (state, loss, error)."""
    from optuna.trial import TrialState as State

    loss = None
    for step, loss in reports:
        trial.report(loss, step)
        if not math.isfinite(loss):
            # Pruned rather than failed: samplers ignore failed trials and would propose the same again.
            return State.PRUNED, loss, f"the validation loss is {loss} at step {step}"
        if trial.should_prune():
            return State.PRUNED, loss, None
    if loss is None:
        return State.FAIL, None, "the trial reported no validation loss"
    return State.COMPLETE, loss, None


def _try_again(study: Study, trial: Trial) -> None:
    """Put an interrupted trial back into the queue at once, instead of when its heartbeat has been missed."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback
    from optuna.trial import TrialState as State

    ended = study.tell(trial, state=State.FAIL)
    with quiet_optuna():
        RetryHeartbeatStaleTrialCallback()(study, ended)


def _stop_if_all_fail(finished: Sequence[FrozenTrial], options: TuningOptions) -> None:
    if any(_state_of(trial) != "failed" for trial in finished):
        return
    if len(finished) >= min(FAILURES_BEFORE_GIVING_UP, options.n_trials):
        first = min(finished, key=lambda trial: trial.number)
        raise TuningError(
            f"All {len(finished)} trials of the search failed; the first with {first.user_attrs[ERROR_ATTRIBUTE]}",
            "Expected at least one configuration that trains.",
            "Train the default configuration alone: kedro run --pipelines training.",
        )

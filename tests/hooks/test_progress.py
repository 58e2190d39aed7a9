import io

import pytest

from tests.core.training.tiny import make_splits
from tests.hooks.runs import Run
from transformer_foundry.core.studies.tuning import TrialResult
from transformer_foundry.core.training import Started
from transformer_foundry.hooks.kedro_hooks import report_interrupted
from transformer_foundry.hooks.progress import STAGES, ProgressCallback
from transformer_foundry.hooks.run_context import function_of
from transformer_foundry.pipeline_registry import register_pipelines


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def show(tmp_path, stream, clock, seconds_a_step, *steps, start=0, **metrics):
    run = Run(tmp_path / "data", ProgressCallback(stream, clock))
    run.begin()
    run.start(start)
    for step in steps:
        clock.now = (step - start) * seconds_a_step
        run.progress(step, **metrics)
    return run


def test_a_line_shows_step_loss_speed_and_time_left(tmp_path, clock):
    stream = io.StringIO()
    show(tmp_path, stream, clock, 1.0, 1, 20, train_tokens_per_second=1234.0)
    assert stream.getvalue().splitlines()[-1] == "step 20/100 | loss 3.800 | 1.2k tokens/s | ETA 1 min 20 s"


def test_the_time_left_of_a_resumed_run_counts_its_own_steps(tmp_path, clock):
    stream = io.StringIO()
    show(tmp_path, stream, clock, 2.0, 81, 90, start=80)
    assert stream.getvalue().splitlines()[-1].endswith("ETA 20 s")


def test_the_time_left_does_not_count_the_slow_first_step(tmp_path, clock):
    stream = io.StringIO()
    run = show(tmp_path, stream, clock, 60.0, 1)
    assert "ETA" not in stream.getvalue()
    clock.now += 9.0
    run.progress(10)
    assert stream.getvalue().splitlines()[-1].endswith("ETA 1 min 30 s")


def test_a_run_of_hours_names_no_steps_before_they_are_planned(tmp_path, clock):
    stream = io.StringIO()
    run = Run(tmp_path / "data", ProgressCallback(stream, clock))
    run.begin()
    manifest = {"identity": {}, "sessions": [{}], "parameters": {"training": {"max_hours": 3.0}}}
    run.save(Started(0, 100, False, manifest))
    run.progress(1)
    clock.now, run.total_steps = 20.0, 5000
    run.progress(10)
    first, *lines = stream.getvalue().splitlines()
    assert first == "Training starts at step 0 of 3 h."
    assert [line.split(" |")[0] for line in lines] == ["step 1", "step 10/5000"]


def test_the_first_line_shows_whether_a_run_starts_or_resumes(tmp_path, clock):
    fresh, resumed = io.StringIO(), io.StringIO()
    show(tmp_path / "a", fresh, clock, 1.0)
    show(tmp_path / "b", resumed, clock, 1.0, start=80)
    assert fresh.getvalue() == "Training starts at step 0 of 100.\n"
    assert resumed.getvalue() == "Training resumes at step 80 of 100 (session 1; nothing was lost).\n"


def test_the_last_saved_step_is_shown(tmp_path, clock):
    stream = io.StringIO()
    run = show(tmp_path, stream, clock, 6.0, 10)
    run.checkpoint(10)
    clock.now = 120.0
    run.progress(20)
    assert stream.getvalue().splitlines()[-1].endswith("checkpoint 10")


def test_a_log_gets_a_plain_line_every_few_seconds(tmp_path, clock):
    stream = io.StringIO()
    show(tmp_path, stream, clock, 0.1, *range(1, 100))
    lines = stream.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines[1:]] == ["step 1/100", "step 51/100"]
    assert "\r" not in stream.getvalue()


def test_a_terminal_is_refreshed_at_most_twice_a_second(tmp_path, clock):
    stream = Terminal()
    show(tmp_path, stream, clock, 0.01, *range(1, 100))
    assert stream.getvalue().count("\r") == 2


def test_evaluations_and_the_end_are_always_shown(tmp_path, clock):
    stream = io.StringIO()
    run = show(tmp_path, stream, clock, 0.01, 1)
    run.progress(2, eval_loss=3.5)
    run.progress(100)
    lines = stream.getvalue().splitlines()
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["step 2/100", "step 100/100"]
    assert "eval loss 3.500" in lines[-2]


def test_an_error_after_a_line_in_place_starts_on_its_own_line(tmp_path, clock):
    stream = Terminal()
    run = show(tmp_path, stream, clock, 1.0, 10)
    run.fail()
    assert stream.getvalue().endswith("\n")


def test_a_shorter_line_leaves_nothing_of_a_longer_one(tmp_path, clock):
    stream = Terminal()
    run = show(tmp_path, stream, clock, 1.0, 10, train_tokens_per_second=123456.0)
    longer = len(stream.getvalue().rpartition("\r")[2])
    clock.now = 99.0
    run.progress(99, train_tokens_per_second=0.0)
    assert len(stream.getvalue().rpartition("\r")[2]) >= longer


@pytest.mark.parametrize(("hub_repo", "stages"), [(None, 9), ("someone/gpt", 10)])
def test_a_stage_that_takes_time_is_shown_and_every_other_is_not(tmp_path, hub_repo, stages):
    stream = io.StringIO()
    run = Run(tmp_path, ProgressCallback(stream), sections={"deployment": {"hub_repo": hub_repo}})
    run.begin()
    for node in register_pipelines()["__default__"].nodes:
        run.start_node(node)
    assert "Checks of the model ...\n" in stream.getvalue()
    assert "Package, with every format compared" in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == stages


@pytest.mark.parametrize(("task", "lines"), [("causal_lm", []), ("seq2seq_lm", ["Errors of the model ..."])])
def test_errors_are_announced_only_where_they_are_analyzed(tmp_path, task, lines):
    stream = io.StringIO()
    run = Run(tmp_path, ProgressCallback(stream))
    run.begin(inputs=("token_splits",))
    run.read("token_splits", make_splits(task))
    run.start_node(
        next(node for node in register_pipelines()["training"].nodes if function_of(node) == "analyze_errors")
    )
    assert stream.getvalue().splitlines() == lines


@pytest.mark.parametrize(("colab", "remedy"), [(True, "Runtime > Change runtime type"), (False, "'kedro doctor'")])
def test_training_without_a_gpu_names_the_remedy(tmp_path, clock, monkeypatch, colab, remedy):
    monkeypatch.setattr("transformer_foundry.hooks.progress.is_colab", lambda: colab)
    stream = io.StringIO()
    run = Run(tmp_path / "data", ProgressCallback(stream, clock))
    run.begin()
    manifest = {"environment": {"gpu": None, "python": "3"}, "parameters": {"training": {"device": "auto"}}}
    run.save(Started(0, run.total_steps, False, manifest))
    [line] = [line for line in stream.getvalue().splitlines() if "NO GPU" in line]
    assert remedy in line


def test_every_stage_is_a_node_of_a_pipeline():
    functions = {function_of(node) for pipeline in register_pipelines().values() for node in pipeline.nodes}
    assert set(STAGES) <= functions


def test_a_trial_is_one_line_with_the_best_so_far(tmp_path):
    stream = io.StringIO()
    run = Run(tmp_path / "data", ProgressCallback(stream), sections={"tuning": {"n_trials": 8, "sampler": "tpe"}})
    run.begin()
    run.show("study", TrialResult(3, "pruned", {"learning_rate": 0.00123}, 2.5, 40, 75.0, False, 2.0))
    assert (
        stream.getvalue() == "trial 3 (of 8) | pruned | loss 2.500 | best 2.000 | learning_rate 0.00123 | 1 min 15 s\n"
    )


def test_only_the_first_process_prints(tmp_path, clock, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    stream = io.StringIO()
    show(tmp_path, stream, clock, 1.0, 10)
    assert stream.getvalue() == ""


def test_a_stop_names_the_step_that_is_saved(tmp_path, clock):
    stream = io.StringIO()
    run = show(tmp_path, stream, clock, 1.0, 1, 37)
    run.checkpoint(37)
    report_interrupted()
    assert stream.getvalue().splitlines()[-1] == "Saved: step 37."


def test_a_new_run_shows_what_the_model_writes_before_training(tmp_path, clock):
    stream = io.StringIO()
    run = Run(tmp_path / "data", ProgressCallback(stream, clock))
    run.begin()
    run.save(Started(0, 100, False, {"identity": {}, "sessions": [{}]}, samples=("Name: Fiji >> \x1b[2Jmpt tho",)))
    assert stream.getvalue().splitlines()[-1] == r"Before training: Name: Fiji >> \x1b[2Jmpt tho"

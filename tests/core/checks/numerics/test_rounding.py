"""Numerical faults are found and located, and the same models with the stable formula raise no alarm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.core.checks.models import write_export
from tests.core.checks.numerics import faults
from tests.core.checks.numerics.training_faults import TRAINING_FAULTS, TRAINING_SETTINGS
from tests.core.checks.zoo import write_model
from transformer_foundry.core.checks import run_checks, runner
from transformer_foundry.core.checks.inputs import labels
from transformer_foundry.core.checks.probing.finding import Finding
from transformer_foundry.core.checks.probing.reference.shadow import Shadow, shadow_run
from transformer_foundry.core.checks.probing.source_map import SourceMap
from transformer_foundry.core.checks.runner import Check

FAULTS = {**faults.FAULTS, **TRAINING_FAULTS}
SETTINGS = {**faults.SETTINGS, **TRAINING_SETTINGS}
OWN = ("sizes", "whole numbers", "growth", "edge inputs", "edge inputs in half", "rounding")
QUICK = ("softmax by hand", "silu with a gradient of NaN", "mean of no tokens", "mask of -1e9 in half", "entropy bonus")


@pytest.fixture(autouse=True)
def _only_these_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CHECKS", tuple(check for check in runner.CHECKS if check.name in OWN))


def problems(folder: Path, name: str, changes: dict[str, str]) -> list[Finding]:
    return list(run_checks(write_model(folder, FAULTS[name][0], changes, **SETTINGS.get(name, {}))).problems)


@pytest.mark.parametrize("name", QUICK)
def test_a_frequent_numerical_fault_is_found(name: str, tmp_path: Path) -> None:
    found = problems(tmp_path / "export", name, FAULTS[name][1])
    assert [FAULTS[name][2] in finding.where for finding in found[:1]] == [True], found


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in QUICK])
def test_a_numerical_fault_is_found_at_its_place(name: str, tmp_path: Path) -> None:
    found = problems(tmp_path / "export", name, FAULTS[name][1])
    assert found, "nothing was found"
    assert FAULTS[name][2] in found[0].where, found
    assert all(finding.message and finding.fix for finding in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault[3]])
def test_the_stable_formula_raises_no_alarm(name: str, tmp_path: Path) -> None:
    assert problems(tmp_path / "export", name, FAULTS[name][3]) == []


@pytest.mark.parametrize("loss", ["torch.softmax({}, -1).log()", "(torch.softmax({}, -1) + 1e-8).log()"])
def test_a_loss_that_is_wrong_for_confident_answers_is_found(
    loss: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = "F.cross_entropy(logits[:, :-1].flatten(0, 1), "
    changed = f"F.nll_loss({loss.format('logits[:, :-1].flatten(0, 1)')}, "
    monkeypatch.setattr(runner, "CHECKS", (Check("labels", 1, labels.check_labels),))
    assert run_checks(write_export(tmp_path / "sound", "gpt")).problems == ()
    found = run_checks(write_export(tmp_path / "export", "gpt", {usual: changed})).problems
    assert [finding.check for finding in found] == ["loss"]


@pytest.mark.parametrize("settings", [{"torch_dtype": "bfloat16"}, {"dtype": "torch.bfloat16"}])
def test_a_mask_that_bfloat16_holds_is_sound_in_a_model_of_bfloat16(settings: dict[str, str], tmp_path: Path) -> None:
    model, changes, *_ = FAULTS["mask of -1e9 in half"]
    assert run_checks(write_model(tmp_path / "export", model, changes, **settings)).problems == ()


def test_a_mask_that_only_half_refuses_is_no_fault_where_scores_are_float32_under_autocast(tmp_path: Path) -> None:
    changes = {
        'float("-inf")': "-1e9",
        faults.SCORES: "        att = (q @ k.transpose(-2, -1)) * (self.tri[:, :, :T, :T] / math.sqrt(k.size(-1)))\n",
    }
    report = run_checks(write_model(tmp_path / "export", "gpt", changes))
    assert report.problems == ()
    assert any("-1e9 does not fit" in finding.message for finding in report.findings)


def test_squares_that_only_half_refuses_are_a_note_unless_the_model_runs_in_half(tmp_path: Path) -> None:
    model, changes, *_ = FAULTS["squares of a norm in half"]
    report = run_checks(write_model(tmp_path / "export", model, changes))
    assert report.problems == ()
    assert any("pow overflows" in finding.message for finding in report.findings)


def run_of(function: object, *inputs: torch.Tensor, dtype: torch.dtype = torch.float32) -> tuple[Shadow, torch.Tensor]:
    with torch.no_grad(), shadow_run(nn.Identity(), SourceMap(None), dtype) as shadow:
        return shadow, function(*inputs)  # type: ignore[operator]


def test_the_copy_of_a_run_is_its_result_in_float64() -> None:
    given = torch.randn(4, 6)
    shadow, result = run_of(lambda x: ((x @ x.T).bfloat16().float().softmax(-1) - x.mean(-1)).T.contiguous(), given)
    exact = ((given.double() @ given.double().T).softmax(-1) - given.double().mean(-1)).T
    torch.testing.assert_close(shadow.reference(result), exact, rtol=1e-12, atol=1e-12)


def test_the_copy_follows_operations_in_place_and_views() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x.half().clone()
        y[:, 1:3] += 1 / 3
        y.t()[0].mul_(7)
        return y.view(-1)[::2]

    given = torch.rand(4, 6)
    shadow, result = run_of(function, given)
    exact = given.double()
    exact[:, 1:3] += 1 / 3
    exact[:, 0] *= 7
    torch.testing.assert_close(shadow.reference(result), exact.reshape(-1)[::2], rtol=1e-12, atol=1e-12)


def test_the_copy_follows_the_decisions_of_the_run() -> None:
    given = torch.tensor([1.0, 1.0 + 1e-4, 0.5])
    shadow, result = run_of(lambda x: x[x.half().argmax()], given)
    assert float(shadow.reference(result)) == 1.0


def test_a_step_names_the_first_operation_that_overflows() -> None:
    shadow, _ = run_of(lambda x: (x.exp() / x.exp().sum()).log(), torch.tensor([100.0, 1.0]))
    assert next(step.name for step in shadow.steps if step.overflows) == "exp"


def test_casts_to_whole_numbers_show_by_how_much_they_are_wrong() -> None:
    shadow, _ = run_of(lambda x: x.cumsum(0).long(), torch.ones(600, dtype=torch.bfloat16), dtype=torch.bfloat16)
    assert next(step.error for step in shadow.steps if step.name == "to whole numbers") >= 1


def problems_of(folder: Path, name: str, changes: dict[str, str], **settings: int) -> list[str]:
    return [finding.check for finding in run_checks(write_model(folder, name, changes, **settings)).problems]


def test_numbers_of_a_hash_may_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CHECKS", tuple(check for check in runner.CHECKS if check.name == "whole numbers"))
    old = "x = self.drop(self.wte(idx) + self.wpe(pos))"
    for divided, found in ((" % 48", []), (".clamp(0, 47)", ["overflow"])):
        hashed = f"{old} + self.wpe((idx * 6364136223846793005 + 1442695040888963407){divided})"
        assert problems_of(tmp_path / divided, "gpt", {old: hashed}) == found


def test_a_sum_over_positions_may_be_normalized_before_it_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "CHECKS", tuple(check for check in runner.CHECKS if check.name == "growth"))
    old = "x = self.drop(self.wte(idx) + self.wpe(pos))"
    total = "self.wte(idx).abs().cumsum(1)"
    for added, found in ((f"F.layer_norm({total}, x.shape[-1:])", []), (total, ["length dependence"])):
        changes = {old: f"{old}\n        x = x + {added}"}
        assert problems_of(tmp_path / found[0] if found else tmp_path / "normalized", "gpt", changes) == found

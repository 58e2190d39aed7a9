from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.core.training.tiny import TinyTransformer, run
from transformer_foundry.core.base.errors import TrainingError
from transformer_foundry.core.system.precision import choose_precision, kernels


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, *, has_bf16: bool) -> None:
    """A GPU as torch reports it: asked in its own words, a T4 claims to emulate bf16."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or has_bf16
    )


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_computes_in_the_best_format_it_has(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: str
) -> None:
    pretend_gpu(monkeypatch, has_bf16=has_bf16)
    chosen = choose_precision()
    assert (chosen.device.type, chosen.name) == ("cuda", expected)


def test_a_cpu_computes_in_single_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = choose_precision()
    assert (chosen.device.type, chosen.name) == ("cpu", "fp32")
    assert not chosen.scaler().is_enabled()


def test_the_cpu_can_be_chosen_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, has_bf16=True)
    assert choose_precision("cpu").name == "fp32"


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match=r"training\.device is 'cuda'"):
        choose_precision("cuda")


def test_emulated_bf16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, has_bf16=False)
    with pytest.raises(TrainingError, match="Tesla T4 has no bf16"):
        choose_precision("cuda", "bf16")


def test_only_half_precision_scales_the_loss() -> None:
    scales = {name: choose_precision("cpu", name).scaler().is_enabled() for name in ("fp32", "bf16", "fp16")}
    assert scales == {"fp32": False, "bf16": False, "fp16": True}


def test_autocast_computes_in_the_chosen_format() -> None:
    with choose_precision("cpu", "bf16").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu_trains_and_resumes() -> None:
    from tests.core.training.tiny import checkpoints, make_model, make_options, make_splits
    from transformer_foundry.core.training import fit

    options = make_options(device="cuda", max_steps=60)
    whole = checkpoints(fit(make_model(), make_splits(), options))
    resumed = checkpoints(fit(make_model(), make_splits(), options, resume_from=whole[0].state))
    assert whole[-1].metrics["train/loss"] < whole[0].metrics["train/loss"]
    assert resumed[-1].metrics["train/loss"] == pytest.approx(whole[-1].metrics["train/loss"], rel=0.05)


def test_kernels_are_chosen_in_the_body_and_put_back() -> None:
    before = (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision())
    with kernels(deterministic=True, tf32=True):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_float32_matmul_precision() == "highest"
    with kernels(deterministic=False, tf32=True):
        assert torch.get_float32_matmul_precision() == "high"
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()) == before


def test_deterministic_training_refuses_what_is_not() -> None:
    class Loose(TinyTransformer):
        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            # put_ with accumulate=False has no deterministic kernel.
            return super().forward(input_ids).put_(torch.tensor([0]), torch.tensor([1.0]), accumulate=False)

    with pytest.raises(TrainingError, match="deterministic") as caught:
        run(Loose(), deterministic=True)
    assert "training.deterministic=false" in caught.value.remedy

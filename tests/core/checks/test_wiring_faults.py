"""Faults of wiring: each declared part has an influence of its own, in every mode, on every path and at any length."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.checks.wiring_faults import FAULTS
from tests.core.checks.zoo import write_model
from transformer_foundry.core.checks import run_checks, runner
from transformer_foundry.core.models import load_model, read_export

OWN = (
    "sizes", "logits", "long causality", "weight slices", "shared modules", "training mode", "optional inputs",
    "cached path", "derivative", "keys of the configuration",
)  # fmt: skip
QUICK = ("values are the keys", "norms shared", "leak behind sixteen tokens", "misspelt keyword")
CACHE = {
    "def forward(self, x):\n        B, T, C = x.size()": "def forward(self, x, past=None):\n        B, T, C = x.size()",
    "        att = (q @": "        if past is not None:\n            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)\n        S = k.size(2)\n        att = (q @",  # noqa: E501
    "self.tri[:, :, :T, :T]": "self.tri[:, :, S - T : S, :S]",
    "        return self.proj(y)": "        return self.proj(y), (k, v)",
    "    def forward(self, x):\n        x = x + self.attn(self.ln_1(x))": "    def forward(self, x, past=None):\n        a, kept = self.attn(self.ln_1(x), past)\n        x = x + a",  # noqa: E501
    "        x = x + self.mlp(self.ln_2(x))\n        return x": "        return x + self.mlp(self.ln_2(x)), kept",
    "targets=None):": "targets=None, past=None):",
    "pos = torch.arange(0, T, dtype=torch.long, device=idx.device)": "start = past[0][0].size(2) if past else 0\n        pos = torch.arange(start, start + T, device=idx.device)\n        cache = []",  # noqa: E501
    "        for block in self.h:\n            x = block(x)\n": "        for i, block in enumerate(self.h):\n            x, kept = block(x, past[i] if past else None)\n            cache.append(kept)\n",  # noqa: E501
    "return logits, loss": "return logits, loss, cache",
}


@pytest.fixture(autouse=True)
def _only_these_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CHECKS", tuple(check for check in runner.CHECKS if check.name in OWN))


def assert_found(name: str, folder: Path) -> None:
    model, changes, settings, where = FAULTS[name]
    found = run_checks(write_model(folder, model, changes, **settings)).problems
    assert found, "nothing was found"
    assert where in found[0].where, found
    assert all(finding.message and finding.fix for finding in found)


@pytest.mark.parametrize("name", QUICK)
def test_a_frequent_fault_of_wiring_is_found(name: str, tmp_path: Path) -> None:
    assert_found(name, tmp_path / "export")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in QUICK])
def test_a_fault_of_wiring_is_found_at_its_place(name: str, tmp_path: Path) -> None:
    assert_found(name, tmp_path / "export")


@pytest.mark.parametrize(
    ("change", "found"),
    [({}, []), ({"start = past[0][0].size(2) if past else 0": "start = 0"}, ["cache"])],
    ids=["sound", "positions begin again"],
)
def test_the_cached_path_is_compared_with_the_full_pass(
    change: dict[str, str], found: list[str], tmp_path: Path
) -> None:
    report = run_checks(write_model(tmp_path / "export", "gpt", {**CACHE, **change}))
    assert [finding.check for finding in report.problems] == found


def test_a_name_does_not_outweigh_what_the_model_does(tmp_path: Path) -> None:
    export = write_model(
        tmp_path / "export", "alibi", {"class AlibiLM": "class LateMaskedLM"}, model_name="LateMaskedLM", positions=...
    )
    assert load_model(read_export(export)).contract.task == "causal_lm"

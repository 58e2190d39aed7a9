"""All parts of a package come from one model, its data and one step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from transformer_foundry.core.base.errors import DeploymentError
from transformer_foundry.core.files.provenance import with_origin
from transformer_foundry.core.publishing.package.provenance import require_consistent


def check(
    *, data: str = "d", tokenizer: str = "t", step: int = 7, model: str = "m", made_from: Any = None, lost: str = ""
) -> None:
    checkpoint = {"model": "m", "data": "d", "weights": "w", "step": 7}
    state: Any = SimpleNamespace(step=7, identity={"data": "d", "tokenizer": "t"}, made_from=checkpoint)
    parts: dict[str, dict[str, Any]] = {
        "profile": with_origin({"fingerprint": data}, {}),
        "evaluation": with_origin({"step": step, "loss": 4.6}, checkpoint | (made_from or {})),
        "report": with_origin({"model": {"identity": model}, "status": "passed"}, {}),
    }
    if lost:
        parts[lost] |= {"content_digest": {}}
    require_consistent(
        state,
        SimpleNamespace(identity="m"),  # type: ignore[arg-type]
        SimpleNamespace(digest=lambda: tokenizer),  # type: ignore[arg-type]
        *parts.values(),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "x"}, "The data was prepared with other settings"),
        ({"tokenizer": "x"}, "The tokenizer"),
        ({"step": 6}, "The evaluation is not of step 7"),
        ({"made_from": {"weights": "x"}}, "The evaluation is not of this checkpoint: other weights"),
        ({"made_from": {"weights": "x", "step": 5}}, "step 5 instead of 7"),
        ({"lost": "profile"}, "The profile of the data has changed since it was written"),
        ({"lost": "evaluation"}, "The evaluation has changed since it was written"),
        ({"lost": "report"}, "The validation report has changed since it was written"),
        ({"model": "x"}, "The validation report is about another model"),
    ],
)
def test_a_part_of_another_run_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    check()
    with pytest.raises(DeploymentError, match=said):
        check(**change)

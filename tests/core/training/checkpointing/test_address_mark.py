"""Two addresses that are equal as published are still two runs."""

from __future__ import annotations

import pytest

from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.training.checkpointing.run_request import make_request, request_differences
from transformer_foundry.core.training.options import TrainingOptions


def request(source: str) -> dict[str, object]:
    return make_request(ModelOptions(source="nowhere"), DataOptions(source=source), TrainingOptions())


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("https://host/get?file=a.csv", "https://host/get?file=b.csv", False),
        ("https://host/a.csv?part=1&sig=abc", "https://host/a.csv?part=1&sig=def", True),
        ("https://host/a.csv?token=abc", "https://host/a.csv?token=def", True),
        ("https://host/a.csv", "https://host/b.csv", False),
        ("https://me:one@host/a.csv", "https://me:two@host/a.csv", True),
    ],
)
def test_what_names_the_data_counts_and_what_signs_them_does_not(first: str, second: str, is_same: bool) -> None:
    assert (request_differences(request(first), request(second)) == {}) == is_same
    assert request(first)["data.source"] != first or "?" not in first


def test_a_run_of_an_earlier_version_kept_more_of_an_address() -> None:
    now = request("https://me:pw@host/a.csv?part=1&sig=abc")
    recorded = {name: value for name, value in now.items() if name != "data.address"}
    recorded["data.source"] = "https://me:[redacted]@host/a.csv?part=1&sig=[redacted]"
    assert request_differences(recorded, now) == {}

"""The section ``deployment`` of the parameters."""

from __future__ import annotations

import sys

import pytest

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.export import FORMAT_FILES
from transformer_foundry.core.publishing import DeploymentOptions


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"formats": ["onx"]}, "Did you mean 'onnx'"),
        ({"formats": ["onnx", "gguf"]}, "gguf without transformers"),
        ({"formats": "onnx"}, "deployment.formats"),
        ({"hub_repo": "gpt"}, "USER/NAME"),
        ({"hub_repo": "alice/a--b"}, "USER/NAME"),
        ({"hub_repo": "datasets/alice/gpt"}, "USER/NAME"),
        ({"language": "English"}, "ISO 639"),
        ({"tolerance": 0}, "deployment.tolerance"),
    ],
)
def test_a_bad_value_is_refused_with_its_key(values: dict[str, object], key: str) -> None:
    with pytest.raises(ParameterError, match=key):
        DeploymentOptions(**values)


def test_gguf_without_its_package_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ParameterError, match="pip install gguf"):
        DeploymentOptions(formats=["transformers", "gguf"])


def test_two_options_do_not_share_their_list_of_formats() -> None:
    DeploymentOptions().formats.append("tensorrt")
    assert DeploymentOptions().formats == [*FORMAT_FILES, "transformers"]

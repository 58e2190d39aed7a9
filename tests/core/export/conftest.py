"""Each small model is exported once; the tests look at different sides of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.core.export import small_models
from tests.integration import command_server
from transformer_foundry.core.export import export_model

MODELS = {
    "decoder-only": lambda: (small_models.RotaryGpt(), small_models.make_inputs()),
    "encoder-only": lambda: (small_models.MaskedEncoder(), small_models.make_inputs(masks=True)),
    "encoder-decoder": lambda: (small_models.Translator(), small_models.make_inputs(masks=True, decoder=True)),
}


@dataclass(frozen=True)
class Exported:
    """A model, what makes its inputs, and what ``export_model`` has made of it."""

    model: nn.Module
    inputs: Callable[[int, int], dict[str, torch.Tensor]]
    folder: Path
    manifest: dict[str, Any]

    def entry(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self.manifest["formats"] if entry["format"] == name)

    def logits(self, batch: int, length: int) -> torch.Tensor:
        with torch.no_grad():
            output = self.model.eval()(**self.inputs(batch, length))
        return output["logits"] if isinstance(output, dict) else output


@pytest.fixture(scope="session", params=sorted(MODELS))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    torch.manual_seed(0)
    model, inputs = MODELS[request.param]()
    folder = tmp_path_factory.mktemp("export")
    with command_server.verifications_forked():
        return Exported(model, inputs, folder, export_model(model, inputs, folder, max_length=24))


@pytest.fixture
def verified_in_forks() -> Iterator[None]:
    """Let files be verified in forks of a process that has imported the libraries."""
    with command_server.verifications_forked():
        yield

"""What importing the training engine costs, and what must not be loaded by it."""

from __future__ import annotations

import subprocess
import sys


def loaded_after(statement: str, *names: str) -> list[str]:
    program = f"import sys; {statement}; print(*(name for name in {names!r} if name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return answer.stdout.split()


def test_naming_the_engine_loads_no_torch() -> None:
    assert loaded_after("from transformer_foundry.core import training", "torch") == []


def test_options_and_records_load_no_torch() -> None:
    statement = "import transformer_foundry.core.training.options, transformer_foundry.core.training.events"
    assert loaded_after(statement, "torch", "numpy") == []


def test_the_engine_loads_nothing_but_torch() -> None:
    statement = "from transformer_foundry.core.training import fit, write_checkpoint"
    assert loaded_after(statement, "transformers", "safetensors", "tokenizers", "kedro", "wandb") == []


def test_the_dataset_loads_no_torch() -> None:
    assert loaded_after("import transformer_foundry.datasets.training_run", "torch", "safetensors") == []

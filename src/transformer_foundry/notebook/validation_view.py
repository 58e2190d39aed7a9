"""Views of the validation notebook: machine, verdict, structure of the model, memory for training.

Needs only the standard library, torch (which brings Jinja2), numpy and pandas.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from transformer_foundry.core.checks import Report
    from transformer_foundry.core.models import Adapter
    from transformer_foundry.core.training.memory.dummy_batch import BatchShape

__all__ = ["describe_machine", "memory_sentence", "structure_table", "verdict_html"]

FREE_COLAB_GB = 12
"""GPU memory that a free Colab session always has."""

_LIGHTS = {
    "error": ("#D55E00", "must be fixed"),
    "warning": ("#E69F00", "should be fixed"),
    "info": ("#0072B2", "note"),
}
_SOUND = ("#009E73", "sound")
"""Color and word of a verdict."""
_TEMPLATES = Path(__file__).parent / "templates"
_MAX_DEPTH = 3
_TRACED_TOKENS = 16
_BATCH_TOKENS = 512


def describe_machine() -> str:
    """Return the versions of Python and torch, the GPU, CPU cores and free disk space in three lines."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (not needed here)"
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}\n"
        f"{gpu}\n{os.cpu_count()} CPU cores, {free_gb:.0f} GB of disk free"
    )


def verdict_html(report: Report) -> str:
    """Return the report as HTML: a line for the verdict, a paragraph for each finding."""
    from jinja2 import Environment, FileSystemLoader

    verdict = _SOUND if report.status == "pass" else _LIGHTS[report.findings[0].severity]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("verdict.html").render(report=report, verdict=verdict, lights=_LIGHTS)


def structure_table(adapter: Adapter) -> pd.DataFrame:
    """Return one row per called module, in call order, with its class, parameter count and output shape.

    Args:
        adapter: The model. It is called once with one row of 16 random tokens, or with its maximum length if lower.
    """
    import pandas as pd
    import torch

    rows: list[dict[str, Any]] = []
    hooks = [
        module.register_forward_hook(lambda item, _, output, name=name: rows.append(_row(name, item, output)))
        for name, module in adapter.model.named_modules()
        if name and name.count(".") < _MAX_DEPTH
    ]
    was_training = adapter.training
    try:
        with torch.no_grad():
            adapter.eval()(**_inputs(adapter, _TRACED_TOKENS, rows=1))
    finally:
        adapter.train(was_training)
        for hook in hooks:
            hook.remove()
    return pd.DataFrame(rows, columns=["module", "class", "parameters", "output"])


def memory_sentence(adapter: Adapter, rows: int = 8, budget_gb: float = FREE_COLAB_GB) -> str:
    """Return a sentence that compares the memory for training (AdamW, float32) with that of a free Colab session."""
    from transformer_foundry.core.models import task_loss_for
    from transformer_foundry.core.system.precision import choose_precision
    from transformer_foundry.core.training.memory.forecast import TrainingWorkload, forecast_memory, optimizer_bytes
    from transformer_foundry.core.training.memory.savings import MemorySavings

    shape = _batch_shape(adapter, _BATCH_TOKENS)
    work = TrainingWorkload(
        adapter,
        task_loss_for(shape.task, adapter),
        shape,
        choose_precision("cpu"),
        optimizer_bytes(adapter, None),
        sample_rows=0,
    )
    forecast = forecast_memory(work, rows, 1, MemorySavings())
    needed = forecast.peak_bytes * (1 + forecast.margin) / 1e9
    verdict = (
        "It fits."
        if needed <= budget_gb
        else "Training reduces it automatically, with memory savings or smaller batches."
    )
    count = sum(parameter.numel() for parameter in adapter.parameters())
    return (
        f"{count:,} parameters. Training on {rows} rows of {shape.length} tokens needs about {needed:.2g} GB "
        f"of the {budget_gb:g} GB of a free Colab session. {verdict}"
    )


def _row(name: str, module: nn.Module, output: object) -> dict[str, Any]:
    count = sum(parameter.numel() for parameter in module.parameters())
    return {"module": name, "class": type(module).__name__, "parameters": count, "output": _shape_of(output)}


def _shape_of(output: Any) -> str:
    if hasattr(output, "shape"):
        return str(tuple(output.shape))
    items = output.values() if hasattr(output, "values") else output if isinstance(output, tuple | list) else ()
    return ", ".join(_shape_of(item) for item in items if item is not None) or type(output).__name__


def _batch_shape(adapter: Adapter, length: int) -> BatchShape:
    from transformer_foundry.core.training.memory.dummy_batch import BatchShape

    contract = adapter.contract
    return BatchShape(
        contract.task,
        contract.vocab_size,
        min(length, contract.max_length or length),
        num_labels=contract.num_labels or 2,
        decoder_vocab_size=contract.decoder_vocab_size,
    )


def _inputs(adapter: Adapter, length: int, rows: int) -> dict[str, Tensor]:
    batch = _batch_shape(adapter, length).batch(rows)
    return {name: tensor for name, tensor in batch.items() if name != "labels"}

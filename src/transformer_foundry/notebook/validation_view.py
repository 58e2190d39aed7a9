"""What the validation notebook shows of a model: the machine, the verdict, the structure, the memory it will need.

Needs only what the checks need: standard library, torch, numpy, pandas.
"""

from __future__ import annotations

import html
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from transformer_foundry.core.checks import Report
    from transformer_foundry.core.models import Adapter

__all__ = ["describe_machine", "memory_sentence", "structure_table", "verdict_html"]

FREE_COLAB_GB = 12
"""Memory of the GPU of a free Colab session that a model can count on."""

_LIGHTS = {"error": ("#D55E00", "must be mended"), "warning": ("#E69F00", "worth mending"), "info": ("#0072B2", "note")}
_SOUND = ("#009E73", "sound")
_DEEPEST = 3
_TRACED_TOKENS = 16
_BATCH_TOKENS = 512


def describe_machine() -> str:
    """Return Python, torch, GPU, processors and free disk in three lines."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU (not needed here)"
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}\n"
        f"{gpu}\n{os.cpu_count()} processors, {free_gb:.0f} GB of disk free"
    )


def verdict_html(report: Report) -> str:
    """Return the report as traffic lights: a line for the verdict, a paragraph for each finding."""
    colour, word = _SOUND if report.status == "pass" else _LIGHTS[report.findings[0].severity]
    lines = [_light(colour, f"<b>{report.status.upper()}</b>: {html.escape(report.kind or 'kind unknown')}, {word}")]
    for finding in report.findings:
        colour, word = _LIGHTS[finding.severity]
        text = f"<b>{html.escape(finding.check)}</b> ({word}): {html.escape(finding.message)}"
        text += f"<br>Where: {html.escape(finding.where)}" if finding.where else ""
        text += f"<br>Mend: {html.escape(finding.fix)}" if finding.fix else ""
        lines.append(_light(colour, text))
    return "".join(lines)


def structure_table(adapter: Adapter) -> pd.DataFrame:
    """Return one row for each module that was called, in the order of the calls, with the shape of what came out.

    Args:
        adapter: The model; it is called once with one row of 16 random tokens, or fewer if it takes no more.
    """
    import pandas as pd
    import torch

    rows: list[dict[str, Any]] = []
    hooks = [
        module.register_forward_hook(lambda item, _, output, name=name: rows.append(_row(name, item, output)))
        for name, module in adapter.model.named_modules()
        if name and name.count(".") < _DEEPEST
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
    """Say what training needs with AdamW in float32, against the memory of a free Colab session."""
    from transformer_foundry.core.models import task_loss_for
    from transformer_foundry.core.system.precision import choose_precision
    from transformer_foundry.core.training.memory.forecast import Workload, forecast_memory, optimizer_bytes
    from transformer_foundry.core.training.memory.savings import MemorySavings

    shape = _shape(adapter, _BATCH_TOKENS)
    work = Workload(
        adapter,
        task_loss_for(shape.task),
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
        else "Training will save memory, or take smaller batches; it does so by itself."
    )
    count = sum(parameter.numel() for parameter in adapter.parameters())
    return (
        f"{count:,} parameters. Training on {rows} rows of {shape.length} tokens needs about {needed:.2g} GB "
        f"of the {budget_gb:g} GB of a free Colab session. {verdict}"
    )


def _light(colour: str, text: str) -> str:
    return (
        f'<p style="margin:6px 0;padding-left:12px;border-left:10px solid {colour};'
        f'max-width:50em;line-height:1.4">{text}</p>'
    )


def _row(name: str, module: Any, output: Any) -> dict[str, Any]:
    count = sum(parameter.numel() for parameter in module.parameters())
    return {"module": name, "class": type(module).__name__, "parameters": count, "output": _shape_of(output)}


def _shape_of(output: Any) -> str:
    if hasattr(output, "shape"):
        return str(tuple(output.shape))
    items = output.values() if hasattr(output, "values") else output if isinstance(output, tuple | list) else ()
    return ", ".join(_shape_of(item) for item in items if item is not None) or type(output).__name__


def _shape(adapter: Adapter, length: int) -> Any:
    from transformer_foundry.core.training.memory.dummy_batch import BatchShape

    contract = adapter.contract
    return BatchShape(
        contract.task,
        contract.vocab_size,
        min(length, contract.max_length or length),
        num_labels=contract.num_labels or 2,
        decoder_vocab_size=contract.decoder_vocab_size,
    )


def _inputs(adapter: Adapter, length: int, rows: int) -> dict[str, Any]:
    batch: dict[str, Any] = _shape(adapter, length).batch(rows)
    del batch["labels"]
    return batch

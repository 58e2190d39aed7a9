"""Which models get files that are right at every shape: tiny architectures of the transformers library, and exports.

    python -m tests.benchmarks.export_models [FOLDER ...] [--only NAME ...] [--formats pt2 onnx ...]

Each model of ``tests/core/checks/test_library_models.py``, with random weights, is given to ``export_model`` as it is;
each FOLDER is an export (``model.py``, ``config.json``), or holds some, and is adapted first. Every file that was
verified is then run once more, here, at shapes that the verification did not use, all but one of them padded. About 8
CPU seconds a model; the last lines are the totals.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.core.checks.test_library_models import MODELS
from transformer_foundry.core.base.errors import FoundryError
from transformer_foundry.core.export import export_model
from transformer_foundry.core.export.verification.reference_inputs import compared_by, reference_inputs
from transformer_foundry.core.export.verify_file import open_file
from transformer_foundry.core.models import load_model, read_export

LONGEST = 64
OTHER_SHAPES = ((1, 3), (3, 9), (8, 17), (9, 41), (2, 63))


@dataclass
class Subject:
    """A model, what makes its inputs and marks the positions to compare, and the greatest length."""

    module: nn.Module
    inputs: Callable[[int, int], dict[str, Tensor]]
    compared: Callable[[dict[str, Tensor]], Tensor | None]
    longest: int


def library_subject(config: str, head: str, settings: dict[str, Any]) -> Subject:
    import transformers

    torch.manual_seed(0)
    configuration = getattr(transformers, config)(**settings)
    pad = configuration.pad_token_id or 0
    pairs, labelled = configuration.is_encoder_decoder, "Classification" in head and "Token" not in head

    def rows(batch: int, length: int) -> tuple[Tensor, Tensor]:
        mask = (torch.arange(length) < (length - torch.arange(batch)).clamp(min=1)[:, None]).long()
        ids = torch.randint(5, 100, (batch, length), generator=torch.Generator().manual_seed(97 * batch + length))
        if labelled and pairs:
            # The library's classifiers of pairs read the last <eos>, and want exactly one in each row.
            ids[torch.arange(batch), mask.sum(1) - 1] = configuration.eos_token_id
        return torch.where(mask == 1, ids, pad), mask

    def inputs(batch: int, length: int) -> dict[str, Tensor]:
        ids, mask = rows(batch, length)
        tensors = {"input_ids": ids, "attention_mask": mask}
        if pairs and not labelled and not head.startswith("T5ForToken"):
            tensors["decoder_input_ids"] = rows(batch, length if batch == 1 else min(length + 2, LONGEST))[0]
        return tensors

    def compared(tensors: dict[str, Tensor]) -> Tensor | None:
        ids = tensors.get("decoder_input_ids", tensors["input_ids"])
        return None if labelled else ids != pad

    # LUKE counts positions from 1 and has a table of as many as the others.
    longest = LONGEST - 1 if "Luke" in head else LONGEST
    return Subject(getattr(transformers, head)(configuration).eval(), inputs, compared, longest)


def folder_subject(folder: Path) -> Subject:
    adapter = load_model(read_export(folder)).eval()
    contract = adapter.contract
    pad = contract.pad_token_id or 0
    longest = min(contract.max_length or LONGEST, LONGEST)
    return Subject(adapter, reference_inputs(contract, pad), compared_by(contract, pad), longest)


def subjects(folders: list[Path], only: list[str]) -> Iterator[tuple[str, Callable[[], Subject]]]:
    for model in MODELS:
        if not only or model.id in only:
            yield str(model.id), lambda values=model.values: library_subject(*values)
    for folder in folders:
        for path in sorted({file.parent for file in folder.rglob("model.py")}):
            if not only or path.name in only:
                yield path.name, lambda path=path: folder_subject(path)


def wrong_elsewhere(subject: Subject, format_name: str, path: Path) -> str:
    """Return at which of the other shapes the file differs from the model, empty if at none."""
    run = open_file(format_name, path)
    for batch, length in OTHER_SHAPES:
        tensors = subject.inputs(batch, min(length, subject.longest))
        mask = subject.compared(tensors)
        with torch.no_grad():
            output = subject.module(**tensors)
        expected = next(
            value for value in (getattr(output, "logits", None), output if isinstance(output, Tensor) else None)
            if value is not None
        ).numpy()  # fmt: skip
        found = run({name: tensor.numpy() for name, tensor in tensors.items()})
        if mask is not None and expected.ndim == 3:
            expected, found = expected[mask.numpy()], found[mask.numpy()]
        if expected.shape != found.shape or not np.allclose(expected, found, rtol=1e-3, atol=1e-3):
            return f"({batch}, {length})"
    return ""


def describe(name: str, make: Callable[[], Subject], formats: list[str]) -> tuple[bool, bool, int]:
    """Export one model and print a line for each format; return (dynamic file, explained, wrong files)."""
    start, wrong, dynamic = time.process_time(), 0, False
    with tempfile.TemporaryDirectory() as folder:
        try:
            subject = make()
            manifest = export_model(
                subject.module, subject.inputs, folder, formats, max_length=subject.longest, compared=subject.compared
            )
        except FoundryError as err:
            print(f"{name:18} refused: {' '.join(str(err).splitlines()[:1])}", flush=True)
            return False, True, 0
        for entry in manifest["formats"]:
            if entry["status"] == "verified" and not entry.get("fixed"):
                where = wrong_elsewhere(subject, entry["format"], Path(folder) / entry["file"])
                wrong += bool(where)
                dynamic |= entry["format"] in ("pt2", "onnx") and not where
                said = f"WRONG AT {where}" if where else f"error {entry['max_abs_error']:.1g}"
            else:
                said = entry.get("reason") or str(entry.get("note"))
            print(f"{name:18} {entry['format']:12} {said}", flush=True)
    print(f"{name:18} {time.process_time() - start:.1f} CPU s", flush=True)
    return dynamic, all(entry.get("reason") or entry["file"] for entry in manifest["formats"]), wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--formats", nargs="*", default=["pt2", "onnx"])
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    results = {
        name: describe(name, make, arguments.formats) for name, make in subjects(arguments.folders, arguments.only)
    }
    dynamic, explained, wrong = (sum(map(int, column)) for column in zip(*results.values(), strict=True))
    print(
        f"{len(results)} models: {dynamic} with a verified dynamic ONNX or .pt2 ({dynamic / len(results):.0%}), ",
        end="",
    )
    print(f"{explained} with a file or a reason for every format, {wrong} files wrong at other shapes")
    print("without a dynamic file:", *[name for name, (is_dynamic, _, _) in results.items() if not is_dynamic])


if __name__ == "__main__":
    sys.exit(main())

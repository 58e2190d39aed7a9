"""Packages of small models: an export on disk, a tokenizer, a checkpoint whose weights are not the initial ones."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from tests.core.export import small_models
from tests.integration import command_server
from transformer_foundry.core.data.tokenizer.tokenizer import SpecialIds, Tokenizer
from transformer_foundry.core.models import Adapter, ModelSource, load_model, read_export
from transformer_foundry.core.publishing import DeploymentOptions, Package, build_package

EVALUATION = {
    "step": 3,
    "validation": {"loss": 2.5, "perplexity": 12.18, "targets": 900.0, "accuracy": float("nan")},
    "test": {"loss": 2.6, "perplexity": 13.46, "targets": 800.0},
    "baselines": {"bigram_loss": 2.9},
    "comparisons": [{"sentence": "loss 2.500 beats a bigram model (2.900)"}],
}
PROFILE = {
    "source": "built-in text of Python",
    "fingerprint": "f" * 64,
    "max_length": 24,
    "splits": {"train": {"documents": 10, "tokens": 1000}},
    "examples": [{"input": "w9 w10 w11 <1> w13 w14 w15 w16 ...", "expected": "w10"}],
    "findings": [{"check": "little_text", "severity": "warning", "message": "There is little text.", "fix": ""}],
}
REPORT = {"status": "pass", "kind": "decoder-only", "findings": [], "seconds": 0.1}
RUN = {"parameters": {"training": {"learning_rate": 0.001, "max_steps": 4}}, "seeds": {"training": 0}}


def write_export(folder: Path, model: type[nn.Module], **config: Any) -> ModelSource:
    """Write ``model.py`` and ``config.json`` of a small model, as Transformer Builder would."""
    folder.mkdir(parents=True)
    head = inspect.getsource(small_models).split("class ", 1)[0]
    (folder / "model.py").write_text(head + inspect.getsource(model))
    settings = {"model_name": model.__name__, "vocab_size": 96, "d_model": 32, "max_seq_len": 24} | config
    (folder / "config.json").write_text(json.dumps(settings))
    return read_export(folder)


def word_tokenizer(special: SpecialIds) -> Tokenizer:
    """A tokenizer of five special tokens and the words w5 to w95."""
    import tokenizers

    words = {f"w{number}": number for number in range(5, 96)} | {f"<{number}>": number for number in range(5)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<3>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend, special, max_length=24)


def checkpoint_of(adapter: Adapter, export: ModelSource) -> Any:
    """What a training run would hand over: other weights than the initial ones."""
    generator = torch.Generator().manual_seed(7)
    weights = {name: value.clone() for name, value in adapter.model.state_dict().items()}
    for group in (*adapter.contract.tied_weights, *((name,) for name in weights)):
        if weights[group[0]].is_floating_point():
            noise = 0.1 * torch.randn(weights[group[0]].shape, generator=generator)
            weights |= dict.fromkeys(group, weights[group[0]] + noise)
    identity = {"model_code": export.code_digest, "config": export.sha256["config.json"]}
    return SimpleNamespace(
        model=weights,
        evaluated_model=weights,
        identity=identity,
        step=3,
        total_steps=4,
        precision="fp32",
        loss_window=SimpleNamespace(tokens_seen=5000),
        made_from={"model": export.identity, "weights": "3f2a", "step": 3},
    )


def make_package(
    export: ModelSource, *, state: Any = None, tokenizer: Tokenizer | None = None, **options: Any
) -> tuple[Adapter, Package]:
    """Return the adapter, filled with the packaged weights, and the package; words are its tokens by default."""
    torch.manual_seed(0)
    adapter = load_model(export)
    with command_server.verifications_forked():
        package = build_package(
            adapter,
            export,
            tokenizer or word_tokenizer(SpecialIds(pad=0, bos=1, eos=2, unk=3, mask=4, decoder_start=0)),
            training_state=state or checkpoint_of(adapter, export),
            evaluation=EVALUATION,
            data_profile=PROFILE,
            validation_report=REPORT,
            run_manifest=RUN,
            options=DeploymentOptions(**{"formats": ["pytorch"]} | options),
        )
    # The temporary folder is the caller's: it goes where the test's other files are.
    folder = Path(shutil.move(package.folder, export.folder.with_name(f"{export.folder.name}-package")))
    return adapter.eval(), Package(folder, package.manifest)


def run_alone(folder: Path, *arguments: str, code: str | None = None) -> str:
    """Return what ``load_example.py``, or ``code``, prints in ``folder`` where transformer_foundry is not there."""
    answer = run_program(folder, *arguments, code=code)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def run_program(folder: Path, *arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``load_example.py``, or ``code``, in ``folder`` where transformer_foundry cannot be imported."""
    program = (
        "import runpy, sys; sys.modules['transformer_foundry'] = None; sys.path.insert(0, '.')\n"
        "sys.argv = ['load_example.py', *sys.argv[1:]]\n"
    )
    program += code or "runpy.run_path('load_example.py', run_name='__main__')"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return command_server.run([sys.executable, "-c", program, *arguments], folder, environment)

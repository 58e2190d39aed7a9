"""A package as transformers loads it: each in a process of its own, where this project cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.core.export import small_models
from tests.core.publishing.packaging import make_package, write_export
from transformer_foundry.core.export.verification.reference_inputs import reference_inputs
from transformer_foundry.core.models import Adapter
from transformer_foundry.core.publishing import Package

FORMATS = ["pytorch", "transformers"]
START = """
import json, sys
sys.modules["transformer_foundry"] = None
import torch, transformers
from safetensors.torch import load_file, save_file
torch.set_grad_enabled(False)
folder, scratch = sys.argv[1:]
"""


def run_alone(package: Path, scratch: Path, code: str) -> Any:
    """Run ``code`` with ``folder`` and ``scratch``, and return what it prints last, as JSON."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(scratch / "modules"), "HF_HOME": str(scratch / "home")}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", START + code, str(package), str(scratch)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.strip().splitlines()[-1])


def package_of(tmp_path: Path, model: type, **config: Any) -> tuple[Adapter, Package]:
    adapter, package = make_package(write_export(tmp_path / "model", model, **config), formats=FORMATS)
    entry = package.manifest["formats"][-1]
    assert (entry["status"], entry["max_abs_error"]) == ("verified", 0.0), entry
    return adapter, package


def alone(adapter: Adapter, inputs: dict[str, torch.Tensor], row: int) -> torch.Tensor:
    """The model's own logits for one row without its padding."""
    count = int(inputs["attention_mask"][row].sum())
    with torch.no_grad():
        return adapter(inputs["input_ids"][row : row + 1, :count])[0]


LANGUAGE_MODEL = """
tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
rows = load_file(f"{scratch}/rows")
left = {name: value.flip(1) for name, value in load_file(f"{scratch}/flipped").items()}
written = model.generate(**left, max_new_tokens=4, min_new_tokens=4, do_sample=False)[:, -4:]
single = [
    model.generate(ids[mask == 1][None], max_new_tokens=4, min_new_tokens=4, do_sample=False)[0, -4:].tolist()
    for ids, mask in zip(left["input_ids"], left["attention_mask"])
]
beams = model.generate(left["input_ids"], num_beams=3, max_new_tokens=30, do_sample=False)
long = model.generate(left["input_ids"][:1], max_new_tokens=40, min_new_tokens=40, do_sample=False)
model.save_pretrained(f"{scratch}/saved")
again = transformers.AutoModelForCausalLM.from_pretrained(f"{scratch}/saved", trust_remote_code=True)
text = transformers.pipeline("text-generation", folder, trust_remote_code=True)("w9 w10", max_new_tokens=3)
outputs = model(**rows, labels=rows["input_ids"])
save_file({"right": outputs.logits, "left": model(**left).logits, "again": again(**rows).logits}, f"{scratch}/logits")
print(json.dumps({"written": written.tolist(), "single": single, "text": text[0]["generated_text"],
                  "loss": outputs.loss.item(), "tied": again.network.wte.weight is again.network.lm_head.weight,
                  "side": tokenizer.padding_side, "long": long.shape[1], "beams": len(beams),
                  "wrapper": type(model).__name__}))
"""


@pytest.mark.slow
def test_a_language_model_answers_generates_and_is_saved_again(tmp_path: Path) -> None:
    adapter, package = package_of(tmp_path, small_models.RotaryGpt)
    ids = torch.randint(5, 96, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(7) < torch.tensor([[7], [4], [2]])).long()
    rows = {"input_ids": ids * mask, "attention_mask": mask}
    # The same texts with their padding in front; the masks are mirror images.
    shifted = torch.stack([row.roll(7 - int(count)) for row, count in zip(rows["input_ids"], mask.sum(1), strict=True)])
    save_file(rows, tmp_path / "rows")
    save_file({"input_ids": shifted.flip(1), "attention_mask": mask.contiguous()}, tmp_path / "flipped")
    said = run_alone(package.folder, tmp_path, LANGUAGE_MODEL)
    logits = load_file(tmp_path / "logits")
    with torch.no_grad():
        own = adapter(**rows)
    assert torch.equal(logits["right"], own)
    assert torch.equal(logits["again"], own)
    for row, count in enumerate(mask.sum(1).tolist()):
        torch.testing.assert_close(logits["left"][row, 7 - count :], alone(adapter, rows, row), rtol=0, atol=1e-5)
    assert said["written"] == said["single"]
    assert (said["tied"], said["side"], said["long"], said["beams"]) == (True, "left", 47, 3)
    expected = torch.nn.functional.cross_entropy(own[:, :-1].flatten(0, 1), rows["input_ids"][:, 1:].flatten())
    assert said["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert said["text"].startswith("w9 w10w")


SEQ2SEQ = """
model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
rows = load_file(f"{scratch}/rows")
source = {"input_ids": rows["input_ids"], "attention_mask": rows["attention_mask"]}
written = model.generate(**source, max_new_tokens=5, min_new_tokens=5, do_sample=False)
beams = model.generate(**source, max_new_tokens=5, num_beams=2, do_sample=False)
save_file({"logits": model(**rows).logits}, f"{scratch}/logits")
print(json.dumps({"written": written.tolist(), "beams": len(beams)}))
"""


@pytest.mark.slow
def test_an_encoder_decoder_generates_by_its_own_logits(tmp_path: Path) -> None:
    config = {"pad_token_id": 0, "decoder_start_token_id": 0}
    adapter, package = package_of(tmp_path, small_models.Translator, **config)
    rows = reference_inputs(adapter.contract, 0, [1, 2, 3, 4])(2, 9)
    save_file(rows, tmp_path / "rows")
    said = run_alone(package.folder, tmp_path, SEQ2SEQ)
    written = torch.zeros(2, 1, dtype=torch.long)
    with torch.no_grad():
        assert torch.equal(load_file(tmp_path / "logits")["logits"], adapter(**rows))
        for _ in range(5):
            scores = adapter(rows["input_ids"], rows["attention_mask"], written)[:, -1]
            scores[:, 2] = -torch.inf  # the end of the text, which min_new_tokens forbids
            written = torch.cat([written, scores.argmax(-1, keepdim=True)], 1)
    assert said == {"written": written.tolist(), "beams": 2}


ENCODER = """
fill = transformers.pipeline("fill-mask", folder, trust_remote_code=True)
guess = fill("w9 w10 <4> w12")
print(json.dumps([item["token"] for item in guess]))
"""


@pytest.mark.slow
def test_an_encoder_fills_masks_by_its_own_logits(tmp_path: Path) -> None:
    config = {"model_type": "bert", "pad_token_id": 0, "mask_token_id": 4}
    adapter, package = package_of(tmp_path, small_models.MaskedEncoder, **config)
    with torch.no_grad():
        scores = adapter(torch.tensor([[9, 10, 4, 12]]), torch.ones(1, 4).long())[0, 2]
    assert run_alone(package.folder, tmp_path, ENCODER) == scores.topk(5).indices.tolist()


def test_code_that_transformers_cannot_load_is_removed_with_a_reason(tmp_path: Path) -> None:
    export = write_export(tmp_path / "model", small_models.RotaryGpt)
    path = export.folder / "model.py"
    # It runs here, under the name that this project gives it, and nowhere else.
    path.write_text(path.read_text() + "\nif 'transformers_modules' in __name__:\n    raise OSError('not here')\n")
    from transformer_foundry.core.models import read_export

    _, package = make_package(read_export(export.folder), formats=FORMATS)
    entry = package.manifest["formats"][-1]
    assert entry["status"] == "failed"
    assert "not here" in package.problems[0]
    assert not (package.folder / "modeling_foundry.py").exists()
    assert (package.folder / "config.json").read_bytes() == (export.folder / "config.json").read_bytes()

"""Code for the card: how each format of a package is used. Every snippet runs as it stands, in the package's folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.export.names import VARIANT_FORMATS

__all__ = ["snippets"]

_TITLES = {
    "pytorch": "PyTorch, from the weights and the code",
    "pt2": "PyTorch, without the code (`.pt2`)",
    "onnx": "ONNX Runtime",
    "torchscript": "TorchScript (legacy)",
    "onnx-fp16": "ONNX Runtime, with float16 weights",
    "onnx-int8": "ONNX Runtime, quantised to int8",
    "transformers": "transformers, with `generate`, `pipeline` and `AutoTokenizer`",
}
_TEMPLATES = {
    "pytorch": """\
import torch
from load_example import load_model

model = load_model()
{tensors}
with torch.no_grad():
    logits = model({named})
print(logits.shape)""",
    "pt2": """\
import torch

model = torch.export.load("model.pt2").module()
{tensors}
logits = model({positional})
print(logits.shape)""",
    "onnx": """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}", providers=["CPUExecutionProvider"])
{arrays}
(logits,) = session.run(None, {{{feed}}})
print(logits.shape)""",
    "transformers": """\
import torch
from transformers import {auto_class}

model = {auto_class}.from_pretrained(".", trust_remote_code=True)  # or the name of the repository
{tensors}
with torch.no_grad():
    logits = model({named}).logits
print(logits.shape)""",
    "torchscript": """\
import torch

model = torch.jit.load("model.torchscript.pt")
{tensors}
logits = model({positional})
print(logits.shape)""",
}


def snippets(manifest: Mapping[str, Any]) -> str:
    """Return a section for each verified format, after the one command that needs no code."""
    names = [item["name"] for item in manifest["inputs"]]
    ids = manifest["prompt"]["input_ids"][:8]
    values = {name: [[1] * len(ids)] if name.endswith("mask") else [ids] for name in names}
    fields = {
        "tensors": "\n".join(f"{name} = torch.tensor({value})" for name, value in values.items()),
        "arrays": "\n".join(f"{name} = np.array({value}, dtype=np.int64)" for name, value in values.items()),
        "named": ", ".join(f"{name}={name}" for name in names),
        "positional": ", ".join(names),
        "feed": ", ".join(f'"{name}": {name}' for name in names),
    }
    parts = [
        *_programs(manifest),
        "`python load_example.py [TEXT]` prints an answer; it needs torch, safetensors and tokenizers. Ids come from "
        "`tokenizer.json`; a mask is 1 where a token is real.",
    ]
    for entry in manifest["formats"]:
        if entry["status"] == "verified":
            template = _TEMPLATES["onnx" if entry["format"] in VARIANT_FORMATS else entry["format"]]
            code = template.format(**fields, auto_class=entry.get("auto_class"), file=entry["file"])
            parts.append(f"{_TITLES[entry['format']]}:\n\n```python\n{code}\n```")
    return "\n\n".join(parts)


def _programs(manifest: Mapping[str, Any]) -> list[str]:
    """Return how each program of the package is started, or why it is not there."""
    writes = manifest["model"]["task"] in ("causal_lm", "seq2seq_lm")
    text = json.dumps(manifest["prompt"]["text"] if manifest["model"]["task"] != "masked_lm" else "A text with [MASK].")
    body = f'{{"text": {text}}}' if writes else f'{{"texts": [{text}]}}'
    request = shlex.quote(body)
    address = f"http://127.0.0.1:8000/{'generate' if writes else 'predict'}"
    paragraphs = {
        "inference": "Without torch:\n\n```bash\npip install -r requirements.txt\npython inference.py\n```\n\n"
        "`python inference.py TEXT` answers a text of yours.",
        "server": "As a server, with limits on size and time and without authentication (`Dockerfile` puts it in a "
        "container):\n\n```bash\npython server.py\n```\n\n```bash\ncurl http://127.0.0.1:8000/health\n"
        f"curl -H 'content-type: application/json' -d {request} {address}\n```",
        "page": "In a browser, with nothing installed:\n\n```bash\npython -m http.server 8080\n```\n\nThen open "
        "http://localhost:8080. The folder is a static Space as it is.",
    }
    titles = {"inference": "`inference.py`", "server": "server", "page": "page for browsers"}
    made = [paragraphs[entry["part"]] for entry in manifest["parts"] if entry["status"] == "made"]
    left_out = [
        f"There is no {titles[entry['part']]}: {entry['reason']}."
        for entry in manifest["parts"]
        if entry["status"] != "made"
    ]
    return [*made, *left_out]

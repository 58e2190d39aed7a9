"""Open a package with ``AutoModel...`` of transformers, as its users do."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from transformer_foundry.core.export.verification.parity import Run

__all__ = ["open_transformers"]


def open_transformers(source: str, **options: Any) -> Run:
    """Return a function that runs a package, loaded by transformers, on named arrays and returns logits.

    Args:
        source: Folder or repository.
        **options: Arguments of ``from_pretrained``, for example ``revision``.
    """
    # The modules that transformers copies from the package must exist as long as the model.
    scratch = tempfile.TemporaryDirectory(prefix="foundry-modules-")
    os.environ["HF_MODULES_CACHE"] = scratch.name
    import torch
    import transformers

    if Path(source).is_dir():
        settings = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))
    else:
        from huggingface_hub import hf_hub_download

        settings = json.loads(Path(hf_hub_download(source, "config.json", **options)).read_text(encoding="utf-8"))
    name = next(name for name in settings["auto_map"] if name.startswith("AutoModelFor"))
    model = getattr(transformers, name).from_pretrained(source, trust_remote_code=True, **options)

    def run(inputs: Mapping[str, np.ndarray], _kept: Any = scratch) -> np.ndarray:
        with torch.no_grad():
            tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
            logits: np.ndarray = model(**tensors).logits.float().numpy()
        return logits

    return run

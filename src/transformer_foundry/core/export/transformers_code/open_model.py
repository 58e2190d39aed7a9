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
    model = _load(transformers, source, settings, options)

    def run(inputs: Mapping[str, np.ndarray], _kept: Any = scratch) -> np.ndarray:
        with torch.no_grad():
            tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
            if "new_tokens" in tensors:
                return _generate(model, **tensors)
            logits: np.ndarray = model(**tensors).logits.float().numpy()
        return logits

    return run


def _load(transformers: Any, source: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    if "auto_map" in settings:
        name = next(name for name in settings["auto_map"] if name.startswith("AutoModelFor"))
        return getattr(transformers, name).from_pretrained(source, trust_remote_code=True, **options)
    # No code of the package runs: the architecture is one of transformers.
    architecture = getattr(transformers, settings["architectures"][0])
    model, report = architecture.from_pretrained(source, output_loading_info=True, **options)
    if lacking := [name for part in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in report[part]]:
        raise ValueError(f"The weights do not fit {architecture.__name__}: {', '.join(map(str, lacking[:4]))}")
    return model.eval()


def _generate(model: Any, input_ids: Any, new_tokens: Any) -> np.ndarray:
    """Return the (1, S, V) logits of the steps of a greedy generation with the model's cache."""
    import torch

    settings = {"max_new_tokens": int(new_tokens), "do_sample": False, "eos_token_id": None}
    written = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        return_dict_in_generate=True,
        output_logits=True,
        **settings,
    )
    logits: np.ndarray = torch.stack(written.logits, 1).float().numpy()
    return logits

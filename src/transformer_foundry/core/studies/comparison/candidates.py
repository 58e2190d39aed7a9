"""Find the models of a comparison: folders with an export, and reference architectures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_foundry.core.base.errors import DataError, ModelError, TrainingError
from transformer_foundry.core.studies.comparison.reference_models import build_reference, require_reference

if TYPE_CHECKING:
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits
    from transformer_foundry.core.models.adapter import Adapter
    from transformer_foundry.core.models.source.read import ModelSource

__all__ = ["Candidate", "find_candidates"]

_LAYER_KEYS = ("num_layers", "n_layer", "num_hidden_layers", "n_layers", "num_encoder_layers", "depth")
_DEFAULT_LAYERS = 4
_MAX_LAYERS = 48


@dataclass(frozen=True)
class Candidate:
    """A model that can be built with any seed.

    Attributes:
        name: Its name in the table, unique in a comparison.
        identity: Digest of the export's files, or the name of a reference with the sizes it is built for.
        export: The export; None for a reference.
        reference: Name of the architecture; None for an export.
        parameter_count: Parameters that a reference is built for.
        layers: Layers of a reference.
    """

    name: str
    identity: str
    export: ModelSource | None = None
    reference: str | None = None
    parameter_count: int = 0
    layers: int = _DEFAULT_LAYERS

    def build(self, splits: TokenSplits, seed: int) -> Adapter:
        """Return the model with the initial weights of ``seed``, ready for ``fit``."""
        from transformer_foundry.core.models import adapt, load_model

        if self.export is not None:
            return load_model(self.export, task=splits.task, seed=seed)
        assert self.reference is not None
        model = build_reference(
            self.reference, splits, parameter_count=self.parameter_count, layers=self.layers, seed=seed
        )
        config: Any = model.config
        return adapt(model, config.to_dict(), task=splits.task)


def find_candidates(models: Sequence[str], splits: TokenSplits, source: ModelSource) -> list[Candidate]:
    """Return the models that ``benchmark.models`` names, after checking that each can train on the tokens.

    References get the layers and about the parameters of the first export, of ``source`` if there is none.

    Args:
        models: Folders of exports and names of references.
        splits: The tokens that all models train on.
        source: The export that the tokens were prepared for.

    Raises:
        ParameterError: If a name is neither a folder nor a reference architecture for the task of the data.
        ModelError: If an export cannot be read or built.
        DataError: If an export cannot train on the tokens: another task, too small a vocabulary, too short rows.
    """
    from transformer_foundry.core.models import load_model

    loaded = {name: _load(name) for name in dict.fromkeys(models) if _is_export(name, splits)}
    exports = {name: export for name, (export, _) in loaded.items()}
    adapters = {name: adapter for name, (_, adapter) in loaded.items()}
    for name, adapter in adapters.items():
        _require_shared_tokens(name, adapter, splits)
    first = next(iter(exports), None)
    sized = adapters[first] if first is not None else load_model(source, task=splits.task)
    config = (exports[first] if first is not None else source).config
    count = sum(parameter.numel() for parameter in sized.model.parameters())
    layers = _layers(config)
    candidates, seen = [], Counter[str]()
    folders = {Path(name).name for name in exports}
    for model in models:
        title = Path(model).name if model in exports else f"{model} (reference)" if model in folders else model
        seen[title] += 1
        title += f" ({seen[title]})" if seen[title] > 1 else ""
        if model in exports:
            candidates.append(Candidate(title, exports[model].identity, export=exports[model]))
        else:
            identity = f"{model} {count} parameters {layers} layers"
            candidates.append(Candidate(title, identity, reference=model, parameter_count=count, layers=layers))
    return candidates


def _is_export(name: str, splits: TokenSplits) -> bool:
    """Return whether ``name`` is a folder; refuse a name that is neither a folder nor a reference."""
    path = Path(name)
    if path.is_dir():
        return True
    beside = [str(folder) for folder in path.parent.glob("*/")] if path.parent != Path() else []
    require_reference(name, splits.task, others=beside)
    return False


def _load(name: str) -> tuple[ModelSource, Adapter]:
    from transformer_foundry.core.models import approve, load_model, read_export

    try:
        export = approve(read_export(name))
        return export, load_model(export)
    except ModelError as err:
        raise ModelError(f"benchmark.models, {name}: {err.problem}", err.expected, err.remedy) from err


def _require_shared_tokens(name: str, adapter: Adapter, splits: TokenSplits) -> None:
    from transformer_foundry.core.training.monitoring.preflight import require_fit

    try:
        require_fit(adapter, splits)
    except TrainingError as err:
        raise DataError(
            f"benchmark.models, {name}: {err.problem}",
            "Expected models that can share tokens: all for the task of the data, and none with a smaller "
            "vocabulary, shorter rows or fewer classes.",
            f"Compare models of one task, with the data of the smallest: data_engineering with model.source={name}; "
            "larger ones can share its tokens.",
        ) from err


def _layers(config: Any) -> int:
    found = next((config[key] for key in _LAYER_KEYS if isinstance(config.get(key), int)), _DEFAULT_LAYERS)
    return max(1, min(_MAX_LAYERS, found))

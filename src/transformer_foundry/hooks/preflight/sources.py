"""Whether the model and the data can be read and are those that the parameters name.

No code of the model runs, and nothing is downloaded.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from transformer_foundry.core.base.errors import DataError, FoundryError, ModelError, ParameterError
from transformer_foundry.core.data.options import DataOptions, is_built_in
from transformer_foundry.core.files.run_paths import RunPaths
from transformer_foundry.core.models.options import TASKS, ModelOptions
from transformer_foundry.core.studies.comparison.options import BenchmarkOptions
from transformer_foundry.hooks.preflight.reads import reads_section, writes_dataset
from transformer_foundry.hooks.run_context import RunContext, function_of

if TYPE_CHECKING:
    from transformer_foundry.datasets import ModelExportDataset, TokenSplitsDataset

__all__ = ["require_sources"]


def require_sources(context: RunContext) -> None:
    """Refuse a model, the models of a comparison, or data that cannot be read or do not fit the task.

    What an entry of the catalog reads must be what the parameters name: they name the run, its manifest and its report.

    Raises:
        ModelError: If the files of a model are missing, damaged or not approved.
        DataError: If local data are missing or damaged, or no task can use their columns.
        ParameterError: If a model of the comparison is unknown, or an entry of the catalog reads another model or
            other data than ``model.source`` and ``data.source``.
    """
    from transformer_foundry.datasets import ModelExportDataset, TokenSplitsDataset

    model = context.options(ModelOptions)
    for name in sorted(_entries_read(context)):
        dataset = context.catalog.get(name)
        if isinstance(dataset, ModelExportDataset):
            _require_named_model(context, name, dataset, model)
        elif isinstance(dataset, TokenSplitsDataset) and name in context.pipeline.inputs():
            _require_named_data(context, name, dataset)
    exports = [context.catalog.get(name) for name in context.pipeline.datasets()]
    if any(isinstance(item, ModelExportDataset) and item.source == model.source for item in exports):
        _require_model(model)
    if reads_section(context, "benchmark"):
        for name in context.options(BenchmarkOptions).models:
            _require_compared(name)
    if writes_dataset(context, TokenSplitsDataset) and reads_section(context, "data"):
        data = context.options(DataOptions)
        _require_data(data, model.task)
        _require_tokenizer(context, data)


def _entries_read(context: RunContext) -> set[str]:
    """Return the entries without a namespace that nodes of this project read: what has one is named by it."""
    ours = [node for node in context.pipeline.nodes if function_of(node) is not None]
    return {name for node in ours for name in node.inputs if "." not in name and not name.startswith("params:")}


def _require_named_model(context: RunContext, name: str, dataset: ModelExportDataset, model: ModelOptions) -> None:
    """Refuse an entry that reads another model than ``model.source``, where the parameters set that."""
    is_set = "source" in (context.parameters.get("model") or {})
    if not is_set or _model_of(dataset.source, dataset.revision) == _model_of(model.source, model.revision):
        return
    differs = model.source != dataset.source
    key, named = ("source", model.source) if differs else ("revision", model.revision)
    found = dataset.source if differs else dataset.revision
    raise ParameterError(
        f"{name} in the catalog reads {found}, but model.{key} is {named}.",
        "Expected one model: model.source names the run, and its manifest and report record it.",
        f"Set model.{key}={found}, and give {name} the {key} ${{parameters:model.{key}{'' if differs else ',null'}}} "
        "in conf/.",
    )


def _model_of(source: str, revision: str | None) -> object:
    """Return what two ways to write one source have in common."""
    from transformer_foundry.core.models.source.gist import parse_gist

    if Path(source).expanduser().exists():
        return os.path.realpath(Path(source).expanduser())
    if "://" in source and "gist" not in source:
        return source
    return parse_gist(source.strip(), revision) or os.path.realpath(source)


def _require_named_data(context: RunContext, name: str, dataset: TokenSplitsDataset) -> None:
    """Refuse tokens that this command does not make, at a place of the user's own, if they are of other data.

    Those of ``run.preparation`` fit: the run was chosen by its model and its data.
    """
    from transformer_foundry.core.base.secrets import redact
    from transformer_foundry.core.data.sources.built_in.open_text import text_name

    run = context.parameters.get("run") or {}
    usual = RunPaths.under(context.data_dir, context.paths.name, run.get("preparation")).model_input
    is_set = "source" in (context.parameters.get("data") or {})
    if not is_set or not dataset.exists() or dataset.folder.absolute().parent == usual.absolute():
        return
    source, splits = context.options(DataOptions).source, dataset.load()
    named = text_name(source) if is_built_in(source) else redact(source)
    if splits is not None and Path(splits.source).name != Path(named).name:
        raise ParameterError(
            f"{name} in the catalog ({dataset.folder}) holds tokens of {splits.source}, but data.source is {source}.",
            "Expected tokens of one source: the manifest and the report of the run record data.source.",
            f"Set data.source to what they were made from, or let 'kedro run' without --namespaces make {name}.",
        )


def _require_model(model: ModelOptions) -> None:
    from transformer_foundry.core.models.sandbox.approve import check_approval
    from transformer_foundry.core.models.source.gist import parse_gist
    from transformer_foundry.core.models.source.read import read_export
    from transformer_foundry.core.models.source.syntax import parse_model_code

    is_local = Path(model.source).expanduser().exists()
    if "://" in model.source and "gist" not in model.source:
        return  # behind fsspec: known once it is read
    if not is_local and parse_gist(model.source.strip(), model.revision) is not None:
        return
    with tempfile.TemporaryDirectory(prefix="foundry-check-") as cache:
        export = read_export(model.source, revision=model.revision, cache_dir=Path(cache))
        check_approval(export, trust_code=model.trust_code, sha256=model.sha256)
        parse_model_code(export.model_code)


def _require_compared(name: str) -> None:
    from transformer_foundry.core.studies.comparison.reference_models import REFERENCES, require_reference

    if not Path(name).is_dir():
        beside = [str(folder) for folder in Path(name).parent.glob("*/")] if Path(name).parent != Path() else []
        task = next((task for task, names in REFERENCES.items() if name in names), "causal_lm")
        require_reference(name, task, others=beside)
        return
    try:
        _require_model(ModelOptions(source=name))
    except ModelError as err:
        raise ModelError(f"benchmark.models, {name}: {err.problem}", err.expected, err.remedy) from err


def _require_data(data: DataOptions, task: str | None) -> None:
    """Refuse local data that the task, or if it is not known yet every task, would refuse."""
    from transformer_foundry.core.data.sources.local_files import looks_like_local_path
    from transformer_foundry.core.data.sources.open_tables import open_table_source

    if is_built_in(data.source) or "://" in data.source or not looks_like_local_path(data.source):
        return
    refused: DataError | None = None
    for candidate in [task] if task else TASKS:
        try:
            open_table_source(data, candidate)
        except DataError as err:
            refused = refused or err
        except (FoundryError, OSError):
            raise
        else:
            return
    assert refused is not None
    raise refused


def _require_tokenizer(context: RunContext, data: DataOptions) -> None:
    """Refuse the name of a tokenizer that is nowhere; the Hub is asked for one that was never prepared or cached."""
    from transformer_foundry.core.data.sources.local_files import looks_like_local_path
    from transformer_foundry.core.data.tokenizer.given import require_on_hub
    from transformer_foundry.core.data.tokenizer.train import fitted_kind
    from transformer_foundry.datasets import TokenizerDataset

    if data.vocab_size is not None or fitted_kind(data) or Path(data.tokenizer).expanduser().exists():
        return
    if looks_like_local_path(data.tokenizer):
        raise ParameterError(
            f"data.tokenizer is {data.tokenizer}, but there is no such folder.",
            "Expected auto, bpe, bytes, characters, the folder of a tokenizer or its name on the Hub.",
            "Check the spelling of data.tokenizer.",
        )
    made = map(context.catalog.get, sorted(context.pipeline.all_outputs()))
    if not any(isinstance(dataset, TokenizerDataset) and dataset.exists() for dataset in made):
        require_on_hub(data.tokenizer)

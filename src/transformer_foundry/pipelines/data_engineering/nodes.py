"""Nodes of the data engineering pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformer_foundry.core import data as core_data
from transformer_foundry.core import models
from transformer_foundry.core.base.options import as_options
from transformer_foundry.core.base.text import counted
from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
from transformer_foundry.core.files.provenance import with_origin
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.pipelines.random_lock import RANDOM_LOCK
from transformer_foundry.pipelines.reuse import (
    EarlierResults,
    contract_origin,
    earlier_of,
    is_up_to_date,
    say_up_to_date,
)
from transformer_foundry.pipelines.types import DataFrame, Figure

__all__ = ["draw_data", "fit_tokenizer", "prepare_tokens", "profile_data", "read_contract", "read_data"]


def read_contract(model_export: ModelSource, model: ModelOptions, earlier_results: EarlierResults) -> dict[str, Any]:
    """Return the contract of the model: task, sizes and special tokens, which the data must fit."""
    model = as_options(ModelOptions, model, "model")
    origin = contract_origin(model_export, model)
    earlier: dict[str, Any] | None = earlier_of(earlier_results)[0]
    if earlier is not None and is_up_to_date(earlier, origin):
        return earlier
    with RANDOM_LOCK.hold():
        contract = models.load_model(model_export, kind=model.kind, task=model.task).contract
        return with_origin(contract.to_dict(), origin)


def read_data(contract: dict[str, Any], data: DataOptions, model_approval: dict[str, Any] | None) -> Corpus:  # noqa: ARG001
    """Return the documents of the source, assigned to splits.

    Args:
        contract: The contract of the model.
        data: The options.
        model_approval: Not needed: data are prepared without it too. Where a pipeline also judges the model, this node
            waits for the verdict, so that no data are read for a model that is refused.
    """
    fitted = Contract.from_dict(contract)
    return core_data.read_corpus(as_options(DataOptions, data, "data"), fitted.task, fitted.num_labels)


def fit_tokenizer(
    corpus: Corpus | dict[str, Any], contract: dict[str, Any], data: DataOptions, earlier_results: EarlierResults
) -> Tokenizer:
    """Return a tokenizer with the vocabulary size of the model; reuse the earlier one if it fits."""
    data, fitted = as_options(DataOptions, data, "data"), Contract.from_dict(contract)
    (earlier,) = earlier_of(earlier_results)
    return core_data.fit_tokenizer(_open(corpus, fitted, data), fitted, data, previous=earlier)


def prepare_tokens(
    corpus: Corpus | dict[str, Any],
    tokenizer: Tokenizer,
    contract: dict[str, Any],
    data: DataOptions,
    earlier_results: EarlierResults,
) -> TokenSplits:
    """Return the tokens of every split; reuse the earlier ones if nothing has changed."""
    data, fitted = as_options(DataOptions, data, "data"), Contract.from_dict(contract)
    opened = _open(corpus, fitted, data)
    (earlier,) = earlier_of(earlier_results)
    splits = core_data.prepare_splits(opened, tokenizer, fitted, data, previous=earlier)
    if splits is earlier:
        documents = counted(sum(split.documents for split in splits.splits.values()), "document")
        say_up_to_date("data_engineering", f"{documents} of {splits.source}", splits.index_file)
    return splits


def profile_data(token_splits: TokenSplits, tokenizer: Tokenizer, earlier_results: EarlierResults) -> dict[str, Any]:
    """Return the statistics of the data, with baselines and examples of model inputs."""
    earlier: dict[str, Any] | None = earlier_of(earlier_results)[0]
    if earlier is not None and is_up_to_date(earlier, core_data.profile_origin(token_splits)):
        return earlier
    return core_data.profile_splits(token_splits, tokenizer)


def draw_data(token_splits: TokenSplits, data_profile: dict[str, Any]) -> tuple[DataFrame, Figure, Figure, Figure]:
    """Return the table of the splits and the figures of lengths, tokens and classes."""
    return (
        core_data.splits_table(data_profile),
        core_data.length_figure(token_splits),
        core_data.token_figure(token_splits),
        core_data.label_figure(data_profile),
    )


def _open(corpus: Corpus | Mapping[str, Any], contract: Contract, data: DataOptions) -> Corpus:
    return core_data.open_corpus(corpus, data, contract.task, contract.num_labels)

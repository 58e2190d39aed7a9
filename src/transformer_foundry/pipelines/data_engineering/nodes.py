"""Nodes of the data engineering pipeline."""

from __future__ import annotations

from typing import Any

from transformer_foundry.core import data as core_data
from transformer_foundry.core import models
from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.options import DataOptions
from transformer_foundry.core.data.tokenized.dataset import TokenSplits
from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer
from transformer_foundry.core.models.contract import Contract
from transformer_foundry.core.models.options import ModelOptions
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.pipelines.types import DataFrame, Figure

__all__ = ["draw_data", "fit_tokenizer", "prepare_tokens", "profile_data", "read_contract", "read_data"]


def read_contract(model_export: ModelSource, model: ModelOptions) -> Contract:
    """Return the contract of the model: task, sizes and special tokens, which the data must fit."""
    return models.load_model(model_export, kind=model.kind, task=model.task).contract


def read_data(contract: Contract, data: DataOptions) -> Corpus:
    """Return the documents of the source, assigned to splits."""
    return core_data.read_corpus(data, contract.task, contract.num_labels)


def fit_tokenizer(
    corpus: Corpus, contract: Contract, data: DataOptions, previous_tokenizer: Tokenizer | None
) -> Tokenizer:
    """Return a tokenizer with the vocabulary size of the model; reuse the previous one if it fits."""
    return core_data.fit_tokenizer(corpus, contract, data, previous=previous_tokenizer)


def prepare_tokens(
    corpus: Corpus, tokenizer: Tokenizer, contract: Contract, data: DataOptions, previous_splits: TokenSplits | None
) -> TokenSplits:
    """Return the tokens of every split; reuse the previous ones if nothing has changed."""
    return core_data.prepare_splits(corpus, tokenizer, contract, data, previous=previous_splits)


def profile_data(token_splits: TokenSplits, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the statistics of the data, with baselines and examples of model inputs."""
    return core_data.profile_splits(token_splits, tokenizer)


def draw_data(token_splits: TokenSplits, data_profile: dict[str, Any]) -> tuple[DataFrame, Figure, Figure, Figure]:
    """Return the table of the splits and the figures of lengths, tokens and classes."""
    return (
        core_data.splits_table(data_profile),
        core_data.length_figure(token_splits),
        core_data.token_figure(token_splits),
        core_data.label_figure(data_profile),
    )

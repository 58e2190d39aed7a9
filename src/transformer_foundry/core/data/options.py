"""The parameters of section ``data``."""

from __future__ import annotations

from dataclasses import dataclass

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import check_options, option

__all__ = ["BUILT_IN", "DataOptions"]

BUILT_IN = "built-in"


@dataclass(frozen=True)
class DataOptions:
    """The data to train on, and how it is split and tokenized.

    Raises:
        ParameterError: If a value has the wrong type or is outside its range.
    """

    source: str = option(
        BUILT_IN,
        "'built-in', a local file or folder (csv, tsv, json, jsonl, text, parquet, arrow), a URL, or a Hub dataset.",
    )
    config_name: str | None = option(
        None,
        "Configuration of a Hugging Face dataset; 'large' adds docstrings to the built-in text of language models.",
    )
    split: str | None = option(None, "The only split to read, for example 'train[:10%]'; null reads all splits.")
    revision: str | None = option(None, "Branch, tag or commit of a Hugging Face dataset.")
    streaming: bool = option(
        False,
        "Read a Hub dataset or URL row by row, at most data.max_documents rows, instead of downloading all of it.",
    )
    text_column: str | None = option(
        None, "Column of the text (source text of a pair, words of token classification); null guesses it."
    )
    target_column: str | None = option(None, "Column of the target text of a pair; null guesses it.")
    label_column: str | None = option(None, "Column of the class, or of the tags of the words; null guesses it.")
    pair_column: str | None = option(
        None, "Column of a second text that is classified together with the first; null guesses it."
    )
    span_corruption: bool | None = option(
        None, "Whether an encoder-decoder learns to fill in hidden spans; null does so if the data have no pairs."
    )
    max_length: int | None = option(
        None, "Longest row; null uses the model's maximum, at most 128.", minimum=2, unit="tokens"
    )
    validation_share: float = option(0.05, "Share of the texts held out for validation.", above=0, below=0.5)
    test_share: float = option(0.05, "Share of the texts held out for the test.", minimum=0, below=0.5)
    drop_near_duplicates: bool = option(
        False, "Keep one of several nearly equal texts, preferably one that is held out."
    )
    tokenizer: str = option(
        "auto",
        "'auto' (fitted to the data and the model), 'bpe', 'bytes', 'characters', a tokenizer folder or a Hub name.",
    )
    max_documents: int | None = option(None, "Largest number of texts; the sample is always the same.", minimum=3)
    seed: int = option(0, "Seed of the splits and of the sample.", minimum=0)

    def __post_init__(self) -> None:
        check_options(self, "data")
        if not self.source.strip():
            raise ParameterError(
                "data.source is empty.",
                "Expected 'built-in', a local file or folder, or the name of a Hugging Face dataset.",
                "Set data.source in conf/ or with --params data.source=VALUE.",
            )

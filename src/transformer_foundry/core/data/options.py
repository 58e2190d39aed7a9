"""The parameters of section ``data``."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import Options, check_options, option
from transformer_foundry.core.data.columns.prompts.template import parse_template

__all__ = ["BUILT_IN", "BUILT_IN_COUNTRIES", "BUILT_IN_SOURCES", "DataOptions", "is_built_in"]

BUILT_IN = "built-in"
"""The text that every CPython has."""

BUILT_IN_COUNTRIES = "built-in:countries"
BUILT_IN_SOURCES = (BUILT_IN_COUNTRIES, BUILT_IN, "built-in:python")
"""Values of ``data.source`` that name a text of this package or of Python; the last two are the same."""

_MEANT = re.compile(r"built[-_ ]?in\s*:\s*(.*)", re.IGNORECASE)


def is_built_in(source: str) -> bool:
    """Return whether ``data.source`` names a built-in text.

    Example:
        >>> is_built_in("built-in:countries"), is_built_in("reviews.csv")
        (True, False)
    """
    return source in BUILT_IN_SOURCES


@dataclass(frozen=True)
class DataOptions(Options):
    """The data to train on, and how it is split and tokenized.

    Raises:
        ParameterError: If a value has the wrong type or is outside its range.
    """

    source: str = option(
        BUILT_IN,
        "'built-in:countries', 'built-in' (text of Python), a file, folder or archive (csv, jsonl, parquet, text and "
        "others), a URL, a Hub dataset.",
    )
    config_name: str | None = option(
        None,
        "Configuration of a Hugging Face dataset; 'large' adds docstrings to the text of Python for language models.",
    )
    split: str | None = option(None, "The only split to read, for example 'train[:10%]'; null reads all splits.")
    revision: str | None = option(None, "Branch, tag or commit of a Hugging Face dataset.")
    streaming: bool = option(
        False,
        "Read a Hub dataset or URL row by row, at most data.max_documents rows, instead of downloading all of it.",
    )
    document: str = option(
        "auto",
        "What one text is: a line, a paragraph, a section of paragraphs, a file, or a row of a table.",
        choices=("auto", "line", "paragraph", "section", "file", "row"),
    )
    header: bool | None = option(None, "Whether the first row of a table names its columns; null recognizes it.")
    columns: list[str] | None = option(None, "Names of all columns of a table, in order, instead of its header.")
    table: str | None = option(None, "Table or sheet that is read of a file that has several.")
    encoding: str | None = option(None, "Encoding of text files, such as cp1252; null recognizes UTF-8 and UTF-16.")
    vocab_size: int | None = option(
        None,
        "Number of ids of the tokenizer that made the data, if they are token ids (lists, .npy, .bin of nanoGPT), "
        "which are used as they are; null reads text.",
        minimum=2,
    )
    text_column: str | None = option(
        None, "Column of the text (source text of a pair, words of token classification); null guesses it."
    )
    target_column: str | None = option(None, "Column of the target text of a pair; null guesses it.")
    label_column: str | None = option(
        None, "Column of the class, of a number to predict, or of the tags of the words; null guesses it."
    )
    label_columns: list[str] | None = option(
        None, "Columns of 0 and 1, one for each label that a text may have; null guesses them."
    )
    label_separator: str | None = option(
        None, "What joins several labels in a cell, such as '|'; '' reads a cell as one class, null recognizes it."
    )
    pair_column: str | None = option(
        None, "Column of a second text that is classified together with the first; null guesses it."
    )
    split_column: str | None = option(
        None, "Column that names the split of each row (train, dev, test); '' uses none, null recognizes it."
    )
    template: str | None = option(
        None,
        "How the columns of a row are joined to one text, such as '{instruction}\\n{input}\\n{output}'; "
        "an empty field leaves out the text before it too; null writes the parts of a prompt on lines of their own.",
    )
    loss_on: str = option(
        "all",
        "What a decoder learns of a prompt and its answer: 'all' of the text, or only the 'answer'.",
        choices=("all", "answer"),
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
        "'auto' (fitted to the data and the model), 'bpe', 'bytes', 'characters', 'unigram', 'wordpiece', 'word' "
        "(symbols between blanks, each one token), a tokenizer folder, tokenizer.json, a .model of sentencepiece, "
        "a .tiktoken file or a Hub name; the model has the vocab_size.",
    )
    max_documents: int | None = option(None, "Largest number of texts; the sample is always the same.", minimum=3)
    seed: int = option(0, "Seed of the splits and of the sample.", minimum=0)

    def __post_init__(self) -> None:
        check_options(self, "data")
        if self.template is not None:
            parse_template(self.template)
        if not self.source.strip():
            raise ParameterError(
                "data.source is empty.",
                "Expected 'built-in', a local file or folder, or the name of a Hugging Face dataset.",
                "Set data.source in conf/ or with --params data.source=VALUE.",
            )
        if (meant := _MEANT.fullmatch(self.source.strip())) and not is_built_in(self.source):
            near = difflib.get_close_matches(meant[1].lower(), ("countries", "python"), n=1, cutoff=0.5)
            raise ParameterError(
                f"data.source is {self.source!r}, and there is no such built-in text.",
                "Expected built-in:countries or built-in:python.",
                f"Set data.source=built-in:{near[0] if near else 'countries'}.",
            )

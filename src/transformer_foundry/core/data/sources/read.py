"""Choose the source that ``data.source`` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformer_foundry.core.base.errors import DataError
from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.document import Source
from transformer_foundry.core.data.options import DataOptions, is_built_in

__all__ = ["CorpusDescription", "is_remote", "open_corpus", "read_corpus"]


_OF_FILES = (
    "text_column",
    "target_column",
    "label_column",
    "label_columns",
    "label_separator",
    "pair_column",
    "split_column",
    "template",
    "loss_on",
    "vocab_size",
    "header",
    "columns",
    "table",
    "encoding",
)
"""Options that say how a file is read; the built-in texts are none."""


def read_corpus(options: DataOptions, task: str, num_labels: int | None = None) -> Corpus:
    """Return the corpus of ``data.source`` for ``task``; the text is read when it is needed.

    Args:
        options: The section ``data``.
        task: The task of the model.
        num_labels: Number of outputs of a model of texts or of classes of tokens.

    Raises:
        DataError: If the data cannot be read or do not fit the task.
    """
    source: Source
    if is_built_in(options.source):
        from transformer_foundry.core.data.sources.built_in.open_text import open_text

        _check_built_in(options)
        source, found = open_text(options, task, num_labels)
    else:
        from transformer_foundry.core.data.sources.open_tables import open_table_source

        source = table = open_table_source(options, task, num_labels)
        found = table.task
    return Corpus(
        source,
        found,
        validation_share=options.validation_share,
        test_share=options.test_share,
        max_documents=options.max_documents,
        drop_near_duplicates=options.drop_near_duplicates,
        num_labels=num_labels,
        seed=options.seed,
    )


def _check_built_in(options: DataOptions) -> None:
    changed = [name for name in _OF_FILES if getattr(options, name) != getattr(DataOptions(), name)]
    if changed:
        raise DataError(
            f"data.{changed[0]} is set, but the built-in text has no columns, prompts, answers or token ids.",
            "Expected data of your own.",
            f"Set data.source to your own file, or remove data.{changed[0]}.",
        )


def is_remote(options: DataOptions) -> bool:
    """Return whether ``data.source`` is a URL or on the Hub: opening it asks the network.

    Example:
        >>> is_remote(DataOptions()), is_remote(DataOptions(source="owner/name"))
        (False, True)
    """
    from transformer_foundry.core.data.sources.local_files import looks_like_local_path

    source = options.source
    return not is_built_in(source) and ("://" in source or not looks_like_local_path(source))


class CorpusDescription(dict[str, Any]):
    """Source, task, columns and digest of a corpus; the texts stay in the source.

    Example:
        >>> CorpusDescription(source="a.csv", task="causal_lm", digest="3f2a77c0ffee")
        CorpusDescription(source='a.csv', task='causal_lm', digest='3f2a77c0'); open(options) reads its texts
    """

    def __repr__(self) -> str:
        known = f"source={self.get('source')!r}, task={self.get('task')!r}, digest={str(self.get('digest'))[:8]!r}"
        return f"CorpusDescription({known}); open(options) reads its texts"

    def open(self, options: DataOptions, num_labels: int | None = None) -> Corpus:
        """Return the corpus, if the source and the options are still those of the description.

        Args:
            options: The section ``data``.
            num_labels: Number of classes of the model (classification).

        Raises:
            DataError: If the source or the options have changed since.
        """
        return open_corpus(self, options, self["task"], num_labels)


def open_corpus(
    corpus: Corpus | Mapping[str, Any], options: DataOptions, task: str, num_labels: int | None = None
) -> Corpus:
    """Return a corpus, or open the one that ``Corpus.describe`` has described in another process.

    Args:
        corpus: The corpus or its description.
        options: The section ``data``.
        task: The task of the model.
        num_labels: Number of classes of the model (classification).

    Raises:
        DataError: If the source or the options have changed since.
    """
    if isinstance(corpus, Corpus):
        return corpus
    found = read_corpus(options, task, num_labels)
    if found.digest() != corpus.get("digest"):
        raise DataError(
            f"The data of {found.name} or the options of the section data have changed since they were read.",
            f"Expected the digest {str(corpus.get('digest'))[:12]}, found {found.digest()[:12]}.",
            "Run 'kedro run --pipelines data_engineering' with the same --params: it reads the data again.",
        )
    return found

"""Choose the source that ``data.source`` names."""

from __future__ import annotations

from transformer_foundry.core.data.corpus.corpus import Corpus
from transformer_foundry.core.data.document import Source
from transformer_foundry.core.data.options import BUILT_IN, DataOptions
from transformer_foundry.core.data.sources.builtin import BuiltInSource

__all__ = ["read_corpus"]


def read_corpus(options: DataOptions, task: str, num_labels: int | None = None) -> Corpus:
    """Return the corpus of ``data.source`` for ``task``; the text is read when it is needed.

    Args:
        options: The section ``data``.
        task: The task of the model.
        num_labels: Number of classes of the model (classification).

    Raises:
        DataError: If the data cannot be read or do not fit the task.
    """
    source: Source
    if options.source == BUILT_IN:
        source = BuiltInSource(task, num_labels, options.config_name, corrupts_spans=bool(options.span_corruption))
    else:
        from transformer_foundry.core.data.sources.table_source import open_table_source

        source = open_table_source(options, task)
    return Corpus(
        source,
        task,
        validation_share=options.validation_share,
        test_share=options.test_share,
        max_documents=options.max_documents,
        drop_near_duplicates=options.drop_near_duplicates,
        num_labels=num_labels,
        seed=options.seed,
    )

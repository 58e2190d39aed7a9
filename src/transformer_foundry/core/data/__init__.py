"""From text to training batches: sources, built-in corpora, tokenizers, memory-mapped splits, batches, profile."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Batches": "batches",
        "Columns": "documents",
        "Corpus": "corpus",
        "DataOptions": "options",
        "Document": "documents",
        "Ragged": "storage",
        "TokenSplit": "splits",
        "TokenSplits": "splits",
        "Tokenizer": "tokenizers",
        "copy_splits": "splits",
        "fit_tokenizer": "fitting",
        "label_figure": "figures",
        "length_figure": "figures",
        "load_splits": "splits",
        "load_tokenizer": "tokenizers",
        "prepare_splits": "preparation",
        "profile_splits": "quality",
        "read_corpus": "sources",
        "read_token_file": "token_files",
        "tabulate": "quality",
        "token_figure": "figures",
    },
)

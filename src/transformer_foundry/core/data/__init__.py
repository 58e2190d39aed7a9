"""From text to training batches: sources, built-in corpora, tokenizers, memory-mapped splits, batches, profile."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Batches": "dataloading.batches",
        "Columns": "sources.document",
        "Corpus": "corpus.corpus",
        "DataOptions": "options",
        "Document": "sources.document",
        "Ragged": "tokenized.memmap",
        "TokenSplit": "tokenized.dataset",
        "TokenSplits": "tokenized.dataset",
        "Tokenizer": "tokenizer.tokenizer",
        "copy_splits": "tokenized.dataset",
        "fit_tokenizer": "tokenizer.train",
        "label_figure": "profile.figures",
        "length_figure": "profile.figures",
        "load_splits": "tokenized.dataset",
        "load_tokenizer": "tokenizer.tokenizer",
        "prepare_splits": "prepare",
        "profile_splits": "profile.profile",
        "read_corpus": "sources.read",
        "read_token_file": "tokenized.token_file",
        "tabulate": "profile.profile",
        "token_figure": "profile.figures",
    },
)

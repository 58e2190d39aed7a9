"""From files and tables to batches: file types are in ``sources``; then corpus, tokenizer, memory-mapped rows, batches.

Start at ``prepare`` to follow the data.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.data.corpus.corpus import Corpus as Corpus
    from transformer_foundry.core.data.dataloading.batches import Batches as Batches
    from transformer_foundry.core.data.document import Columns as Columns
    from transformer_foundry.core.data.document import Document as Document
    from transformer_foundry.core.data.options import DataOptions as DataOptions
    from transformer_foundry.core.data.prepare import is_prepared as is_prepared
    from transformer_foundry.core.data.prepare import prepare_splits as prepare_splits
    from transformer_foundry.core.data.profile.figures import label_figure as label_figure
    from transformer_foundry.core.data.profile.figures import length_figure as length_figure
    from transformer_foundry.core.data.profile.figures import token_figure as token_figure
    from transformer_foundry.core.data.profile.profile import profile_origin as profile_origin
    from transformer_foundry.core.data.profile.profile import profile_splits as profile_splits
    from transformer_foundry.core.data.profile.profile import splits_table as splits_table
    from transformer_foundry.core.data.sources.read import is_remote as is_remote
    from transformer_foundry.core.data.sources.read import open_corpus as open_corpus
    from transformer_foundry.core.data.sources.read import read_corpus as read_corpus
    from transformer_foundry.core.data.tokenized.dataset import TokenSplit as TokenSplit
    from transformer_foundry.core.data.tokenized.dataset import TokenSplits as TokenSplits
    from transformer_foundry.core.data.tokenized.dataset import copy_splits as copy_splits
    from transformer_foundry.core.data.tokenized.dataset import load_splits as load_splits
    from transformer_foundry.core.data.tokenized.memmap import RaggedArray as RaggedArray
    from transformer_foundry.core.data.tokenized.token_file import read_token_file as read_token_file
    from transformer_foundry.core.data.tokenizer.tokenizer import Tokenizer as Tokenizer
    from transformer_foundry.core.data.tokenizer.tokenizer import load_tokenizer as load_tokenizer
    from transformer_foundry.core.data.tokenizer.train import fit_tokenizer as fit_tokenizer
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

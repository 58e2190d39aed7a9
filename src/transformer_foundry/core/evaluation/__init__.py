"""How good a model is: loss and metrics of a split, generated text, samples.

``evaluate`` measures a split, ``generate`` continues token ids, ``sample_texts`` writes samples."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "evaluate": "evaluation_loop",
        "generate": "generation",
        "measure_texts": "samples",
        "sample_texts": "samples",
    },
)

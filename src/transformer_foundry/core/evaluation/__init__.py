"""Evaluation of a model.

``evaluate`` returns loss and metrics of a split, ``generate`` continues token ids, ``sample_texts`` returns samples,
``assess`` makes the final evaluation of a run; ``error_analysis`` finds the examples and segments with most errors.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.evaluation.evaluation_loop import evaluate as evaluate
    from transformer_foundry.core.evaluation.generation import generate as generate
    from transformer_foundry.core.evaluation.samples import measure_texts as measure_texts
    from transformer_foundry.core.evaluation.samples import sample_texts as sample_texts
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

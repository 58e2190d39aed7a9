"""Compare models: exports and reference architectures, trained on the same tokens with the same budget."""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.studies.comparison.candidates import Candidate as Candidate
    from transformer_foundry.core.studies.comparison.candidates import find_candidates as find_candidates
    from transformer_foundry.core.studies.comparison.confidence import mean_interval as mean_interval
    from transformer_foundry.core.studies.comparison.figure import comparison_figure as comparison_figure
    from transformer_foundry.core.studies.comparison.options import BenchmarkOptions as BenchmarkOptions
    from transformer_foundry.core.studies.comparison.run import CandidateResult as CandidateResult
    from transformer_foundry.core.studies.comparison.run import compare_models as compare_models
    from transformer_foundry.core.studies.comparison.table import comparison_table as comparison_table
    from transformer_foundry.core.studies.comparison.table import comparison_text as comparison_text
    from transformer_foundry.core.studies.comparison.table import summarize as summarize
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

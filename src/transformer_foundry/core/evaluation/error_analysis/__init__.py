"""Analyze the errors of a trained model: confusions, the worst examples, weak segments, calibration.

For classification and sequence-to-sequence, where an example is a text that can be read.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.evaluation.error_analysis.figures import calibration_figure as calibration_figure
    from transformer_foundry.core.evaluation.error_analysis.figures import confusion_figure as confusion_figure
    from transformer_foundry.core.evaluation.error_analysis.figures import segment_figure as segment_figure
    from transformer_foundry.core.evaluation.error_analysis.predictions import Predictions as Predictions
    from transformer_foundry.core.evaluation.error_analysis.predictions import is_analyzed as is_analyzed
    from transformer_foundry.core.evaluation.error_analysis.predictions import predict_examples as predict_examples
    from transformer_foundry.core.evaluation.error_analysis.report import analyze_errors as analyze_errors
    from transformer_foundry.core.evaluation.error_analysis.segments import find_segments as find_segments
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

"""Where a trained model errs: confusions, the worst examples, weak segments, calibration.

For classification and sequence-to-sequence, where an example is a text that a person can look at.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.evaluation.error_analysis.figures import calibration_figure as calibration_figure
    from transformer_foundry.core.evaluation.error_analysis.figures import confusion_figure as confusion_figure
    from transformer_foundry.core.evaluation.error_analysis.figures import segment_figure as segment_figure
    from transformer_foundry.core.evaluation.error_analysis.predictions import Outcomes as Outcomes
    from transformer_foundry.core.evaluation.error_analysis.predictions import examine as examine
    from transformer_foundry.core.evaluation.error_analysis.report import analyse_errors as analyse_errors
    from transformer_foundry.core.evaluation.error_analysis.segments import find_segments as find_segments
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

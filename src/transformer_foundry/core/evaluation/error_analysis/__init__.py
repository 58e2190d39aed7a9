"""Where a trained model errs: confusions, the worst examples, weak segments, calibration.

For classification and sequence-to-sequence, where an example is a text that a person can look at.
"""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Outcomes": "predictions",
        "analyse_errors": "report",
        "calibration_figure": "figures",
        "confusion_figure": "figures",
        "examine": "predictions",
        "find_segments": "segments",
        "segment_figure": "figures",
    },
)

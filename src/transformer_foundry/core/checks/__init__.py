"""What can be wrong with a model: checks of its contract, and a report that says what, where and how to mend it.

``run_checks`` checks an export, ``check_model`` a module that is already built; ``python -m
transformer_foundry.core.checks EXPORT`` does it from the command line. One module per family of checks.
"""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Evidence": "report.measurements",
        "Finding": "report.report",
        "Report": "report.report",
        "ValidationOptions": "options",
        "check_model": "runner",
        "draw_graph": "report.graph_figure",
        "draw_report": "report.figure",
        "run_checks": "runner",
    },
)

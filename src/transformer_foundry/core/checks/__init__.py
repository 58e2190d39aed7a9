"""What can be wrong with a model: checks of its contract, and a report that says what, where and how to mend it.

``run_checks`` checks an export, ``check_model`` a module that is already built; ``python -m
transformer_foundry.core.checks EXPORT`` does it from the command line. One module per family of checks.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.checks.options import ValidationOptions as ValidationOptions
    from transformer_foundry.core.checks.report.figure import draw_report as draw_report
    from transformer_foundry.core.checks.report.graph_figure import draw_graph as draw_graph
    from transformer_foundry.core.checks.report.measurements import Measurements as Measurements
    from transformer_foundry.core.checks.report.report import Finding as Finding
    from transformer_foundry.core.checks.report.report import Report as Report
    from transformer_foundry.core.checks.runner import check_model as check_model
    from transformer_foundry.core.checks.runner import run_checks as run_checks
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

"""Render the report of a run: one HTML file that shows all that is known of it and needs no other file.

``run_record`` reads the files of the run, ``join`` leaves out what does not belong to its best checkpoint,
``sections`` compute what is shown, ``templates`` are the HTML.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.reports.join import read_run as read_run
    from transformer_foundry.core.reports.page import mark_outdated as mark_outdated
    from transformer_foundry.core.reports.page import render_report as render_report
    from transformer_foundry.core.reports.page import write_report as write_report
    from transformer_foundry.core.reports.run_record import RunRecord as RunRecord
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

"""The report of a run: one HTML file that shows all that is known of it and needs nothing else to be read."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "RunRecord": "run_record",
        "read_run": "run_record",
        "render_report": "page",
        "write_report": "page",
    },
)

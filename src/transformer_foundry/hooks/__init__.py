"""Callbacks that show, track, copy and report a run. Deleting one changes no weight.

Begin with ``callback.Callback``, the base class, and ``kedro_hooks.KedroHooks``, which calls them. Trackers are in
``tracking``.
"""

from transformer_foundry.hooks.callback import Callback
from transformer_foundry.hooks.drive.callback import DriveCallback
from transformer_foundry.hooks.kedro_hooks import KedroHooks, VizStatusHooks
from transformer_foundry.hooks.preflight import PreflightCallback
from transformer_foundry.hooks.progress import ProgressCallback
from transformer_foundry.hooks.report import ReportCallback
from transformer_foundry.hooks.run_context import RunContext
from transformer_foundry.hooks.summary import SummaryCallback
from transformer_foundry.hooks.tracking.wandb_callback import WandbCallback

__all__ = [
    "Callback",
    "DriveCallback",
    "KedroHooks",
    "PreflightCallback",
    "ProgressCallback",
    "ReportCallback",
    "RunContext",
    "SummaryCallback",
    "VizStatusHooks",
    "WandbCallback",
]

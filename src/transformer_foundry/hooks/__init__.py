"""What happens besides: checks, progress, W&B, Drive, report, summary. Deleting one changes no weight."""

from transformer_foundry.hooks.drive import DriveHooks
from transformer_foundry.hooks.preflight import PreflightHooks
from transformer_foundry.hooks.progress import ProgressHooks
from transformer_foundry.hooks.report import ReportHooks
from transformer_foundry.hooks.summary import SummaryHooks
from transformer_foundry.hooks.tracking import TrackingHooks
from transformer_foundry.hooks.workers import WorkerHooks

__all__ = [
    "DriveHooks",
    "PreflightHooks",
    "ProgressHooks",
    "ReportHooks",
    "SummaryHooks",
    "TrackingHooks",
    "WorkerHooks",
]

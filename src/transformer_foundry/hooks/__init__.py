"""What happens besides: checks, progress, W&B, Drive, report, summary. Deleting one changes no weight."""

from transformer_foundry.hooks.distributed import WorkerHooks
from transformer_foundry.hooks.drive.callback import DriveHooks
from transformer_foundry.hooks.preflight import PreflightHooks
from transformer_foundry.hooks.progress import ProgressHooks
from transformer_foundry.hooks.report import ReportHooks
from transformer_foundry.hooks.summary import SummaryHooks
from transformer_foundry.hooks.tracking.wandb_callback import TrackingHooks

__all__ = [
    "DriveHooks",
    "PreflightHooks",
    "ProgressHooks",
    "ReportHooks",
    "SummaryHooks",
    "TrackingHooks",
    "WorkerHooks",
]

"""Kedro's project settings: configuration loader and hooks."""

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.console.log_format import install_log_format
from transformer_foundry.console.third_party import silence_third_parties
from transformer_foundry.hooks import (
    DriveHooks,
    PreflightHooks,
    ProgressHooks,
    ReportHooks,
    SummaryHooks,
    TrackingHooks,
    WorkerHooks,
)

silence_third_parties()
install_log_format()

CONFIG_LOADER_CLASS = FoundryConfigLoader

# Pluggy calls the last registered hook first: inputs are checked, then tracking starts; before them Drive restores,
# which asks to be first. At the end the report is written, then Drive copies it, then the summary names it.
HOOKS = (
    WorkerHooks(),
    SummaryHooks(),
    DriveHooks(),
    ReportHooks(),
    ProgressHooks(),
    TrackingHooks(),
    PreflightHooks(),
)

# kedro-viz records an event for every item that a generator node yields, which no one reads.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)

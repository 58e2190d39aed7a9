"""Kedro's project settings: configuration loader and hooks."""

from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.console.log_format import install_log_format
from transformer_foundry.console.third_party import silence_third_parties
from transformer_foundry.hooks import (
    DriveCallback,
    KedroHooks,
    PreflightCallback,
    ProgressCallback,
    ReportCallback,
    SummaryCallback,
    WandbCallback,
)

silence_third_parties()
install_log_format()

CONFIG_LOADER_CLASS = FoundryConfigLoader

# They nest like "with" statements: started from top to bottom, ended from bottom to top. So Drive restores before
# inputs are checked and tracking starts; at the end the report is written, Drive copies it, and the summary names it.
HOOKS = (
    KedroHooks(
        [
            SummaryCallback(),
            DriveCallback(),
            PreflightCallback(),
            ReportCallback(),
            ProgressCallback(),
            WandbCallback(),
        ]
    ),
)

# kedro-viz records an event for every item that a generator node yields, which no one reads.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)

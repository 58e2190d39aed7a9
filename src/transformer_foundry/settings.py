"""Kedro's project settings: configuration loader and hooks."""

from transformer_foundry.config import FoundryConfigLoader
from transformer_foundry.hooks import (
    DriveHooks,
    PreflightHooks,
    ProgressHooks,
    ReportHooks,
    SummaryHooks,
    TrackingHooks,
    WorkerHooks,
)
from transformer_foundry.quiet import silence_third_parties
from transformer_foundry.redaction import install_redaction

silence_third_parties()
install_redaction()

CONFIG_LOADER_CLASS = FoundryConfigLoader
# A preset changes single keys of a section; Kedro's default would replace the whole section.
CONFIG_LOADER_ARGS = {"base_env": "base", "default_run_env": "local", "merge_strategy": {"parameters": "soft"}}

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

"""Kedro's project settings: configuration loader and hooks."""

from transformer_foundry.config.context_hooks import ContextHooks
from transformer_foundry.config.loader import FoundryConfigLoader
from transformer_foundry.console.log_format import LoggingHooks, install_log_format
from transformer_foundry.console.third_party import silence_third_parties
from transformer_foundry.hooks import (
    DriveCallback,
    KedroHooks,
    PreflightCallback,
    ProgressCallback,
    ReportCallback,
    SummaryCallback,
    VizStatusHooks,
    WandbCallback,
)

silence_third_parties()
install_log_format()

CONFIG_LOADER_CLASS = FoundryConfigLoader

# In any order: each callback says how it nests (Callback.nesting). Each can be removed but ContextHooks, which lets the
# parameters decide what runs. Yours can be added, here or as Kedro hooks of your own beside these.
HOOKS = (
    ContextHooks(),
    LoggingHooks(),
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
    VizStatusHooks(),
)

# Its hooks record an event for every step of a training: VizStatusHooks passes on what it can show.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)

"""Messages of third parties that a user cannot act on, silenced by name at the entry point."""

from __future__ import annotations

import logging
import os
import warnings

__all__ = ["silence_third_parties"]

_ENVIRONMENT = {
    # The tokenizers library warns about every fork once its threads have been used.
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    # The datasets library asks a counter on the network for every local file that it opens.
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "WANDB_SILENT": "true",
}

_WARNINGS = (
    # Our commands keep accepting the older option for users who know it.
    ("Option '--pipeline' is deprecated", DeprecationWarning),
    # Kedro itself calls the older name, and so do we: the newer one is not in all versions of OmegaConf in use.
    (r"register_new_resolver\(\) is deprecated", UserWarning),
)

_LOGGERS = {
    # Reports of the exporter's own steps; what could not be exported is in our manifest.
    "onnxscript": logging.ERROR,
    "onnx_ir": logging.ERROR,
    "torch.onnx": logging.ERROR,
    # One line for each trial that is retried; our own line for each trial says what came of it.
    "optuna.storages": logging.WARNING,
    "optuna.study": logging.WARNING,
    # The cause of a file that cannot be read is in our error.
    "datasets": logging.CRITICAL,
}


def silence_third_parties() -> None:
    """Set the environment, warning filters and logger levels named above; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for message, category in _WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=category)
    for name, level in _LOGGERS.items():
        logging.getLogger(name).setLevel(level)

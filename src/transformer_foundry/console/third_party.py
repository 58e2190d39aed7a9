"""Silence messages of other libraries that a user cannot act on, by name."""

from __future__ import annotations

import logging
import os
import warnings

__all__ = ["silence_third_parties"]

_ENVIRONMENT = {
    # tokenizers warns about every fork after it has used threads.
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    # datasets sends a request to a download counter for every local file that it opens.
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "WANDB_SILENT": "true",
}

_WARNINGS = (
    # Our command accepts the deprecated option.
    ("Option '--pipeline' is deprecated", DeprecationWarning),
    # kedro-viz answers with a class that FastAPI has deprecated.
    ("ORJSONResponse is deprecated", UserWarning),
    # Kedro and we call the old name: supported versions of OmegaConf lack the new one.
    (r"register_new_resolver\(\) is deprecated", UserWarning),
)

_LOGGERS = {
    # The exporter reports its steps; our manifest has the formats that failed.
    "onnxscript": logging.ERROR,
    "onnx_ir": logging.ERROR,
    "torch.onnx": logging.ERROR,
    # One line for each retried trial; our line for each trial has its result.
    "optuna.storages": logging.WARNING,
    "optuna.study": logging.WARNING,
    # Our error has the cause of a file that cannot be read.
    "datasets": logging.CRITICAL,
}


def silence_third_parties() -> None:
    """Set the environment variables, warning filters and log levels above; variables set by the user stay.

    kedro-viz warns of each table that no run has written yet; of those that cannot be read it still warns.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for message, category in _WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=category)
    for name, level in _LOGGERS.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("kedro_viz.models.flowchart.node_metadata").addFilter(_is_no_missing_preview)


def _is_no_missing_preview(record: logging.LogRecord) -> bool:
    causes = [value.__cause__ for value in record.args or () if isinstance(value, Exception)]
    return not any(isinstance(cause, FileNotFoundError) for cause in causes)

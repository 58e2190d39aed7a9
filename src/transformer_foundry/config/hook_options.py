"""Options of the callbacks: the sections ``tracking`` (Weights & Biases) and ``drive``."""

from __future__ import annotations

from dataclasses import dataclass

from transformer_foundry.core.base.errors import ParameterError
from transformer_foundry.core.base.options import Options, check_options, option
from transformer_foundry.core.files.local_path import is_local_path

__all__ = ["DriveOptions", "TrackingOptions"]


@dataclass(frozen=True)
class TrackingOptions(Options):
    """What is logged to Weights & Biases; another tracker has a section of its own.

    Raises:
        ParameterError: If a value has the wrong type or is not one of the choices.
    """

    enabled: bool = option(True, "Whether anything is logged.")
    project: str = option("transformer-foundry", "W&B project.")
    entity: str | None = option(None, "W&B user or team; null is the owner of the key.")
    mode: str = option(
        "auto",
        "auto is online with a key and offline without one; it follows WANDB_MODE if that is set.",
        choices=("auto", "online", "offline", "disabled"),
    )
    tags: list[str] = option([], "W&B tags.")
    log_package: bool = option(False, "Whether the package is uploaded as an artifact.")
    log_checkpoint: bool = option(False, "Whether the best checkpoint is uploaded as an artifact when training ends.")
    alerts: bool = option(True, "Whether W&B sends an alert when a run fails.")

    def __post_init__(self) -> None:
        check_options(self, "tracking")


@dataclass(frozen=True)
class DriveOptions(Options):
    """Where results are copied.

    Raises:
        ParameterError: If a value has the wrong type or lies outside its range.
    """

    folder: str | None = option(
        "auto",
        "Folder for copies of checkpoints, tokens, study and package; auto is MyDrive/transformer-foundry if Google "
        "Drive is mounted, else no folder; null makes no copies.",
    )
    upload_mb_per_s: float = option(
        2.0, "How fast files leave the machine for Drive; checkpoints are copied no faster.", above=0, unit="MB/s"
    )

    def __post_init__(self) -> None:
        check_options(self, "drive")
        if self.folder is not None and not is_local_path(f"{self.folder}/"):
            raise ParameterError(
                f"drive.folder is {self.folder!r}.",
                "Expected a folder of this machine, such as one of a mounted Google Drive or bucket, auto or null.",
                "Mount it, and set drive.folder to where it is mounted.",
            )

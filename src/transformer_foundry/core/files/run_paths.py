"""Where the files of a run are: names inside a run's folder, and the folders of a data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CHECKPOINTS_FOLDER",
    "LOG_FILES",
    "METRICS_FILE",
    "REPORT_FILE",
    "REQUEST_FILE",
    "RUN_MANIFEST_FILE",
    "SAMPLES_FILE",
    "TRACKING_FILE",
    "RunPaths",
    "data_dir_of_package",
    "downloads_folder",
    "registry_folder",
    "runs_folder",
]

CHECKPOINTS_FOLDER = "checkpoints"
_PACKAGES_FOLDER = "07_model_output"
_REGISTRY_FOLDER = "registry"
METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
LOG_FILES = (METRICS_FILE, SAMPLES_FILE)
RUN_MANIFEST_FILE = "manifest.json"
REQUEST_FILE = "request.json"
TRACKING_FILE = "tracking.json"
"""State of the W&B run: ``hooks.tracking.wandb_run`` writes it, model cards link to its ``url``. Another tracker has a
file of its own."""
REPORT_FILE = "report.html"


@dataclass(frozen=True)
class RunPaths:
    """Folders of one run.

    Attributes:
        name: ``run.name``.
        run: Checkpoints, metrics and manifest.
        package: The package of the trained model.
        registry: The model registry, shared by all runs.
        reports: Reports and figures of the run.
        model_input: Tokenizer and tokens, shared by the runs of one preparation.
        tuning: The search, shared by the runs of one preparation.
        shared_reports: Reports and figures of validation, data and search, shared by the runs of one preparation.

    Example:
        >>> RunPaths.under("data", "gpt-best", preparation="gpt").tuning.as_posix()
        'data/06_models/gpt/tuning'
    """

    name: str
    run: Path
    package: Path
    registry: Path
    reports: Path
    model_input: Path
    tuning: Path
    shared_reports: Path

    @classmethod
    def under(cls, data_dir: str | Path, name: str, preparation: str | None = None) -> RunPaths:
        """Return the folders that the catalog in ``conf/base`` gives to a run.

        Args:
            data_dir: Root of everything that is written.
            name: ``run.name``.
            preparation: ``run.preparation``; ``name`` by default.
        """
        root, preparation = Path(data_dir), preparation or name
        return cls(
            name=name,
            run=runs_folder(root) / name,
            package=root / _PACKAGES_FOLDER / name,
            registry=registry_folder(root),
            reports=root / "08_reporting" / name,
            model_input=root / "05_model_input" / preparation,
            tuning=runs_folder(root) / preparation / "tuning",
            shared_reports=root / "08_reporting" / preparation,
        )

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.run / CHECKPOINTS_FOLDER

    @property
    def manifest(self) -> Path:
        """Versions, parameters, seeds and sessions of the run."""
        return self.run / RUN_MANIFEST_FILE

    @property
    def metrics(self) -> Path:
        """Metrics by step, one JSON object a line."""
        return self.run / METRICS_FILE

    @property
    def samples(self) -> Path:
        """Texts that the model wrote during training, one JSON object a line."""
        return self.run / SAMPLES_FILE

    @property
    def report(self) -> Path:
        """The HTML report of the run."""
        return self.reports / REPORT_FILE


def runs_folder(data_dir: str | Path) -> Path:
    """Return the folder of all runs."""
    return Path(data_dir) / "06_models"


def data_dir_of_package(folder: Path) -> Path | None:
    """Return the data folder that a package is in, as a run's package or one of the registry; None if in none.

    Example:
        >>> data_dir_of_package(Path("/tmp/data/07_model_output/gpt")).as_posix()
        '/tmp/data'
    """
    parents = folder.resolve().parents
    for at, name in ((0, _PACKAGES_FOLDER), (1, _REGISTRY_FOLDER)):
        if len(parents) > at + 1 and parents[at].name == name:
            return parents[at + 1]
    return None


def downloads_folder(data_dir: str | Path) -> Path:
    """Return the folder of the model code that was downloaded."""
    return Path(data_dir) / "01_raw" / "downloads"


def registry_folder(data_dir: str | Path) -> Path:
    """Return the folder of the model registry, which all runs share."""
    return Path(data_dir) / _REGISTRY_FOLDER

"""Where the files of a run are: names inside a run's folder, and the folders of a data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CHECKPOINTS_FOLDER",
    "LOG_FILES",
    "METRICS_FILE",
    "REPORT_FILE",
    "RUN_MANIFEST_FILE",
    "SAMPLES_FILE",
    "TRACKING_FILE",
    "RunPaths",
    "registry_folder",
    "runs_folder",
]

CHECKPOINTS_FOLDER = "checkpoints"
METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
LOG_FILES = (METRICS_FILE, SAMPLES_FILE)
RUN_MANIFEST_FILE = "manifest.json"
TRACKING_FILE = "tracking.json"
REPORT_FILE = "report.html"


@dataclass(frozen=True)
class RunPaths:
    """Folders of one run.

    Attributes:
        name: ``run.name``.
        run: Checkpoints, metrics and manifest.
        package: The package of the trained model.
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
    reports: Path
    model_input: Path
    tuning: Path
    shared_reports: Path

    @classmethod
    def under(cls, data_dir: str | Path, name: str, preparation: str | None = None) -> RunPaths:
        """Return the folders that ``conf/base/catalog.yml`` gives to a run.

        Args:
            data_dir: Root of everything that is written.
            name: ``run.name``.
            preparation: ``run.preparation``; ``name`` by default.
        """
        root, preparation = Path(data_dir), preparation or name
        return cls(
            name=name,
            run=runs_folder(root) / name,
            package=root / "07_model_output" / name,
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


def registry_folder(data_dir: str | Path) -> Path:
    """Return the folder of the model registry, which all runs share."""
    return Path(data_dir) / "registry"

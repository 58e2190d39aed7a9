"""Kedro datasets: where things are kept, and how nothing half-written looks finished."""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "ComparisonDataset": "comparison",
        "HubPackageDataset": "hub_package",
        "ModelExportDataset": "model_export",
        "OptionalJSONDataset": "optional_json",
        "PackageDataset": "package",
        "RegistryDataset": "registry",
        "StudyDataset": "study",
        "TokenSplitsDataset": "token_splits",
        "TokenizerDataset": "tokenizer",
        "TrainingRunDataset": "training_run",
    },
)

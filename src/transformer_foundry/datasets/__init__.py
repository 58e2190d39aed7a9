"""Kedro datasets, which keep results: nothing half written looks finished. Text is read in ``core.data``, not here."""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.datasets.atomic_json import AtomicJSONDataset as AtomicJSONDataset
    from transformer_foundry.datasets.atomic_json import OptionalJSONDataset as OptionalJSONDataset
    from transformer_foundry.datasets.comparison import ComparisonDataset as ComparisonDataset
    from transformer_foundry.datasets.corpus import CorpusDataset as CorpusDataset
    from transformer_foundry.datasets.figure import FigureDataset as FigureDataset
    from transformer_foundry.datasets.model_export import ModelExportDataset as ModelExportDataset
    from transformer_foundry.datasets.plotly_figure import PlotlyFigureDataset as PlotlyFigureDataset
    from transformer_foundry.datasets.publishing.hub_package import HubPackageDataset as HubPackageDataset
    from transformer_foundry.datasets.publishing.package import PackageDataset as PackageDataset
    from transformer_foundry.datasets.publishing.registry import RegistryDataset as RegistryDataset
    from transformer_foundry.datasets.study import StudyDataset as StudyDataset
    from transformer_foundry.datasets.token_splits import TokenSplitsDataset as TokenSplitsDataset
    from transformer_foundry.datasets.tokenizer import TokenizerDataset as TokenizerDataset
    from transformer_foundry.datasets.training_run import TrainingRunDataset as TrainingRunDataset
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

"""Read an exported model (``model.py`` and ``config.json``), build it, and give it one forward signature.

``load_model`` does it all. The steps, in order: ``read_export`` reads a folder, a zip file or a gist; ``approve`` lets
its code run; ``build_model`` builds the module; ``infer_contract`` finds the meaning of each argument and output;
``Adapter`` calls every model in the same way.
"""

from typing import TYPE_CHECKING

from transformer_foundry.core.base.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from transformer_foundry.core.models.adapter import Adapter as Adapter
    from transformer_foundry.core.models.adapter import adapt as adapt
    from transformer_foundry.core.models.adapter import load_model as load_model
    from transformer_foundry.core.models.building.build import ConstructorCall as ConstructorCall
    from transformer_foundry.core.models.building.build import build_model as build_model
    from transformer_foundry.core.models.building.build import find_constructor_call as find_constructor_call
    from transformer_foundry.core.models.contract import Contract as Contract
    from transformer_foundry.core.models.inference.infer_contract import infer_contract as infer_contract
    from transformer_foundry.core.models.losses import LossParts as LossParts
    from transformer_foundry.core.models.losses import TaskLoss as TaskLoss
    from transformer_foundry.core.models.losses import task_loss_for as task_loss_for
    from transformer_foundry.core.models.options import ModelOptions as ModelOptions
    from transformer_foundry.core.models.sandbox.approve import approve as approve
    from transformer_foundry.core.models.source.read import ModelSource as ModelSource
    from transformer_foundry.core.models.source.read import read_export as read_export
    from transformer_foundry.core.models.source.static_scan import scan_code as scan_code
    from transformer_foundry.core.models.source.trust import describe_export as describe_export
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

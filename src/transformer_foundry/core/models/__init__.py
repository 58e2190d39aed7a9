"""From an exported model (``model.py`` and ``config.json``) to a module that is called in one way.

``read_export`` reads a folder, a zip or a gist; ``admit`` allows its code to run; ``build_model`` builds what it
describes; ``find_contract`` says what each argument and each output means; ``Adapter`` gives every model the same call;
``load_model`` does it all.
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
    from transformer_foundry.core.models.inference.infer_contract import Contract as Contract
    from transformer_foundry.core.models.inference.infer_contract import find_contract as find_contract
    from transformer_foundry.core.models.losses import LossParts as LossParts
    from transformer_foundry.core.models.losses import TaskLoss as TaskLoss
    from transformer_foundry.core.models.losses import task_loss_for as task_loss_for
    from transformer_foundry.core.models.options import ModelOptions as ModelOptions
    from transformer_foundry.core.models.sandbox.admit import admit as admit
    from transformer_foundry.core.models.source.read import ModelSource as ModelSource
    from transformer_foundry.core.models.source.read import read_export as read_export
    from transformer_foundry.core.models.source.static_scan import screen_code as screen_code
    from transformer_foundry.core.models.source.trust import describe_export as describe_export
else:
    __getattr__, __dir__, __all__ = lazy_exports(__name__)

"""From an exported model (``model.py`` and ``config.json``) to a module that is called in one way.

``read_export`` reads a folder, a zip or a gist; ``admit`` allows its code to run; ``build_model`` builds what it
describes; ``find_contract`` says what each argument and each output means; ``Adapter`` gives every model the same call;
``load_model`` does it all.
"""

from transformer_foundry.core.base.lazy_imports import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    {
        "Adapter": "adapter",
        "Contract": "inference.infer_contract",
        "Export": "source.read",
        "LossParts": "losses",
        "ModelOptions": "options",
        "Objective": "losses",
        "Recipe": "building.build",
        "adapt": "adapter",
        "admit": "sandbox.admit",
        "build_model": "building.build",
        "describe_export": "source.trust",
        "find_contract": "inference.infer_contract",
        "find_recipe": "building.build",
        "load_model": "adapter",
        "objective_for": "losses",
        "read_export": "source.read",
        "screen_code": "source.static_scan",
    },
)

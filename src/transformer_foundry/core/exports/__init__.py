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
        "Contract": "contract",
        "Export": "fetch",
        "ModelOptions": "options",
        "Recipe": "build",
        "adapt": "adapter",
        "admit": "trust",
        "build_model": "build",
        "describe_export": "trust",
        "find_contract": "contract",
        "find_recipe": "build",
        "load_model": "adapter",
        "read_export": "fetch",
        "screen_code": "screening",
    },
)

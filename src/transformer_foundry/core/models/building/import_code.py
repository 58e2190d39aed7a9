"""Import ``model.py`` of an export as a module of its own."""

from __future__ import annotations

import linecache
import sys
from types import ModuleType

from transformer_foundry.core.base.errors import ModelError
from transformer_foundry.core.models.model_errors import running_model_code
from transformer_foundry.core.models.source.read import ModelSource
from transformer_foundry.core.models.source.syntax import parse_model_code
from transformer_foundry.core.models.source.trust import require_trusted
from transformer_foundry.core.system.random_state import isolated_random

__all__ = ["import_model_code"]


def import_model_code(export: ModelSource) -> ModuleType:
    """Run ``model.py`` and return it as a module.

    The text that was read and hashed is what runs, whatever the file says by now, and no ``__pycache__`` is left in
    the folder of the export. The module is registered in ``sys.modules``: dataclasses and pickling look there.

    Raises:
        ModelError: If it is not trusted, does not parse, or raises while it is imported, with the line.
    """
    require_trusted(export)
    parse_model_code(export.model_code)
    file_name = str(export.model_file)
    module = ModuleType(f"transformer_foundry_export_{export.identity[:16]}")
    module.__file__ = file_name
    sys.modules[module.__name__] = module
    linecache.checkcache(file_name)
    try:
        # Code that seeds or draws when it is imported leaves the global random state alone.
        with isolated_random(), running_model_code("model.py to be imported without an error", file_name):
            # Without dont_inherit the code would get this module's own __future__ imports.
            exec(compile(export.model_code, file_name, "exec", dont_inherit=True), module.__dict__)
    except ModelError:
        sys.modules.pop(module.__name__, None)
        raise
    return module

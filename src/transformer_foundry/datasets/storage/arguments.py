"""Let datasets inherit their constructor."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["InheritedArguments"]


class InheritedArguments:
    """Base of datasets whose subclasses need no constructor of their own; it comes first among the bases.

    Kedro wraps the constructor of each class to note its arguments, from which ``DataCatalog.to_config`` makes an
    entry. Of an inherited one it would wrap the wrapper, and note only ``kwargs``.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "__init__" not in vars(cls):
            cls.__init__ = inspect.unwrap(cls.__init__)  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)

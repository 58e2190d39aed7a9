"""Put first on PYTHONPATH, it makes the process one of Colab's: what Colab lacks cannot be imported."""

import re
import sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path

# The kernel of this environment is newer than Colab's and needs some that Colab's does not.
KERNEL = {"comm", "nest-asyncio2", "nest_asyncio2", "stack-data", "executing", "asttokens", "pure-eval", "jedi"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _blocked_modules() -> frozenset[str]:
    lists = Path(__file__).parents[1].glob("python-*.txt")
    present = set.intersection(*({_normal(line.split("==")[0]) for line in path.open()} for path in lists))
    present |= {_normal(name) for name in KERNEL}
    return frozenset(
        module
        for module, names in packages_distributions().items()
        if not {_normal(name) for name in names} & present and module != "transformer_foundry"
    )


class _ColabFinder(PathFinder):
    """Finds what Python's own finder does, but for what Colab lacks."""

    blocked = _blocked_modules()

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in cls.blocked else super().find_spec(fullname, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = _ColabFinder

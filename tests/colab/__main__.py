"""Print the versions for an environment like Colab's: ``python -m tests.colab [3.12|3.13] > constraints.txt``.

Left out are the libraries of NVIDIA, which come with the build of torch that the package index has, and setuptools,
whose version on Colab that build refuses.
"""

from __future__ import annotations

import sys

from tests.colab import PYTHONS, colab_packages

LEFT_OUT = ("nvidia-", "cuda-", "cupy", "triton", "setuptools")


def main() -> None:
    python = sys.argv[1] if len(sys.argv) > 1 else PYTHONS[-1]
    for name, version in colab_packages(python).items():
        if not name.startswith(LEFT_OUT):
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()

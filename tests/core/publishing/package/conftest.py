"""One server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.publishing.serving import copied_by_docker, forget_packages, running_server, served_package


@pytest.fixture(scope="package", autouse=True)
def _packages_are_deleted() -> Iterator[None]:
    yield
    forget_packages()


@pytest.fixture(scope="package")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server of the causal model that has only the files that the Dockerfile copies."""
    folder = copied_by_docker(served_package("causal_lm")[1].folder, tmp_path_factory.mktemp("docker") / "model")
    limits = {"READ_SECONDS": "2", "MAX_BODY_BYTES": "5000", "MAX_CHARACTERS": "2000", "MAX_NEW_TOKENS": "64"}
    with running_server(folder, **limits) as number:
        yield number

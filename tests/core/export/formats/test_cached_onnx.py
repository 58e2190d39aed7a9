"""A cache for generation: a file is kept only if it writes the tokens of the plain file, and the programs use it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.core.publishing.answers import answering_package
from tests.core.publishing.serving import module_of
from transformer_foundry.core.export.formats.cached_onnx import CACHED_FILE, _prove
from transformer_foundry.core.publishing import Package

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("cached")
    sizes = {"d_model": 32, "num_layers": 2, "dim_feedforward": 64, "max_seq_len": 40}
    return answering_package("gpt", folder, **sizes)


def test_generation_with_the_cache_is_that_without_it_also_beyond_the_window(package: Package) -> None:
    cache = package.manifest["native"]["cache"]
    assert (cache["file"], cache["past"]) == (CACHED_FILE, [4, 1, 4, 0, 8])
    assert cache["tokens"] >= 400
    assert cache["max_abs_error"] <= cache["tolerance"]
    assert CACHED_FILE in package.manifest["files"]
    program = module_of(package.folder, "inference")
    cached, plain = (program.Model(package.folder, file, threads=1) for file in (None, "model.onnx"))
    assert (cached.file, plain.file) == (CACHED_FILE, "model.onnx")
    for text in ("The value", "x", "a list of names " * 20, "na\u00efve \u4f60\u597d"):
        settings = {"max_new_tokens": 60, "temperature": 0}
        assert cached.generate(text, **settings).ids == plain.generate(text, **settings).ids
        settings = {"max_new_tokens": 60, "temperature": 1.0, "seed": 3}
        assert cached.generate(text, **settings).ids == plain.generate(text, **settings).ids


def test_a_token_after_the_first_is_computed_alone(package: Package) -> None:
    model = module_of(package.folder, "inference").Model(package.folder, threads=1)
    sizes: list[int] = []

    class Counted:
        def run(self, names: Any, feeds: dict[str, np.ndarray]) -> Any:
            sizes.append(feeds["input_ids"].size)
            return session.run(names, feeds)

    session, model._session = model._session, Counted()
    model.generate("The value", max_new_tokens=6, temperature=0)
    assert sizes[0] > 1
    assert sizes[1:] == [1] * (len(sizes) - 1)
    assert len(sizes) > 3


def test_a_file_that_differs_is_not_proved(package: Package, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(package.folder / CACHED_FILE)
    weight = next(item for item in model.graph.initializer if len(item.dims) == 2 and min(item.dims) >= 32)
    changed = numpy_helper.to_array(weight).copy()
    changed[:, 0] += 1
    weight.CopyFrom(numpy_helper.from_array(changed.astype(np.float32), weight.name))
    onnx.save(model, tmp_path / CACHED_FILE)
    shutil.copy(package.folder / "model.onnx", tmp_path)
    cache = package.manifest["native"]["cache"]
    given = (tmp_path / "model.onnx", cache["past"], 512, 40, cache["tolerance"])
    assert "logits differ" in _prove(tmp_path / CACHED_FILE, *given)["reason"]
    assert "reason" not in _prove(package.folder / CACHED_FILE, *given)

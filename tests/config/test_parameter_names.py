"""Misspelled names are refused with the nearest valid one; what a user has added is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import pipelines
from kedro.pipeline import node, pipeline

from transformer_foundry.config.parameter_names import check_names, nearest_names
from transformer_foundry.config.parameters import SECTIONS
from transformer_foundry.core.base.errors import ParameterError

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONF, tmp_path / "conf"))


def files_of(conf: Path) -> Callable[[], dict[str, str]]:
    return lambda: {str(path): path.read_text() for path in conf.rglob("*.*") if path.suffix in (".yml", ".json")}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("max_step", "training.max_steps"),
        ("learning_rte", "training.learning_rate"),
        ("data_source", "data.source"),
        ("model.max_steps", "training.max_steps"),
        ("training.learning_rat", "training.learning_rate"),
        ("training.data_source", "data.source"),
        ("hub_repo", "deployment.hub_repo"),
        ("datadir", "data_dir"),
        ("pre_set", "preset"),
        ("tokenizer.kind", "data.tokenizer"),
        ("training.warmup_stable_decay", "training.lr_scheduler_type"),
    ],
)
def test_the_nearest_name_is_found_in_all_sections(name: str, nearest: str) -> None:
    assert nearest in nearest_names(name)


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_with_one_letter_missing_or_swapped_is_recognized(name: str) -> None:
    for position in range(1, len(name) - 1):
        missing = name[:position] + name[position + 1 :]
        swapped = name[:position] + name[position + 1] + name[position] + name[position + 2 :]
        assert {name} & set(nearest_names(missing, is_section=True))
        assert {name} & set(nearest_names(swapped, is_section=True))


def test_a_misspelled_section_is_refused(conf: Path) -> None:
    with pytest.raises(ParameterError, match="Did you mean 'training'"):
        check_names({"trainig": {"max_steps": 3}}, given={}, files=files_of(conf))


def test_lists_of_known_names_are_short(conf: Path) -> None:
    with pytest.raises(ParameterError) as caught:
        check_names({"training": {"noise": 3}}, given={}, files=files_of(conf))
    assert len(str(caught.value)) < 500
    assert "and 33 more" in str(caught.value) or "more." in str(caught.value)


def test_a_section_of_the_user_is_accepted(conf: Path) -> None:
    check_names({"cleaning": {"min_words": 3}, "_template": 1}, given={}, files=files_of(conf))


@pytest.mark.parametrize("name", ["tokenizer", "tokens", "model_export", "metrics"])
def test_what_is_given_is_not_read_because_an_entry_of_the_catalog_has_its_name(conf: Path, name: str) -> None:
    (conf / "base" / "catalog_mine.yml").write_text(f"{name}:\n  type: MemoryDataset\n")
    values = {name: {"kind": "word"}}
    with pytest.raises(ParameterError, match=f"Unknown parameter {name}"):
        check_names(values, given=values, files=files_of(conf))


def test_a_section_that_is_the_name_of_a_parameter_leads_to_it(conf: Path) -> None:
    with pytest.raises(ParameterError, match=r"Did you mean 'data\.tokenizer'"):
        check_names({"tokenizer": {"kind": "word"}}, given={}, files=files_of(conf))


def test_a_section_that_a_file_of_conf_reads_is_accepted(conf: Path) -> None:
    (conf / "base" / "catalog_mine.yml").write_text("words:\n  type: MemoryDataset\n  n: ${parameters:cleaning.n}\n")
    check_names({"cleaning": {"n": 3}, "_template": 1}, given={"cleaning": {"n": 3}}, files=files_of(conf))


def test_any_section_is_accepted_if_a_node_reads_all_parameters(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    added = pipeline([node(len, "parameters", "words", name="count")])
    monkeypatch.setattr(pipelines, "values", lambda: [added], raising=False)
    check_names({"cleaning": {"n": 3}}, given={"cleaning": {"n": 3}}, files=files_of(conf))


def test_a_section_that_a_node_reads_is_accepted_though_it_looks_like_ours(
    conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = pipeline([node(len, "params:tuningg.words", "words", name="count")])
    monkeypatch.setattr(pipelines, "values", lambda: [added], raising=False)
    check_names({"tuningg": {"words": "ab"}}, given={"tuningg": {}}, files=files_of(conf))


@pytest.mark.parametrize(("text", "is_read"), [("", False), ("x: ${runtime_params:date}\n", True), ("date: 1\n", True)])
def test_what_is_given_for_one_run_must_be_read_somewhere(conf: Path, text: str, is_read: bool) -> None:
    (conf / "base" / "parameters_mine.yml").write_text(text)
    given: dict[str, Any] = {"date": "2026-01-01"}
    if is_read:
        check_names({"date": 1}, given=given, files=files_of(conf))
    else:
        with pytest.raises(ParameterError, match="Unknown parameter date"):
            check_names({"date": 1}, given=given, files=files_of(conf))


@pytest.mark.parametrize("name", ["seed", "globals", "mine"])
def test_what_other_resolvers_read_is_no_parameter(conf: Path, name: str) -> None:
    (conf / "base" / "parameters_mine.yml").write_text("x: ${globals:seed,1}\ny: ${oc.env:mine,1}\nz: ${data.mine}\n")
    with pytest.raises(ParameterError, match=f"Unknown parameter {name}"):
        check_names({name: 5}, given={name: 5}, files=files_of(conf))


def test_a_name_of_a_file_with_globals_leads_to_it(conf: Path) -> None:
    for values in ({"seed": 5}, {"globals": {"seed": 5}}):
        with pytest.raises(ParameterError, match=r"training\.seed") as caught:
            check_names(values, given=values, files=files_of(conf))
        assert "conf/ENV/globals.yml" in str(caught.value)


def test_a_seed_in_a_file_of_parameters_is_refused_too(conf: Path) -> None:
    (conf / "local" / "parameters_mine.yml").write_text("seed: 5\n")
    with pytest.raises(ParameterError, match=r"data\.seed"):
        check_names({"seed": 5}, given={}, files=files_of(conf))

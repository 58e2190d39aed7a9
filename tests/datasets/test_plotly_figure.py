import json
from pathlib import Path

from kedro.io.core import Version

from transformer_foundry.core.base.plots import new_figure
from transformer_foundry.datasets import PlotlyFigureDataset


def test_a_figure_in_which_nothing_is_drawn_exists_and_is_none_not_an_earlier_one(tmp_path: Path) -> None:
    path, figure = tmp_path / "reports" / "confusion.json", new_figure("Confusion")
    dataset = PlotlyFigureDataset(filepath=str(path))
    assert (dataset.exists(), dataset.load(), dataset.preview()) == (False, None, None)
    dataset.save(figure)
    assert (dataset.exists(), dataset.load(), dataset.preview()) == (True, None, None)

    figure.add_bar(x=["joy"], y=[1])
    dataset.save(figure)
    assert dataset.load() == figure
    assert dataset.preview()["data"][0]["type"] == "bar"

    dataset.save(new_figure("Confusion"))
    assert (json.loads(path.read_text()), dataset.exists(), dataset.load()) == (None, True, None)


def test_the_newest_version_counts_if_nothing_is_drawn_in_it(tmp_path: Path) -> None:
    drawn, path = new_figure("Confusion").add_bar(x=["joy"], y=[1]), str(tmp_path / "confusion.json")
    for save, figure in (("2026-01-01", drawn), ("2026-01-02", new_figure("Confusion"))):
        PlotlyFigureDataset(filepath=path, version=Version(None, save)).save(figure)
    assert PlotlyFigureDataset(filepath=path, version=Version(None, None)).load() is None

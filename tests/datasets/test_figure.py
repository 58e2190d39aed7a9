from pathlib import Path

from matplotlib.figure import Figure

from transformer_foundry.datasets import FigureDataset


def drawn(path: Path) -> FigureDataset:
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().plot([1, 2])
    dataset = FigureDataset(filepath=str(path))
    dataset.save(figure)
    return dataset


def test_a_loaded_figure_can_be_saved_as_it_is(tmp_path: Path) -> None:
    content = drawn(tmp_path / "one.png").load()
    other = FigureDataset(filepath=str(tmp_path / "other.png"))
    other.save(content)
    assert (tmp_path / "other.png").read_bytes() == (tmp_path / "one.png").read_bytes() == other.load()


def test_a_missing_or_incomplete_figure_is_none(tmp_path: Path) -> None:
    assert FigureDataset(filepath=str(tmp_path / "none.png")).load() is None
    dataset = drawn(tmp_path / "one.png")
    (tmp_path / "one.png").write_bytes((tmp_path / "one.png").read_bytes()[:-20])
    assert dataset.load() is None


def test_a_figure_is_kept_behind_fsspec_too() -> None:
    figure = Figure(figsize=(1, 1))
    dataset = FigureDataset(filepath="memory://figures/one.png", save_args={"dpi": 30})
    dataset.save(figure)
    assert dataset.exists()
    assert str(dataset.preview())
    assert (dataset.load() or b"").startswith(b"\x89PNG")

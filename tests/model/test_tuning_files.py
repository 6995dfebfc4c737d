"""The files of a fine-tuning: what is best, when it is finished, and that damage begins it anew."""

from pathlib import Path

import numpy as np
import pytest

from dermoscopy.model.tuning_files import Tuning
from tests.support.params_file import PARAMS

FINETUNE = PARAMS.finetune.model_copy(update={"epochs": 5, "patience": 2})


def tuned(folder: Path, losses: list[float]) -> Tuning:
    """Return a fine-tuning whose epochs, the frozen backbone first, had these validation losses."""
    tuning = Tuning(folder, FINETUNE)
    folder.mkdir(exist_ok=True)
    tuning.head.write_bytes(b"head")
    for number, loss in enumerate(losses):
        content = f"weights {number}"
        tuning.save(lambda path, text=content: path.write_text(text), 100, {"val_loss": loss})  # type: ignore[misc]
    return tuning


def test_the_best_and_the_last_epoch_are_kept_and_found_again(tmp_path: Path) -> None:
    tuned(tmp_path / "work", [1.0, 0.8, 0.9])
    again = Tuning(tmp_path / "work", FINETUNE)
    assert (again.done, again.best, again.finished) == (2, 1, False)
    assert sorted(path.name for path in again.folder.glob("epoch_*")) == ["epoch_1.weights.h5", "epoch_2.weights.h5"]
    assert again.weights(1).read_text() == "weights 1"


@pytest.mark.parametrize(
    ("losses", "best"),
    [([1.0, np.nan, 0.5], 2), ([1.0, np.nan, np.nan], 0), ([1.0, 1.0, 1.0], 0), ([1.0, np.inf, 2.0], 0)],
)
def test_an_epoch_that_diverged_is_never_the_best(tmp_path: Path, losses: list[float], best: int) -> None:
    tuned(tmp_path / "work", losses)
    assert Tuning(tmp_path / "work", FINETUNE).best == best


@pytest.mark.parametrize(
    ("losses", "finished"),
    [
        ([], False),
        ([1.0], False),
        ([1, 2, 1.5], True),
        ([1, 0.9, 1.5], False),
        ([6, 5, 4, 3, 2], False),
        ([6, 5, 4, 3, 2, 1], True),
    ],
)
def test_it_is_finished_after_all_epochs_or_when_patience_ends(
    tmp_path: Path, losses: list[float], finished: bool
) -> None:
    assert tuned(tmp_path / "work", losses).finished == finished


@pytest.mark.parametrize("name", ["progress.json", "head.npz", "epoch_1.weights.h5", "epoch_2.weights.h5"])
@pytest.mark.parametrize("harm", ["gone", "cut", "other"])
def test_where_a_file_is_damaged_it_begins_anew(tmp_path: Path, name: str, harm: str) -> None:
    path = tuned(tmp_path / "work", [1.0, 0.8, 0.9]).folder / name
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(content[:-2] if harm == "cut" else b"{}")
    again = Tuning(tmp_path / "work", FINETUNE)
    assert again.history == []
    assert not again.finished
    assert not again.folder.exists()

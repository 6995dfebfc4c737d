"""Made-up inputs hold what the contracts promise."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.testing import assert_array_equal

from benchmarks.made_up import learnable_features, write_images
from dermoscopy.data.images import read_image
from tests.support.feature_folder import write_feature_folder


def test_every_image_has_bytes_of_its_own_and_can_be_read(tmp_path: Path) -> None:
    labels = pd.DataFrame({"image_id": [f"ISIC_{number}" for number in range(50)], "dx": "nv"})
    write_images(tmp_path, labels, width=32, height=32, drawn=7)
    files = sorted((tmp_path / "images").iterdir())
    assert len({file.read_bytes() for file in files}) == 50
    assert {read_image(file).shape for file in files} == {(32, 32, 3)}


def test_views_of_an_image_resemble_each_other_more_than_images_of_a_class(tmp_path: Path) -> None:
    blocks = learnable_features(pd.Series(["nv", "mel"] * 100), dim=500, signal=0.15)
    first, second = (np.concatenate(list(blocks(view))) for view in (0, 1))
    of_views = [np.corrcoef(*pair)[0, 1] for pair in zip(first, second, strict=True)]
    of_class = np.corrcoef(first[::2])[np.triu_indices(100, k=1)]
    assert 0.7 < np.mean(of_views) < 0.8
    assert abs(np.mean(of_class)) < 0.2
    assert_array_equal(first, np.concatenate(list(blocks(0))))
    reader = write_feature_folder(tmp_path / "features", np.stack([first, second], axis=1))
    assert_array_equal(reader.view(1, np.arange(200)), second)

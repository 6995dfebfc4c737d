"""Small backbones as the backbone stage makes them, from real networks."""

from pathlib import Path
from typing import Any

import pytest

from stages.backbone import write_backbone
from stages.common.backbones import build_backbone

SIZE = 32


@pytest.fixture(scope="session")
def backbones(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of three backbones: one, the same network with other weights, and another network."""
    folders = {}
    for name, network, seed in [
        ("first", "MobileNetV2", 1),
        ("weights", "MobileNetV2", 2),
        ("network", "MobileNet", 1),
    ]:
        folder = tmp_path_factory.mktemp(name)
        keras.utils.set_random_seed(seed)
        model = build_backbone(keras, network, None, SIZE)
        write_backbone(model, network, folder)
        folders[name] = folder
    return folders

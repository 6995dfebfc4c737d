"""Small backbones as the backbone stage makes them, from real networks."""

from pathlib import Path
from typing import Any

import pytest

from stages.backbone import convert_to_openvino
from stages.common.backbones import BackboneInfo, build_backbone, fingerprint, save_backbone

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
        save_backbone(model, folder)
        convert_to_openvino(model, folder / "backbone.xml")
        made = fingerprint(model, network, SIZE)
        info = BackboneInfo(name=network, image_size=SIZE, dim=model.output_shape[-1], fingerprint=made)
        (folder / "backbone.json").write_text(info.model_dump_json(), encoding="utf-8")
        folders[name] = folder
    return folders

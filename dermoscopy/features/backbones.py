"""models/backbone/: a frozen backbone as files, for Keras and for OpenVINO, and what describes them."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.files import user_path
from dermoscopy.runtime.paths import FINETUNED

KERAS_FILES = ("architecture.json", "backbone.weights.h5")
OPENVINO_FILES = ("backbone.xml", "backbone.bin")


class BackboneInfo(BaseModel):
    """models/backbone/backbone.json: what the files beside it are.

    `image_size` is that of the params; of several sizes, the last is the largest. `fingerprint` is a SHA-256 over the
    name, the image size, the preprocessing and the weights: equal fingerprints mean equal features. `dim` is how many
    numbers the features of an image are. `files` holds the SHA-256 of each file beside it: DVC does not verify its
    cache, so a damaged file is restored silently.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    image_size: int | list[int]
    dim: int
    fingerprint: str
    files: dict[str, str]

    @property
    def side(self) -> int:
        """How many pixels high and wide the images are that the backbone takes."""
        return self.image_size if isinstance(self.image_size, int) else self.image_size[-1]

    @property
    def sizes_in_words(self) -> str:
        """The sizes at which images are run: 224 x 224, or 224 x 224 and 448 x 448."""
        sizes = [self.image_size] if isinstance(self.image_size, int) else self.image_size
        return " and ".join(f"{size} x {size}" for size in sizes)


def find_weights(weights: str) -> str | None:
    """Return what keras.applications takes for backbone.weights: "imagenet", None (random), or an absolute path."""
    if weights in ("imagenet", "random"):
        return "imagenet" if weights == "imagenet" else None
    path = user_path(weights)
    if not path.is_file():
        raise BackboneError(f"backbone.weights must be imagenet, random or a file, and {path} is not a file")
    return str(path)


def read_backbone_info(folder: Path) -> BackboneInfo:
    """Return the description of the backbone in a folder; a BackboneError if there is none."""
    try:
        return BackboneInfo.model_validate_json((folder / "backbone.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(f"{folder} holds no backbone ({error}): run dvc repro {stage_of(folder)}") from None


def stage_of(folder: Path) -> str:
    """Return the stage that writes a folder of a backbone."""
    return "finetune" if folder.name == FINETUNED.name else "backbone"


def hash_file(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 (hexadecimal) of each file in a folder, by name; not of folders in it."""
    return {path.name: hash_file(path) for path in sorted(folder.iterdir()) if path.is_file()}


def require_intact(folder: Path, names: Collection[str]) -> None:
    """Raise a BackboneError unless those of these files that backbone.json names are as the stage wrote them.

    Args:
        folder: of the backbone.
        names: KERAS_FILES or OPENVINO_FILES: whoever reads some need not wait until all are hashed.
    """
    info = read_backbone_info(folder)
    for name in sorted(info.files.keys() & set(names)):
        if not (folder / name).is_file() or hash_file(folder / name) != info.files[name]:
            raise BackboneError(
                f"{folder / name} is damaged or missing: run dvc repro {stage_of(folder)}, or, where DVC sees no "
                f"change, dvc repro --force --single-item {stage_of(folder)}"
            )

"""models/finetuned/: a backbone whose top layers were trained, with what it was trained on; or that there is none.

`finetuning.json` is always there. Where training improved on the frozen backbone, the files of a backbone are beside it
(see dermoscopy/features/backbones.py), and `tuned_on.csv`, the images that it was trained on.
"""

from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict

from dermoscopy.data.tables import read_table
from dermoscopy.runtime.errors import BackboneError, DataError
from dermoscopy.runtime.paths import BACKBONE, FINETUNED


class FinetuningInfo(BaseModel):
    """finetuning.json.

    Attributes:
        epochs: how many were run; 0 where nothing was done.
        kept: the one whose weights were kept, of the lowest validation loss; 0 is the frozen backbone.
        cut: the layer below those that were trained; empty where all were.
        layers: how many were trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = 0
    kept: int = 0
    cut: str = ""
    layers: int = 0


def read_finetuning(project: Path = Path()) -> FinetuningInfo:
    """Return what was done; nothing, where the run of the project was made before there was such a stage.

    Raises:
        BackboneError: the file cannot be read.
    """
    path = project / FINETUNED / "finetuning.json"
    try:
        return FinetuningInfo.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return FinetuningInfo()
    except (OSError, ValueError) as error:
        raise BackboneError(f"{path} cannot be read ({error}): run dvc repro finetune") from None


def write_finetuning(info: FinetuningInfo, folder: Path = FINETUNED) -> None:
    """Write finetuning.json into a folder."""
    (folder / "finetuning.json").write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")


def final_backbone(project: Path = Path()) -> Path:
    """Return the folder of the backbone that makes the features: the fine-tuned one, where there is one."""
    return project / (FINETUNED if read_finetuning(project).kept else BACKBONE)


def read_tuned_on(project: Path = Path()) -> pd.DataFrame:
    """Return `image_id, lesion_id, group_id, sha256, part` of what decided the weights: train and validation images."""
    columns = ["image_id", "lesion_id", "group_id", "sha256", "part"]
    if not read_finetuning(project).kept:
        return pd.DataFrame(columns=columns, dtype=str)
    return read_table(project / FINETUNED / "tuned_on.csv", *columns)[columns]


def require_not_tuned_on(images: pd.DataFrame, remedy: str, project: Path = Path()) -> None:
    """Raise a DataError if the backbone was fine-tuned on an image that is to be held out, which would flatter it.

    Args:
        images: `image_id, sha256, part` of all. An image of validation may have been one when the backbone was tuned.
        remedy: what to do instead.
        project: the folder that has the backbone.
    """
    tuned_on = read_tuned_on(project)
    learnt = tuned_on[tuned_on["part"] == "train"]
    held_out = images[~images["part"].isin(["train", "validation"])]
    watched = images[images["part"] == "validation"]
    for asked, known in ((held_out, tuned_on), (watched, learnt)):
        seen = asked["image_id"].isin(known["image_id"]) | asked["sha256"].isin(known["sha256"])
        if seen.any():
            raise DataError(
                f"the backbone was fine-tuned on {int(seen.sum())} of {len(asked)} images that would be held out, such "
                f"as {asked['image_id'][seen].iloc[0]}: {remedy}"
            )

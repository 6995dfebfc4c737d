"""What is known of a patient and a lesion's place, as numbers beside the features of an image."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from dermoscopy.features.store import FeatureReader
from dermoscopy.runtime.errors import DataError

Variable = Literal["age", "sex", "localization"]
UNKNOWN = ("", "unknown")
FEW = 10  # training images; what fewer have is learnt from nothing, and counts as unknown


class Age(BaseModel):
    """Mean and standard deviation in years; whether there is a number that says that it is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    deviation: float
    unknown: bool


class Category(BaseModel):
    """The known values, which have a number, and their shares of the training images of which the value is known.

    What is unknown has a number of its own, or where too few training images were unknown the shares.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    known: list[str]
    shares: list[float]
    unknown: bool


class ClinicalEncoder(BaseModel):
    """How clinical variables become numbers, as it was learnt from the training images.

    Age is standardised, with the mean where it is unknown; of sex and localization each value that FEW training images
    or more have has a number, 0 or 1. Whatever is rarer, new or unknown counts as unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    age: Age | None = None
    sex: Category | None = None
    localization: Category | None = None

    @property
    def names(self) -> list[str]:
        """What each number stands for, such as `localization: face`."""
        names = ["age", *["age: unknown"] * self.age.unknown] if self.age else []
        for variable, category in self._categories.items():
            names += [f"{variable}: {value}" for value in [*category.known, *["unknown"] * category.unknown]]
        return names

    @property
    def _categories(self) -> dict[str, Category]:
        found = {"sex": self.sex, "localization": self.localization}
        return {variable: category for variable, category in found.items() if category is not None}

    def unknown(self) -> NDArray[np.float32]:
        """Return the numbers, (len(names),), of an image of which nothing is known."""
        return np.asarray(self.encode(pd.DataFrame(index=[0]))[0], np.float32)

    def encode(self, images: pd.DataFrame) -> NDArray[np.float32]:
        """Return the numbers, (images, len(names)), of images; a variable that the table lacks is unknown."""
        blocks = [np.empty((len(images), 0))]
        if self.age:
            age = images["age"].to_numpy(np.float64) if "age" in images else np.full(len(images), np.nan)
            missing = np.isnan(age)
            blocks.append(np.where(missing, 0, (age - self.age.mean) / self.age.deviation)[:, None])
            blocks += [missing[:, None]] * self.age.unknown
        for variable, category in self._categories.items():
            value = images[variable].str.strip().str.lower() if variable in images else pd.Series("", images.index)
            codes = pd.Index(category.known).get_indexer(pd.Index(value))  # -1 is none of them, the last row below
            nothing = [*np.zeros(len(category.known)), 1] if category.unknown else category.shares
            known = np.eye(len(category.known), len(nothing))
            blocks.append(np.vstack([known, nothing])[codes])
        return np.concatenate(blocks, axis=1).astype(np.float32)


def fit_encoder(training: pd.DataFrame, variables: Sequence[Variable]) -> ClinicalEncoder:
    """Return the encoder of some variables, learnt from the training images.

    Raises:
        DataError: a variable is known, or has a value, for fewer than FEW training images.
    """
    learnt: dict[str, Age | Category] = {}
    for variable in variables:
        values = training[variable] if variable in training else pd.Series(dtype=str)
        known = values.dropna() if variable == "age" else values[~values.isin(UNKNOWN)]
        counts = known.value_counts()
        frequent = sorted(str(value) for value in counts.index[counts >= FEW])
        if len(known) < FEW or (variable != "age" and not frequent):
            raise DataError(
                f"train.clinical names {variable}, of which the label table says too little, {len(known)} of "
                f"{len(training)} training images: leave it out, or name its column by data.columns.{variable}"
            )
        if variable == "age":
            # an age that never changes is left as it is
            deviation = float(known.std(ddof=0)) or 1.0
            unknown = bool(training["age"].isna().sum() >= FEW)
            learnt["age"] = Age(mean=float(known.mean()), deviation=deviation, unknown=unknown)
            continue
        seen = counts.reindex(frequent)
        learnt[variable] = Category(
            known=frequent,
            shares=[float(share) for share in seen / seen.sum()],
            unknown=bool(len(training) - seen.sum() >= FEW),
        )
    return ClinicalEncoder.model_validate(learnt)


class ClinicalFeatures(FeatureReader):
    """Features with the clinical numbers of their image behind them."""

    def __init__(self, features: FeatureReader, images: pd.DataFrame, encoder: ClinicalEncoder) -> None:
        """Take the features, and the clinical variables of `images` (`image_id`, ...); others are unknown."""
        self._features = features
        self.image_ids, self.sha256 = features.image_ids, features.sha256
        known = images.set_index("image_id").reindex(features.image_ids)
        self._numbers = encoder.encode(known.reset_index())
        self.scaled = self._numbers.shape[1]
        self.info = features.info.model_copy(update={"dim": features.info.dim + self.scaled})

    def view(self, view: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features of one view with the clinical numbers, (len(rows), dim), of some images."""
        return np.concatenate([self._features.view(view, rows), self._numbers[rows]], axis=-1)

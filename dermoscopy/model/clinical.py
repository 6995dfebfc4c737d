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


class ClinicalEncoder(BaseModel):
    """How clinical variables become numbers, as it was learnt from the training images.

    Age is standardised, with the mean where it is unknown and a number that says so; of sex and localization each value
    of the training images has a number, 0 or 1, and one more stands for all that is unknown or was never seen.

    Attributes:
        age: mean and standard deviation in years, or None where age is not used.
        sex, localization: the values that have a number, or None where it is not used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    age: tuple[float, float] | None = None
    sex: list[str] | None = None
    localization: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """What each number stands for, such as `localization: face`."""
        names = ["age", "age: unknown"] if self.age else []
        for variable, values in self._categories.items():
            names += [f"{variable}: {value}" for value in [*values, "unknown"]]
        return names

    @property
    def _categories(self) -> dict[str, list[str]]:
        found = {"sex": self.sex, "localization": self.localization}
        return {variable: values for variable, values in found.items() if values is not None}

    def unknown(self) -> NDArray[np.float32]:
        """Return the numbers, (len(names),), of an image of which nothing is known."""
        return np.asarray(self.encode(pd.DataFrame(index=[0]))[0], np.float32)

    def encode(self, images: pd.DataFrame) -> NDArray[np.float32]:
        """Return the numbers, (images, len(names)), of images; a variable that the table lacks is unknown."""
        columns: list[NDArray[np.float64]] = []
        if self.age:
            mean, deviation = self.age
            age = images["age"].to_numpy(np.float64) if "age" in images else np.full(len(images), np.nan)
            missing = np.isnan(age)
            columns += [np.where(missing, 0, (age - mean) / deviation), missing.astype(np.float64)]
        for variable, values in self._categories.items():
            value = images[variable].str.strip().str.lower() if variable in images else pd.Series("", images.index)
            codes = pd.Index(values).get_indexer(pd.Index(value))
            columns += list(np.eye(len(values) + 1)[codes].T)  # -1, what is not among them, is the last
        return np.column_stack(columns).astype(np.float32) if columns else np.empty((len(images), 0), np.float32)


def fit_encoder(training: pd.DataFrame, variables: Sequence[Variable]) -> ClinicalEncoder:
    """Return the encoder of some variables, learnt from the training images.

    Raises:
        DataError: the manifest does not have a variable, or it is unknown for all training images.
    """
    learnt: dict[str, object] = {}
    for variable in variables:
        values = training[variable] if variable in training else pd.Series(dtype=str)
        known = values.dropna() if variable == "age" else values[~values.isin(UNKNOWN)]
        if known.empty:
            raise DataError(
                f"train.clinical names {variable}, which no label table knows of the training images: leave it out, or "
                f"name its column by data.columns.{variable}"
            )
        # an age that never changes is left as it is
        learnt[variable] = (
            (float(known.mean()), float(known.std(ddof=0)) or 1.0) if variable == "age" else sorted(set(known))
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
        self.info = features.info.model_copy(update={"dim": features.info.dim + self._numbers.shape[1]})

    def view(self, view: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return np.concatenate([self._features.view(view, rows), self._numbers[rows]], axis=-1)

    def all_views(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        features = self._features.all_views(rows)
        numbers = np.broadcast_to(self._numbers[rows, None], (*features.shape[:2], self._numbers.shape[1]))
        return np.concatenate([features, numbers], axis=-1)

    def random_views(self, rows: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        return np.concatenate([self._features.random_views(rows, views), self._numbers[rows]], axis=-1)

"""Encoders of clinical variables, as training would have made them."""

from collections.abc import Sequence

from dermoscopy.model.clinical import Age, Category, ClinicalEncoder


def make_encoder(
    age: tuple[float, float] | None = None,
    sex: Sequence[str] | None = None,
    localization: Sequence[str] | None = None,
) -> ClinicalEncoder:
    """Return an encoder that has a number for what is unknown; `age` is mean and standard deviation in years."""

    def category(known: Sequence[str] | None) -> Category | None:
        return (known and Category(known=list(known), shares=[1 / len(known)] * len(known), unknown=True)) or None

    return ClinicalEncoder(
        age=Age(mean=age[0], deviation=age[1], unknown=True) if age else None,
        sex=category(sex),
        localization=category(localization),
    )

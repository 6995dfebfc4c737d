"""What the manifest knows of patients beside the images: age, sex, localization, and how a diagnosis was made."""

import numpy as np
import pandas as pd

from dermoscopy.data.groups import group_ids

VARIABLES = ("sex", "age_band", "localization", "dx_type")
AGE_BANDS = {"0-29": 0, "30-44": 30, "45-59": 45, "60-74": 60, "75+": 75}  # and where each begins, in years


def clinical_groups(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return `image_id, lesion_id, group_id` and those of VARIABLES that the manifest has, as text.

    Of VARIABLES, what is empty is unknown.
    """
    if "age" in manifest:
        bands = pd.cut(manifest["age"], [*AGE_BANDS.values(), np.inf], right=False, labels=list(AGE_BANDS))
        manifest = manifest.assign(age_band=bands.astype(object).fillna(""))
    known = [variable for variable in VARIABLES if variable in manifest]
    images = manifest[["image_id", "lesion_id"]].assign(group_id=group_ids(manifest))
    return images.join(manifest[known].replace("", "unknown"))

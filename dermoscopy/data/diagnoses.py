"""The diagnoses of the field: what their codes stand for, and which of them screening must find.

Benign or malignant is as the taxonomy of the ISIC Archive has it (`diagnosis_1` over `diagnosis_3`,
https://www.isic-archive.com), with one exception: actinic keratoses and intraepithelial carcinoma, which may become
invasive, count as malignant, as akiec does beside bcc and mel in Tschandl et al., Lancet Oncology 20:938 (2019) and
Nature Medicine 26:1229 (2020). What the archive calls indeterminate otherwise, such as an atypical melanocytic
proliferation, is not known.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple


class Diagnosis(NamedTuple):
    """A diagnosis by its long name; `malignant` is None where its name alone does not tell."""

    name: str
    malignant: bool | None


# HAM10000 and the ISIC challenges of 2018 and 2019, PAD-UFES-20, BCN20000, MILK10k
CODES = {
    "ack": Diagnosis("actinic keratosis", True),
    "ak": Diagnosis("actinic keratosis", True),
    "akiec": Diagnosis("actinic keratoses and intraepithelial carcinoma", True),
    "bcc": Diagnosis("basal cell carcinoma", True),
    "ben_oth": Diagnosis("other benign proliferations", False),
    "bkl": Diagnosis("benign keratosis-like lesions", False),
    "bod": Diagnosis("Bowen's disease", True),
    "df": Diagnosis("dermatofibroma", False),
    "inf": Diagnosis("inflammatory and infectious lesions", False),
    "mal_oth": Diagnosis("other malignant proliferations", True),
    "mel": Diagnosis("melanoma", True),
    "nev": Diagnosis("nevus", False),
    "nv": Diagnosis("melanocytic nevi", False),
    "scc": Diagnosis("squamous cell carcinoma", True),
    "sccka": Diagnosis("squamous cell carcinoma and keratoacanthoma", True),
    "sek": Diagnosis("seborrheic keratosis", False),
    "unk": Diagnosis("none of the others", None),
    "vasc": Diagnosis("vascular lesions", False),
}

# Names in full: the ISIC Archive and the challenge of 2020, Derm7pt, PH2
MALIGNANT = """
malignant; melanoma; malignant melanoma; melanoma, nos; melanoma invasive; melanoma, invasive; melanoma metastasis;
melanoma in situ; melanoma (in situ); melanoma (less than 0.76 mm); melanoma (0.76 to 1.5 mm);
melanoma (more than 1.5 mm); lentigo maligna; lentigo maligna melanoma; superficial spreading melanoma;
nodular melanoma; acral lentiginous melanoma; basal cell carcinoma; baso-squamous carcinoma; actinic keratosis;
solar keratosis; solar or actinic keratosis; solar or actinic cheilitis; actinic cheilitis; bowen; bowen disease;
bowen's disease; bowens disease; bowenoid papulosis; intraepithelial carcinoma;
actinic keratosis and intraepithelial carcinoma; actinic keratosis / bowen's disease; squamous cell carcinoma;
squamous cell carcinoma, nos; squamous cell carcinoma in situ; squamous cell carcinoma, invasive;
squamous cell carcinoma in situ, bowens disease; verrucous carcinoma; keratoacanthoma; sebaceous carcinoma;
porocarcinoma; merkel cell carcinoma; paget disease; mycosis fungoides; kaposi sarcoma; angiosarcoma;
angiosarcoma cutaneous; atypical fibroxanthoma; dermatofibrosarcoma protuberans
"""
BENIGN = """
benign; nevus; melanocytic nevus; common nevus; atypical nevus; dysplastic nevus; clark nevus; blue nevus;
reed nevus; spitz nevus; reed or spitz nevus; combined nevus; congenital nevus; dermal nevus; junctional nevus;
compound nevus; acral nevus; halo nevus; recurrent nevus; nevus, nos, compound; nevus, nos, dermal;
nevus, nos, junctional; nevus, atypical, dysplastic, or clark; nevus, acral; nevus, combined; nevus, congenital;
nevus, deep penetrating; nevus, halo; nevus, recurrent or persistent; nevus, reed; nevus, spilus; nevus, spitz;
nevus spilus; nevus sebaceus; epidermal nevus; dermal melanocytosis; melanosis; lentigo; lentigines; lentigo nos;
lentigo simplex; solar lentigo; solar lentigines; ink-spot lentigo; ephelis; freckle; cafe-au-lait macule;
cafe au lait macule or patch; mucosal melanotic macule; benign keratosis; benign keratosis-like lesion;
pigmented benign keratosis; seborrheic keratosis; lichenoid keratosis; lichen planus like keratosis; stucco keratosis;
melanoacanthoma; clear cell acanthoma; porokeratosis; dermatofibroma; fibroma; angiofibroma; fibroepithelial polyp;
acrochordon; skin tag; scar; lipoma; neurofibroma; juvenile xanthogranuloma; vascular lesion; vascular;
hemangioma; cherry angioma; angioma; angiokeratoma; lymphangioma; pyogenic granuloma; telangiectasia; vascular spider;
venous lake; hemorrhage; subungual hematoma; hidradenoma; poroma; syringoma; pilomatricoma; trichoblastoma;
trichoepithelioma; sebaceous adenoma; sebaceous hyperplasia; cyst; infundibular or epidermal cyst; milium;
trichilemmal or isthmic-catagen or pilar cyst; verruca; wart; molluscum; mastocytoma
"""


def _spelling(label: str) -> str:
    """Return a label as the table has it: American, singular, with blanks, as names of folders do not have them."""
    words = re.sub(r"[\s_-]+", " ", label.strip().lower())
    words = words.replace("ae", "e").replace("é", "e").replace("nevi", "nevus")  # naevi, haemangioma, café
    return words.replace("keratoses", "keratosis").replace("tumour", "tumor").removesuffix("s")


_IS_MALIGNANT = (
    {_spelling(name): False for name in BENIGN.replace("\n", " ").split(";")}
    | {_spelling(name): True for name in MALIGNANT.replace("\n", " ").split(";")}
    | {_spelling(code): diagnosis.malignant for code, diagnosis in CODES.items()}
)


def long_name(label: str) -> str:
    """Return the name of the diagnosis that a label is the code of, else the label."""
    return CODES[label].name if label in CODES else label


def malignant_classes(classes: Sequence[str], named: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the classes that screening must find, in their order, and those of which nobody says.

    Args:
        classes: labels.
        named: exactly these are malignant; None for those that this module knows.
    """
    if named is not None:
        return [name for name in classes if name in named], []
    known = {name: _IS_MALIGNANT.get(_spelling(name)) for name in classes}
    return [name for name in classes if known[name]], [name for name in classes if known[name] is None]

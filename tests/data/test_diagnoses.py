"""The table of diagnoses: what screening must find."""

import pytest

from dermoscopy.data.diagnoses import BENIGN, CODES, MALIGNANT, _spelling, long_name, malignant_classes


@pytest.mark.parametrize(
    ("classes", "malignant"),
    [
        (["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"], ["akiec", "bcc", "mel"]),
        (["ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc"], ["ak", "bcc", "mel", "scc"]),
        (["ack", "bcc", "mel", "nev", "scc", "sek"], ["ack", "bcc", "mel", "scc"]),
        (["benign", "malignant"], ["malignant"]),
        (
            ["cafe-au-lait macule", "lentigo nos", "lichenoid keratosis", "melanoma", "nevus", "seborrheic keratosis"],
            ["melanoma"],
        ),
        (
            ["melanoma, nos", "nevus", "pigmented benign keratosis", "solar or actinic keratosis", "hemangioma"],
            ["melanoma, nos", "solar or actinic keratosis"],
        ),
        (["squamous cell carcinoma in situ", "squamous cell carcinoma, nos", "scar"], None),
        (["clark nevus", "melanoma (in situ)", "melanoma (more than 1.5 mm)", "reed or spitz nevus"], None),
    ],
    ids=["HAM10000", "ISIC 2019", "PAD-UFES-20", "two", "ISIC 2020", "ISIC Archive", "BCN20000", "Derm7pt"],
)
def test_the_classes_of_a_well_known_data_set_are_all_known(classes: list[str], malignant: list[str] | None) -> None:
    if malignant is None:
        malignant = [name for name in classes if name.startswith(("melanoma", "squamous"))]
    assert malignant_classes(classes, None) == (malignant, [])


@pytest.mark.parametrize(
    "label", ["naevus", "nevi", "Melanocytic naevi", "haemangiomas", "vascular_lesion", "café-au-lait-macule"]
)
def test_a_name_is_known_in_other_spellings(label: str) -> None:
    assert malignant_classes([label, "Actinic keratoses"], None) == (["Actinic keratoses"], [])


@pytest.mark.parametrize(
    "label",
    ["unk", "unknown", "other", "miscellaneous", "indeterminate", "atypical melanocytic proliferation", "1", ""],
)
def test_what_a_name_does_not_tell_is_not_guessed(label: str) -> None:
    assert malignant_classes(["mel", label, "nv"], None) == (["mel"], [label])


def test_exactly_the_named_classes_are_malignant_where_they_are_named() -> None:
    assert malignant_classes(["0", "1", "mel", "nv"], ["nv", "1", "scc"]) == (["1", "nv"], [])
    assert malignant_classes(["mel", "other"], []) == ([], [])


def test_no_name_stands_twice_in_the_table() -> None:
    names = [_spelling(name) for name in f"{BENIGN};{MALIGNANT};{';'.join(CODES)}".split(";")]
    assert len(names) == len(set(names))


def test_a_code_has_a_long_name_and_any_other_label_is_its_own() -> None:
    assert long_name("scc") == "squamous cell carcinoma"
    assert long_name("melanoma, nos") == "melanoma, nos"

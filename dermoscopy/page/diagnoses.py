"""What the codes of HAM10000 and of the ISIC challenges stand for."""

NAMES = {
    "ak": "actinic keratosis",
    "akiec": "actinic keratoses and intraepithelial carcinoma",
    "bcc": "basal cell carcinoma",
    "bkl": "benign keratosis-like lesions",
    "df": "dermatofibroma",
    "mel": "melanoma",
    "nv": "melanocytic nevi",
    "scc": "squamous cell carcinoma",
    "unk": "none of the others",
    "vasc": "vascular lesions",
}


def long_name(code: str) -> str:
    """Return the name of a diagnosis, or the code where it is not known."""
    return NAMES.get(code, code)

"""The confusion matrix as a picture."""

from pathlib import Path
from textwrap import fill

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from dermoscopy.runtime.files import replacing
from dermoscopy.scoring.predictions import class_names

# Characters: the longest name that stands under a column upright, and the longest line.
UPRIGHT, LINE = 6, 25
DARK = 72  # per cent: a colour on which white is easier to read than black


def draw_confusion_matrix(predictions: pd.DataFrame, title: str, path: Path) -> None:
    """Draw counts and, as colour and in brackets, percentages of each row (actual class).

    A character of a name that no font of this machine has is drawn as a question mark.
    """
    from matplotlib.figure import Figure  # pyplot, made for windows, takes a quarter of a second more

    classes = class_names(predictions)
    families, missing = font_families("".join(classes))
    names = [fill(name.translate(dict.fromkeys(map(ord, missing), "?")), LINE) for name in classes]
    longest = max(len(line) for name in names for line in name.split("\n"))
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=classes)
    percentages: NDArray[np.float64] = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.75 * len(classes) + 0.08 * max(longest - UPRIGHT, 0)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(percentages, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation="vertical" if longest > UPRIGHT else "horizontal")
    axes.set_yticks(range(len(names)), names)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(parse_math=False, fontfamily=families)
    for (row, column), count in np.ndenumerate(counts):
        share = percentages[row, column]
        colour = "white" if share > DARK else "black"
        axes.text(column, row, f"{count}\n{share:.0f} %", ha="center", va="center", color=colour)
    figure.colorbar(image, ax=axes, shrink=0.8, label="% of the actual class")
    axes.set(title=f"Confusion matrix, {len(predictions)} {title}", xlabel="predicted class", ylabel="actual class")
    with replacing(path) as partial:
        # without the software version the same numbers give the same bytes
        figure.savefig(partial, dpi=110, metadata={"Software": None})


def font_families(text: str) -> tuple[list[str], set[str]]:
    """Return the font families that draw a text, Matplotlib's own first, and the characters that none of them has."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    families, missing = ["DejaVu Sans"], set(text)
    # Last Resort has every character, as a box
    others = sorted((font.name, font.fname) for font in fontManager.ttflist if not font.name.startswith("Last Resort"))
    for family, path in [(families[0], findfont(families[0])), *others]:
        if not missing:
            break
        found = {character for character in missing if ord(character) in get_font(path).get_charmap()}
        if found and family not in families:
            families.append(family)
        missing -= found
    return families, missing

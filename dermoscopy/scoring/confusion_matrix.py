"""The confusion matrix as a picture."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix

from dermoscopy.runtime.files import replacing
from dermoscopy.scoring.predictions import class_names

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

# Characters: the longest name that stands under a column upright, and the longest line.
UPRIGHT, LINE = 6, 25
COLOURS, STEPS = "Blues", 20  # of 5 %: few colours make a small file
DPI = 300


def draw_confusion_matrix(predictions: pd.DataFrame, title: str, path: Path) -> None:
    """Write the picture of `confusion_figure` as PNG: the same bytes for the same numbers, and few, for Git."""
    from PIL import Image

    figure = confusion_figure(predictions, class_names(predictions))
    figure.suptitle(f"Confusion matrix, {len(predictions)} {title}", fontsize=8)
    figure.set_dpi(DPI)
    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined] # Agg
    with replacing(path) as partial:
        # a palette, in which only the edges of letters have other colours, takes a third of the bytes
        pixels.quantize(128, dither=Image.Dither.NONE).save(partial, optimize=True, dpi=(DPI, DPI))


def confusion_figure(labels: pd.DataFrame, classes: Sequence[str]) -> "Figure":
    """Return counts and, as colour and below them, percentages of each row (actual class).

    A character of a name that no font of this machine has is drawn as a question mark.

    Args:
        labels: `label` and `predicted` of each image.
        classes: in the order of rows and columns.
    """
    # pyplot, made for windows, takes a quarter of a second more
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, families = drawable(classes)
    longest = max(len(line) for name in names for line in name.split("\n"))
    counts = confusion_matrix(labels["label"], labels["predicted"], labels=list(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(2.4, 1.3 + 0.46 * len(classes)) + 0.06 * max(longest - UPRIGHT, 0)  # inches
    figure = Figure(figsize=(size + 0.7, size), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    edges = np.arange(len(classes) + 1) - 0.5
    # cells and not an image, which a PDF would hold as pixels
    cells = axes.pcolormesh(edges, edges, 100 * shares, cmap=colour_scale(), vmin=0, vmax=100)
    cells.set(edgecolor="white", linewidth=0.5)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_xticks(range(len(names)), names, rotation="vertical" if longest > UPRIGHT else "horizontal")
    axes.set_yticks(range(len(names)), names)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set(parse_math=False, fontfamily=families, fontsize=8)
    for (row, column), count in np.ndenumerate(counts):
        share = shares[row, column]
        text = f"{count}\n{100 * share:.0f} %" if count else "0"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=text_colour(cell_colour(share)))
    scale = figure.colorbar(cells, ax=axes, shrink=0.8)
    scale.solids.set_edgecolor("face")  # type: ignore[union-attr] # it has solids; without edges PDFs show gaps
    scale.set_label("% of the actual class", fontsize=8)
    scale.ax.tick_params(labelsize=8)
    axes.set_xlabel("predicted class", fontsize=9)
    axes.set_ylabel("actual class", fontsize=9)
    return figure


def cell_colour(share: float) -> NDArray[np.float64]:
    """Return red, green and blue, 0 to 1, of a cell with this share, 0 to 1, of its row."""
    return np.array(colour_scale()(float(share))[:3])


def colour_scale() -> "Colormap":
    """Return the colours of shares, in steps."""
    from matplotlib import colormaps

    return colormaps[COLOURS].resampled(STEPS)


def text_colour(background: ArrayLike) -> str:
    """Return white or black, whichever stands out more: on any colour that is a contrast of 4.58 or more."""
    return max(("white", "black"), key=lambda name: contrast([float(name == "white")] * 3, background))


def contrast(one: ArrayLike, other: ArrayLike) -> float:
    """Return the contrast ratio, 1 to 21, of two colours of sRGB, 0 to 1 (Web Content Accessibility Guidelines 2.2)."""
    light = []
    for colour in (one, other):
        encoded = np.asarray(colour, np.float64)
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(light) + 0.05) / (min(light) + 0.05)


def drawable(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return names as Matplotlib can draw them, in lines of LINE characters, and the font families that do.

    A character that no font of this machine has becomes a question mark.
    """
    families, missing = font_families("".join(names))
    unknown = dict.fromkeys(map(ord, missing), "?")
    return [fill(name.translate(unknown), LINE) for name in names], families


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

"""Answers as pieces of the page: HTML in which names of classes and files, which are untrusted, are escaped."""

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from numpy.typing import NDArray

from apps.answers import THUMBNAIL, Answer, Answers, Example
from dermoscopy.data.diagnoses import long_name
from dermoscopy.data.images import read_image, shrink

HERE = Path(__file__).parent


def in_html(answers: Answers, answer: Answer, example: Example | None) -> str:
    """Return an answer as a piece of the page."""
    ordered = sorted(answer.probabilities.items(), key=lambda item: -item[1])
    by_clinical = sorted(answer.clinical, key=answer.clinical.__getitem__) or [answer.predicted]
    return render(
        "answer.html.jinja",
        answers=answers,
        answer=answer,
        example=example,
        ordered=ordered,
        largest=ordered[0][0],
        favoured=by_clinical[-1],
        opposed=by_clinical[0],
    )


def render(template: str, **content: Any) -> str:
    """Return a template of this folder filled in; names of classes and files are escaped, for they are untrusted."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "picture": picture, "long_name": long_name}
    return environment.get_template(template).render(content)


def percent(share: float) -> str:
    """Return a probability as people read it."""
    if 0 < share < 0.001:
        return "<\u00a00.1\u00a0%"
    return ">\u00a099.9\u00a0%" if 0.999 < share < 1 else f"{100 * share:.1f}\u00a0%"


def picture(pixels: NDArray[np.uint8]) -> str:
    """Return pixels, (height, width, 3), RGB, as the address of a JPEG that is in the address itself."""
    return "data:image/jpeg;base64," + base64.b64encode(as_jpeg(pixels)).decode()


def as_jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels, (height, width, 3), RGB, as the content of a JPEG file."""
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


@lru_cache(maxsize=100)
def thumbnail(path: str) -> bytes:
    """Return an image file as a small JPEG."""
    return as_jpeg(shrink(read_image(path), THUMBNAIL))

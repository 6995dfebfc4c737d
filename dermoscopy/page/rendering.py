"""Templates filled in: HTML and Markdown in which names of files and classes, which are untrusted, are escaped."""

import re
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dermoscopy.data.diagnoses import long_name
from dermoscopy.page.downloads import csv_uri, file_name, svg_uri
from dermoscopy.page.facts import estimate
from dermoscopy.runtime.errors import enumerated

TEMPLATES = Path(__file__).parent


def as_yaml(value: Any, block: bool = False) -> str:
    """Return a value in one line, or (block) all params, as params.yaml has it."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=not block)
    return text.removesuffix("...\n").strip()


def escape_markdown(value: Any) -> Any:
    """Return text that Markdown shows as it is; what a template itself made stays."""
    return re.sub(r"([\\`*~\[\]|#]|(?<!\w)_|_(?!\w))", r"\\\1", value) if type(value) is str else value


def render(template: str, **content: Any) -> str:
    """Return a template of this folder filled in; names of classes and files are escaped, for they are untrusted."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=escape_markdown if template.endswith(".md.jinja") else None,
    )
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    environment.filters |= {"svg_uri": lambda svg: svg_uri(svg, style), "csv_uri": csv_uri, "file_name": file_name}
    environment.globals |= {
        "estimate": estimate, "long_name": long_name, "as_yaml": as_yaml, "enumerated": enumerated,
    }  # fmt: skip
    return environment.get_template(template).render(**content, style=Markup(style))  # noqa: S704 - our own file

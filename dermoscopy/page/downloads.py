"""Figures and tables of the page as files that it carries in itself: a link with a data URI needs no script."""

import base64
import csv
import io
import re
from html.parser import HTMLParser

FORMULA = tuple("=+-@＝＋－＠")  # noqa: RUF001 - spreadsheets take the wide forms for the others


def svg_uri(svg: str, style: str) -> str:
    """Return a figure of the page as a data URI of an SVG file: in light colours on white, with a style of its own.

    Args:
        svg: the element, which begins with `<svg viewBox="0 0 WIDTH HEIGHT"`.
        style: the page's style sheet, whose first rule has the light colours.
    """
    svg = str(svg).strip()
    size = re.match(r'<svg viewBox="0 0 (\S+) (\S+)"', svg)
    light, rules = re.search(r"(?s):root \{(.*?)\}", style), re.search(r"(?ms)^svg text .*?^$", style)
    if not (size and light and rules):
        raise ValueError("a figure needs a viewBox, and style.css its colours and, in one piece, the rules of figures")
    box = f'width="{size[1]}" height="{size[2]}"'
    start, rest = re.sub(r">\s+<", "><", svg.removeprefix("<svg ")).split(">", 1)
    # drawing programs know no variables
    colours = dict(re.findall(r"--([\w-]+): ([^;]+);", light[1]))
    own = re.sub(r"var\(--([\w-]+)\)", lambda name: colours[name[1]], rules[0])
    return _uri(
        "image/svg+xml",
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {start}><style>svg {{ font-family: sans-serif; }}{own}</style>'
        f'<rect {box} fill="#fff"/>{rest}',
    )


def csv_uri(table: str) -> str:
    """Return a table of the page as a data URI of a CSV file in UTF-8; see `csv_text`."""
    return _uri("text/csv;charset=utf-8", csv_text(table))


def csv_text(table: str) -> str:
    """Return a table of the page as CSV (RFC 4180), with what it shows, so that the two never differ.

    The small print of a cell has columns of its own: `<name> low` and `<name> high` of an interval, and `<name> <more>`
    of anything else, with what data-small of the column's head says (or note). The head of a group of rows is in
    the first column of each of them, named by its data-name. A column without text, which is drawn, is left out.
    Text that a spreadsheet would run as a formula gets an apostrophe before it: names of classes are untrusted.
    """
    reader = _TableReader()
    reader.feed(table)
    reader.close()
    head, rows = reader.rows[0], reader.rows[1:]
    columns = [[reader.group_name, *(row[0]["group"] for row in rows)]] if reader.group_name else []
    for name, *cells in zip(head, *rows, strict=True):
        texts, limits, small = ([cell[part] for cell in cells] for part in ("text", "range", "small"))
        if any(texts):
            columns.append([name["text"], *texts])
        if any(limits):
            for end, place in (("low", 0), ("high", 1)):
                values = [re.split("–| to ", text)[place] if text else "" for text in limits]
                columns.append([f"{name['text']} {end}", *values])
        if any(small):
            columns.append([f"{name['text']} {name['data-small']}", *(text.removesuffix(" %") for text in small)])
    stream = io.StringIO()
    csv.writer(stream).writerows(map(_harmless, row) for row in zip(*columns, strict=True))
    return stream.getvalue()


def file_name(text: str) -> str:
    """Return a text, such as the name of a class, as a part of the name of a file."""
    return re.sub(r"[^\w-]+", "_", text)[:60]


def _harmless(value: str) -> str:
    """Return a value that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(FORMULA) and not _is_number(value) else value


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[+-]?[0-9.]+", text) is not None


def _uri(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"


class _TableReader(HTMLParser):
    """Reads a table.

    Attributes:
        rows: the head, then each row: of each cell its attributes, `text`, `small` print, `range` and `group`.
        group_name: what the groups of rows are; "" where there are none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[dict[str, str]]] = []
        self.group_name = self._group = ""
        self._kinds = [""]  # of the open elements: the part of a cell that their text belongs to, or "" for none

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        kind = self._kinds[-1]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            kind = "text"
            cell = {"text": "", "small": "", "range": "", "data-small": "note", "group": self._group}
            self.rows[-1].append(cell | attributes)
        elif tag in ("caption", "svg"):
            kind = ""
        elif tag == "abbr":
            kind, self.rows[-1][-1]["text"] = "", attributes["title"]
        elif tag == "small":
            kind = "small"
        if attributes.get("class") == "range":
            kind = "range"
        self._kinds.append(kind)

    def handle_endtag(self, tag: str) -> None:
        self._kinds.pop()
        if tag in ("th", "td"):
            cell = self.rows[-1][-1]
            for part in ("text", "small", "range"):
                text = " ".join(cell[part].split())
                cell[part] = "" if text == "–" else text  # what is missing on the page is nothing to a program
        first = self.rows[-1][0] if tag == "tr" else {}
        if first.get("scope") == "rowgroup":
            self.group_name, self._group = first["data-name"], first["text"]
        if first.get("scope") in ("rowgroup", "colgroup"):
            self.rows.pop()

    def handle_data(self, data: str) -> None:
        if self._kinds[-1]:
            self.rows[-1][-1][self._kinds[-1]] += data

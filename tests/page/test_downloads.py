"""The figures and tables that the page carries as files."""

import base64
import csv
import io
import re
from html import escape, unescape
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from dermoscopy.page.downloads import csv_text, file_name
from dermoscopy.scoring.metrics import read_metrics

SVG = "{http://www.w3.org/2000/svg}"


def downloads(folder: Path, ending: str) -> dict[str, str]:
    """Return the files of a kind that a page carries, by name."""
    page = (folder / "report/index.html").read_text(encoding="utf-8")
    found = re.findall(rf'download="([^"]+\.{ending})" href="data:[^"]+;base64,([^"]+)"', page)
    files = {name: base64.b64decode(content).decode() for name, content in found}
    assert len(files) == len(found)
    return files


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(downloads(folder, "csv")[name], newline="")))


def test_every_figure_is_an_svg_file_that_needs_nothing_else(finished: Path) -> None:
    files = downloads(finished, "svg")
    single = {"training-loss", "training-accuracy", "confusion-matrix", "roc", "precision-recall", "reliability"}
    assert {f"{name}.svg" for name in single | {"trade-off", "roc-mel", "precision-recall-mel"}} <= set(files)
    for text in files.values():
        figure = ElementTree.fromstring(text)  # noqa: S314 - our own file
        assert figure.tag == f"{SVG}svg"
        assert float(figure.attrib["width"]) > 100
        assert [element for element in figure.iter() if element.tag in (f"{SVG}path", f"{SVG}rect")]
        # drawing programs have neither the page's style nor variables
        assert "var(" not in text
        assert "svg path { fill: none;" in text
        assert not re.search(r"url\((?!#)|href|<script", text)


def test_names_of_classes_stand_in_figures_as_they_are(many_classes: Path, nasty_names: list[str]) -> None:
    files = downloads(many_classes, "svg")
    for name in ("roc.svg", "confusion-matrix.svg"):
        figure = ElementTree.fromstring(files[name])  # noqa: S314 - our own file
        assert set(nasty_names) <= {text.text for text in figure.iter(f"{SVG}text")}


def test_every_table_is_a_csv_file_with_the_numbers_that_it_shows(finished: Path) -> None:
    page = (finished / "report/index.html").read_text(encoding="utf-8")
    tables = re.findall(r"<table.*?</table>", page, re.DOTALL)
    files = downloads(finished, "csv")
    assert len(files) == len(tables)
    for table, text in zip(tables, files.values(), strict=True):
        shown = re.sub("<svg.*?</svg>|<caption.*?</caption>|<thead.*?</thead>", "", table, flags=re.DOTALL)
        groups = "rowgroup" in table  # their names stand once in the table, and in each of their rows here
        shown = re.sub(r'<th scope="rowgroup".*?</th>', "", shown)
        names, *rows = csv.reader(io.StringIO(text, newline=""))
        assert {len(row) for row in rows} == {len(names)}
        assert len(set(names)) == len(names)
        here = " ".join(" ".join(row[groups:]) for row in rows)
        assert numbers_in(here) == numbers_in(unescape(re.sub(r"<[^>]+>", " ", shown)))
        assert len(numbers_in(here)) > 2


def numbers_in(text: str) -> list[str]:
    """Return the numbers of a text, sorted."""
    return sorted(re.findall(r"\d+\.?\d*", text))


def test_the_csv_of_the_classes_has_the_metrics_with_their_intervals(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    rows = {row["class"]: row for row in rows_of(finished, "classes.csv")}
    for name, values in read_metrics()["test"].per_class.items():
        assert values.recall_ci is not None
        found = [float(rows[name][column]) for column in ("n", "sensitivity", "sensitivity low", "sensitivity high")]
        assert found == pytest.approx([values.support, values.recall, *values.recall_ci], abs=0.0051)


def test_the_csv_of_the_confusion_matrix_has_counts_and_shares(finished: Path) -> None:
    rows = {row["actual class"]: row for row in rows_of(finished, "confusion-matrix.csv")}
    labels = pd.read_csv(finished / "plots/confusion_matrix.csv")
    for label, of_label in labels.groupby("label"):
        row = rows[str(label)]
        assert int(row["actual class images"]) == len(of_label)
        for predicted, count in of_label["predicted"].value_counts().items():
            assert int(row[str(predicted)]) == count
            assert float(row[f"{predicted} %"]) == pytest.approx(100 * count / len(of_label), abs=0.51)


def test_groups_of_rows_are_a_column(finished: Path) -> None:
    rows = {(row["section"], row["param"]): row for row in rows_of(finished, "params.csv")}
    default = "value default, where it differs"
    assert [rows["train", "epochs"][column] for column in ("value", default)] == ["20", "150"]
    assert rows["train", "dropout"][default] == ""


def test_a_spreadsheet_runs_nothing_of_a_table() -> None:
    cells = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(A1)", "-2+3", 'a,"b"', "＝1", "-0.5", "+1.25", "3"]  # noqa: RUF001
    rows = "".join(f"<tr><th>{escape(cell)}</th><td>1</td></tr>" for cell in cells)
    text = csv_text(f"<table><tr><th>class</th><th>n</th></tr>{rows}</table>")
    assert text.endswith("3,1\r\n")
    first = [row[0] for row in csv.reader(io.StringIO(text, newline=""))][1:]
    assert first == ["'=1+1", "'+cmd|' /C calc'!A0", "'@SUM(A1)", "'-2+3", 'a,"b"', "'＝1", "-0.5", "+1.25", "3"]  # noqa: RUF001


def test_names_of_files_are_plain() -> None:
    assert file_name("../<b>/é x") == "_b_é_x"
    assert len(file_name("x" * 300)) == 60

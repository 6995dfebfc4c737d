"""python -m tools.figures: every figure of the report, and its tables, for a paper."""

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.manifest import count_classes
from dermoscopy.data.tables import write_table
from dermoscopy.features.finetuned import FINETUNED, FinetuningInfo, write_finetuning
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.page.facts import Estimate
from dermoscopy.page.figures import (
    COLOURS,
    DASHES,
    draw_precision_recall,
    draw_roc,
    draw_subgroups,
    read_results,
    write_figures,
)
from dermoscopy.page.latex import as_latex, with_interval, write_tables
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import (
    CLASS_DISTRIBUTION,
    FIGURES,
    HEAD_INFO,
    IMAGE_ONLY,
    MANIFEST,
    PREDICTIONS_TTA,
    TRAINING_CURVES,
)
from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.confusion_matrix import contrast
from dermoscopy.scoring.metrics import read_metrics
from stages import evaluate
from tests.support.finished_run import run_stages
from tests.support.params_file import PARAMS, write_params
from tests.support.prediction_tables import drawn_images
from tests.support.tool import run_tool

ALWAYS = ["confusion_matrix", "roc", "precision_recall", "reliability", "trade_off", "training", "class_distribution"]
TABLES = ["classes", "metrics", "subgroups"]
# of names that LaTeX or Matplotlib could take for their own
NASTY = {
    "akiec": "[2em] $\\frac{ \\\\ # & ~^_%",
    "bcc": "* a|b`<i>\n\n\\input{secret}",
    "bkl": "melanoma (less than 0.76 mm), nos",
    "mel": "one_word_of_over_forty_letters_in_one_piece",
    "nv": "nævus é",
}


def fill(folder: Path, names: dict[str, str]) -> None:
    """Make what earlier stages write of 100 validation and 200 test images, of classes of these names."""
    table = drawn_images()
    table = table.assign(part=np.where(table.index < 100, "validation", "test"))
    table = table.rename(columns={f"p_{old}": f"p_{new}" for old, new in names.items()})
    table = table.replace({"label": names, "predicted": names})
    known = table[["image_id", "label", "lesion_id"]].assign(
        sex=["male", "female", "<i>[x] & 50 %"] * 100, age=np.nan, localization=""
    )
    write_params(folder, {})
    with chdir(folder):
        write_table(known, MANIFEST)
        write_table(count_classes(known), CLASS_DISTRIBUTION)
        write_table(table.drop(columns=["lesion_id", "group_id"]), PREDICTIONS_TTA)
        write_table(table[:0].assign(tta=""), IMAGE_ONLY)
        count = len(names)
        head = HeadInfo(
            classes=list(names.values()),
            prior=[1 / count] * count,
            class_weights=[1.0] * count,
            backbone="0",
            augmentation=PARAMS.augmentation,
        )
        HEAD_INFO.parent.mkdir()
        HEAD_INFO.write_text(head.model_dump_json(), encoding="utf-8")
        fill_log(TRAINING_CURVES)
    run_stages(folder, [evaluate])


def fill_log(folder: Path) -> None:
    """Make the curves of a training whose third epoch is the best."""
    for part in ("train", "eval"):
        for name, values in {"loss": [1.5, 0.9, 0.5, 0.7], "accuracy": [0.4, 0.6, 0.8, 0.7]}.items():
            (folder / part).mkdir(parents=True, exist_ok=True)
            pd.DataFrame({"step": range(4), name: values}).to_csv(folder / part / f"{name}.tsv", sep="\t", index=False)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run of five classes; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("results")
    fill(folder, {name: name for name in NASTY})
    return folder


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run with nasty names and a fine-tuned backbone, and their figures; left as they are."""
    folder = tmp_path_factory.mktemp("nasty")
    fill(folder, NASTY)
    with chdir(folder):
        fill_log(FINETUNED / "log/plots/metrics")
        write_finetuning(FinetuningInfo(epochs=3, kept=2, cut="block", layers=3))
        found = read_results(0)
        write_figures(found, FIGURES)
        write_tables(read_metrics(), found.subgroups, FIGURES)
    return folder


@pytest.fixture
def copy(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the results, which a test may change, and the current folder."""
    shutil.copytree(results, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_the_command_writes_every_figure_and_table_with_the_same_bytes_twice(copy: Path) -> None:
    output = run_tool("figures", copy).out
    assert output.startswith("figures: report/figures has confusion_matrix, roc, ")
    run_tool("figures", copy, "elsewhere/again")
    first, again = (
        {path.name: path.read_bytes() for path in (copy / folder).iterdir()} for folder in (FIGURES, "elsewhere/again")
    )
    names = [*ALWAYS, "subgroups"]
    assert set(first) == {f"{name}.{kind}" for name in names for kind in ("pdf", "svg")} | {f"{n}.tex" for n in TABLES}
    assert first == again


@pytest.mark.slow
def test_a_missing_file_is_one_clear_line_and_nothing_is_written(copy: Path) -> None:
    Path("plots/class_distribution.csv").unlink()
    error = run_tool("figures", copy, status=1).err
    assert error == "error: plots/class_distribution.csv is missing: run dvc repro, which makes it\n"
    assert not FIGURES.exists()


@pytest.mark.parametrize(
    "path",
    ["metrics/metrics.json", "metrics/subgroups.csv", "metrics/training/plots/metrics/eval/loss.tsv"]
    + [f"plots/{name}.csv" for name in ("confusion_matrix", "roc", "precision_recall", "reliability", "trade_off")],
)
def test_a_file_that_is_missing_or_damaged_is_named(copy: Path, path: str) -> None:
    for change in (lambda: Path(path).write_text("a,b\n1,2,3\n", encoding="utf-8"), Path(path).unlink):
        change()
        with pytest.raises(DataError, match=re.escape(path)):
            read_results(0)


def test_params_that_were_changed_since_are_named(copy: Path) -> None:
    with pytest.raises(DataError, match=r"another evaluate.prior_exponent than 0\.3: run dvc repro"):
        read_results(0.3)


def test_the_folder_is_not_for_git() -> None:
    command = ["git", "check-ignore", f"{FIGURES}/roc.pdf"]
    assert subprocess.run(command, cwd=PROJECT, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_figures_that_this_run_does_not_have_are_removed(copy: Path) -> None:
    fill_log(FINETUNED / "log/plots/metrics")
    write_finetuning(FinetuningInfo(epochs=3, kept=0, cut="block", layers=3))
    assert write_figures(read_results(0), FIGURES) == [*ALWAYS[:6], "finetuning", "subgroups", "class_distribution"]
    assert (FIGURES / "finetuning.svg").exists()
    (FIGURES / "mine.pdf").touch()
    shutil.rmtree(FINETUNED)
    path = Path("metrics/subgroups.csv")
    path.write_text(path.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    assert write_figures(read_results(0), FIGURES) == ALWAYS
    assert not list(FIGURES.glob("finetuning.*")) + list(FIGURES.glob("subgroups.*"))
    assert (FIGURES / "mine.pdf").exists()


def test_fonts_are_embedded_and_nothing_is_drawn_as_pixels(nasty: Path) -> None:
    figures = sorted((nasty / FIGURES).glob("*.pdf"))
    assert len(figures) == 9
    for path in figures:
        content = path.read_bytes()
        assert b"/FontFile2" in content  # a TrueType font
        assert b"/Type3" not in content
        assert b"/Subtype /Image" not in content
        assert b"CreationDate" not in content
        svg = ET.parse(path.with_suffix(".svg"))  # noqa: S314 - our own file
        assert not list(svg.iter("{http://www.w3.org/2000/svg}image"))


def test_figures_fit_the_columns_of_a_page(nasty: Path) -> None:
    for path in (nasty / FIGURES).glob("*.pdf"):
        (box,) = re.findall(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", path.read_bytes())
        assert float(box[0]) <= 7.01 * 72
        assert float(box[1]) <= 9.5 * 72


def test_lines_of_classes_differ_in_colour_or_dashes_and_can_be_seen_on_white() -> None:
    styles = {(place % len(COLOURS), place % len(DASHES)) for place in range(28)}
    assert len(styles) == 28
    for colour in COLOURS:
        encoded = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        assert contrast(encoded, [1, 1, 1]) >= 3


def test_each_curve_is_drawn_as_its_rows_mean_it(copy: Path) -> None:
    found = read_results(0)
    for draw, kind in ((draw_roc, "default"), (draw_precision_recall, "steps-post")):
        lines = draw(found).axes[0].get_lines()
        assert [line.get_drawstyle() for line in lines[:5]] == [kind] * 5
    labels = [line.get_label() for line in draw_roc(found).axes[0].get_lines()[:5]]
    assert labels == [f"{name} ({values.auc:.2f})" for name, values in found.shown.per_class.items()]


def test_a_subgroup_without_a_value_or_of_few_images_is_told_apart(copy: Path) -> None:
    rows = [
        {"variable": "sex", "group": "male", "images": "30", "estimate": Estimate(0.6, 0.5, 0.7, "")},
        {"variable": "sex", "group": "female", "images": "19", "estimate": Estimate(0.4, 0.1, 0.8, "")},
        {"variable": "age_band", "group": "75+", "images": "3", "estimate": Estimate(None, None, None, "undefined")},
    ]
    axes = draw_subgroups(rows, read_results(0).shown).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sex", "male", "female", "age band", "75+"]
    dots = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, True]
    texts = {(round(text.get_position()[1]), text.get_text()) for text in axes.texts}
    assert texts == {(0, "images"), (1, "30"), (2, "19"), (4, "3"), (4, "–")}


def test_a_number_has_its_interval_or_is_a_dash() -> None:
    assert with_interval(Estimate(0.12345, 0.1, 0.2, "")) == "0.123 (0.100--0.200)"
    assert with_interval(Estimate(0.12345, None, None, "")) == "0.123"
    assert with_interval(Estimate(None, None, None, "undefined")) == "--"


def test_names_are_escaped_for_latex() -> None:
    table = pd.DataFrame({"n": ["1", "2"]}, index=pd.Index([NASTY["akiec"], NASTY["bcc"]], name="class"))
    assert as_latex(table).splitlines()[4:6] == [
        r"{[2em] \$\textbackslash frac\{ \textbackslash \textbackslash \space \# \& "
        r"\textasciitilde \textasciicircum \_\%} & 1 \\",
        r"{* a|b`<i> \textbackslash input\{secret\}} & 2 \\",
    ]


def test_the_tables_are_tabulars_that_latex_takes(nasty: Path, tmp_path: Path) -> None:
    for name in TABLES:
        lines = (nasty / FIGURES / f"{name}.tex").read_text(encoding="utf-8").splitlines()
        code = [re.sub(r"\\[\\{}$&#_%]", "", line) for line in lines if not line.startswith("%")]
        columns = len(code[0].split("{")[-1]) - 1
        assert (code[0][:15], code[-1]) == (r"\begin{tabular}", r"\end{tabular}")
        for line in code:
            assert line.count("{") == line.count("}")
            assert line.startswith("\\") or (line.count("&"), set("$#_%^~") & set(line)) == (columns - 1, set())
    if shutil.which("pdflatex") is None:  # where there is LaTeX, it has the last word
        return
    inputs = "\n\n".join(rf"\input{{{nasty / FIGURES / name}.tex}}" for name in TABLES)
    packages = r"\usepackage{booktabs}\usepackage[T1]{fontenc}"
    text = rf"\documentclass{{article}}{packages}\begin{{document}}\small {inputs} \end{{document}}"
    (tmp_path / "tables.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert result.returncode == 0, result.stdout[-2000:]


def test_every_row_of_the_tables_has_every_number(nasty: Path) -> None:
    test = read_metrics(nasty / "metrics/metrics.json")["test"]
    text = {name: (nasty / FIGURES / f"{name}.tex").read_text(encoding="utf-8") for name in TABLES}
    assert test.balanced_accuracy_ci is not None
    low, high = test.balanced_accuracy_ci
    assert f"{test.balanced_accuracy:.3f} ({low:.3f}--{high:.3f})" in text["metrics"]
    rows = [line for line in text["classes"].splitlines() if line.endswith(r"\\")][1:]
    assert len(rows) == 5
    for row, values in zip(rows, test.per_class.values(), strict=True):
        assert f"}} & {values.support} & {values.recall:.2f} (" in row
        assert f"& {values.auc:.2f}" in row
    assert r"{sex: <i>[x] \& 50 \%} & " in text["subgroups"]

"""The page and the model card of real runs: what they say and what they leave out."""

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from dermoscopy.data.listing import write_listing
from dermoscopy.data.sources.directory import ListedFile
from dermoscopy.data.tables import read_table, write_table
from dermoscopy.page.contents import DEFAULTS
from dermoscopy.page.gallery import choose_examples, draw_examples
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.metrics import read_metrics, write_metrics
from stages import evaluate, report, train
from tests.support.finished_run import PARAMS, fill_relabelled_run, run_stages
from tests.support.params_file import write_params

VOID = {"meta", "link", "img", "br", "line", "circle", "path"}


class Outline(HTMLParser):
    """The elements of a page, and whether each that is opened is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " "
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def write_report(project: Path) -> None:
    """Run the stage again."""
    run_stages(project, [report])


def page_of(folder: Path) -> Outline:
    return Outline((folder / "report/index.html").read_text(encoding="utf-8"))


def pictures_of(folder: Path) -> list[str]:
    """Return the images of the gallery in their order, without the similar ones."""
    return re.findall(r'alt="([^",]+), [^"]+, taken for ', (folder / "report/index.html").read_text(encoding="utf-8"))


def test_every_element_is_closed_and_every_id_is_unique(finished: Path, many_classes: Path) -> None:
    for folder in (finished, many_classes):
        page = page_of(folder)
        assert page.open == []
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        links = {str(attributes["href"]) for attributes in page.attributes("a") if "download" not in attributes}
        assert {link.removeprefix("#") for link in links} <= set(ids)


def test_the_page_is_one_file_without_scripts_or_addresses(finished: Path) -> None:
    page = page_of(finished)
    assert page.attributes("script") == []
    sources = [str(attributes["src"]) for attributes in page.attributes("img")]
    assert len(sources) >= 20
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?:", (finished / "report/index.html").read_text(encoding="utf-8"))


def test_the_page_stays_small(finished: Path, many_classes: Path) -> None:
    assert (finished / "report/index.html").stat().st_size < 1_000_000
    assert (many_classes / "report/index.html").stat().st_size < 3_000_000


def test_page_and_model_card_show_every_headline_metric(finished: Path) -> None:
    page, card = page_of(finished).text, (finished / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    metrics = json.loads((finished / "metrics/metrics.json").read_text(encoding="utf-8"))
    for values in metrics.values():
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "log_loss"):
            assert f"{values[name]:.3f}" in page
            assert f"{values[name]:.3f}" in card
    for name, values in metrics["test"]["per_class"].items():
        assert f"| {name} | {values['support']} | {values['recall']:.3f}" in card


def test_the_page_shows_every_param(finished: Path) -> None:
    html = (finished / "report/index.html").read_text(encoding="utf-8")
    text = Outline(html).text
    written = re.search(r"<summary>params.yaml</summary>\s*<pre><code>(.*?)</code>", html, re.DOTALL)
    assert written is not None
    block = yaml.safe_load(unescape(written[1]))
    assert block == load_params(finished / "params.yaml").model_dump()
    for values in block.values():
        assert all(key in text for key in values)


def test_defaults_are_those_of_params_yaml() -> None:
    assert load_params(DEFAULTS) == load_params(PROJECT / "params.yaml")


def test_params_that_differ_from_the_default_are_told_with_it(finished: Path) -> None:
    text = " ".join(page_of(finished).text.split())
    told = text.split("Differs from the defaults of the project:")[1].split("All params")[0].split()
    assert " ".join(told) == (
        "data.source: sample default kaggle data.sample_images: 100 default 300 backbone.name: MobileNetV2 default "
        "InceptionResNetV2 backbone.weights: random default imagenet backbone.image_size: 64 default 224 "
        "augmentation.views: 1 default 2 train.epochs: 20 default 150"
    )


def test_the_head_of_the_page_names_data_model_and_the_sizes_of_the_parts(finished: Path) -> None:
    text = " ".join(page_of(finished).text.split())
    assert "MobileNetV2 on drawn images A frozen backbone" in text
    split = read_table(finished / "data/split.csv")["part"].value_counts()
    assert f"Parts train {split['train']}, validation {split['validation']}, test {split['test']} Model" in text
    assert "Experiment" not in text
    assert "newest file" not in text


def test_an_experiment_is_named_and_changes_nothing_else(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (project / "report/MODEL_CARD.md").read_text(encoding="utf-8"), pictures_of(project)
    monkeypatch.setenv("DVC_EXP_NAME", "rusty-<b>")
    write_report(project)
    text = " ".join(page_of(project).text.split())
    assert "Experiment rusty-<b> Run" in text
    assert "byte for byte, but for the name of the experiment." in text
    assert ((project / "report/MODEL_CARD.md").read_text(encoding="utf-8"), pictures_of(project)) == before


def test_the_day_of_the_newest_file_of_a_folder_is_shown_and_that_of_a_storage_is_not(project: Path) -> None:
    day = int(datetime(2024, 5, 17, 23, 59, tzinfo=UTC).timestamp() * 1e9)
    rows = [("table", "../a/a.csv", 1, day), ("image", "../a/a.jpg", 1, day - 10**15)]
    write_listing([ListedFile(*row) for row in rows])
    for directory, expected in (("../my images", True), ("s3://bucket/my images", False)):
        write_params(project, PARAMS | {"data": {"source": "directory", "directory": directory}})
        write_report(project)
        text = " ".join(page_of(project).text.split())
        assert "MobileNetV2 on my images" in text
        assert (", its newest file of 2024-05-17" in text) == expected
        assert ("byte for byte, but for the date of the newest file." in text) == expected


def test_images_that_were_wrong_have_the_most_similar_training_images(project: Path) -> None:
    lists = re.findall(r'<ul class="similar".*?</ul>', (project / "report/index.html").read_text(), re.DOTALL)
    wrong = re.findall(r"Wrong: (?:\w+, )?taken for", page_of(project).text)
    assert len(lists) == len(wrong) > 0
    parts, manifest = (read_table(project / f"data/{name}.csv").set_index("image_id") for name in ("split", "manifest"))
    for text in lists:
        shown = r'<li title="([^"]+)"><img [^>]+><span class="name">(\w+)</span> <small>-?\d\.\d\d</small>'
        images = re.findall(shown, text)
        assert len(images) == 6
        for image_id, label in images:
            assert parts.loc[image_id, "part"] == "train"
            assert manifest.loc[image_id, "label"] == label


def test_small_subgroups_are_folded_away_and_counted(project: Path) -> None:
    (project / "metrics/subgroups.csv").write_text(
        "part,variable,group,images,lesions,balanced_accuracy,low,high,note\n"
        "test,sex,male,30,28,0.61,0.52,0.73,\ntest,sex,female,20,20,0.5,,,\ntest,sex,other,19,3,,,,under 20 images\n"
    )
    write_report(project)
    page = (project / "report/index.html").read_text()
    folded = re.findall(r"<summary>1 of 3 groups have under 20 images</summary>.*?</details>", page, re.DOTALL)
    assert ["other" in text and "male" not in text for text in folded] == [True]


def test_page_and_model_card_say_that_this_is_not_a_medical_device(finished: Path) -> None:
    for name in ("index.html", "MODEL_CARD.md"):
        assert "not a medical device" in (finished / "report" / name).read_text(encoding="utf-8")


def test_each_image_and_each_drawing_says_in_words_what_it_shows(finished: Path) -> None:
    page = page_of(finished)
    assert all(attributes["alt"] for attributes in page.attributes("img"))
    for attributes in page.attributes("svg"):
        assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_names_of_classes_are_shown_as_they_are_and_never_obeyed(many_classes: Path, nasty_names: list[str]) -> None:
    page = page_of(many_classes)
    assert page.attributes("script") == []
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    for name in nasty_names:
        assert name in page.text
    card = (many_classes / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    assert "<script" not in card
    assert not re.search(r"(?<!\\)\[x(?<!\\)\]", card)
    assert "\n| a\\|b\\`\\*\\_\\# |" in card


def test_the_same_input_gives_the_same_bytes(project: Path) -> None:
    first = {path.name: path.read_bytes() for path in (project / "report").iterdir()}
    write_report(project)
    assert {path.name: path.read_bytes() for path in (project / "report").iterdir()} == first


def test_values_that_could_not_be_computed_are_dashes_with_their_reason(project: Path) -> None:
    metrics = json.loads((project / "metrics/metrics.json").read_text(encoding="utf-8"))
    test = metrics["test"]
    for name in ("ece_calibrated", "log_loss_calibrated", "temperature"):
        del test[name]
    test.update(macro_auc=None, balanced_accuracy_ci=None, screening=None, notes=[])
    test["per_class"]["nv"].update(auc=None, recall=None, support=1)
    (project / "metrics/metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    header = "part,variable,group,images,lesions,balanced_accuracy,low,high,note\n"
    (project / "metrics/subgroups.csv").write_text(header, encoding="utf-8")
    write_report(project)
    text = " ".join(page_of(project).text.split())
    assert "– undefined here" in text
    assert "– too few images" in text
    assert re.search(r"expected calibration error \d\.\d+ – not computed", text)
    assert "malignant against benign: – cannot be computed here" in text
    assert "– None: no sex, age, localization or kind of diagnosis is known" in text
    assert not re.search(r"\b(None(?!:)|nan|NaN|Undefined)\b", text)


def test_intervals_calibration_screening_and_subgroups_are_shown_where_they_were_computed(project: Path) -> None:
    metrics = read_metrics()
    test = metrics["test"]
    assert test.screening is not None
    changes = {
        "balanced_accuracy_ci": (0.1234, 0.5678),
        "ece": 0.0411,
        "ece_calibrated": 0.0277,
        "temperature": 1.379,
        "notes": ["a <b>note</b>"],
        "per_class": test.per_class
        | {"mel": test.per_class["mel"].model_copy(update={"recall": 0.5, "recall_ci": (0.31, 0.64)})},
        "screening": test.screening.model_copy(update={"auc": 0.7771, "auc_ci": (0.6661, 0.8881)}),
    }
    write_metrics(metrics | {"test": test.model_copy(update=changes)})
    (project / "metrics/subgroups.csv").write_text(
        "part,variable,group,images,lesions,balanced_accuracy,low,high,note\n"
        "validation,sex,male,30,30,0.91,0.8,0.95,\n"
        "test,sex,male,30,28,0.61,0.52,0.73,\n"
        "test,sex,<i>,3,3,,,,under 20 images\n",
        encoding="utf-8",
    )
    write_report(project)
    page, card = page_of(project), (project / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    text = " ".join(page.text.split())
    for expected in ("0.123–0.568", "0.041", "0.028", "temperature 1.38", "0.31–0.64", "0.777 0.666–0.888"):
        assert expected in text
    assert "male 30 28 0.61 0.52–0.73" in text
    assert "<i> under 20 images 3 3 – undefined here" in text
    assert "0.91" not in text.split("Subgroups")[2]
    assert page.attributes("b") == page.attributes("i") == []
    for expected in ("(0.123–0.568)", "| sex | male | 30 | 0.610 (0.520–0.730) |", "- a &lt;b&gt;note&lt;/b&gt;"):
        assert expected in card


def test_without_a_gallery_no_network_is_run(project: Path) -> None:
    write_params(project, PARAMS | {"report": {"gallery": 0}})
    (project / "models/backbone/backbone.xml").unlink()
    write_report(project)
    assert page_of(project).attributes("img") == []


def test_a_map_shows_the_head_that_is_scored(project: Path) -> None:
    """Without other views, the probability that the map adds up to is the one that was scored."""
    chosen = choose_examples(read_table(Path("data/predictions.csv")), 2)
    examples = draw_examples(chosen, read_table(Path("data/manifest.csv")))
    assert len(examples) == len(chosen) > 10
    for example in examples:
        assert example.probability_alone == pytest.approx(example.probability, rel=1e-3)


def test_an_image_that_changed_since_it_was_scored_stops_the_stage(project: Path) -> None:
    before = (project / "report/index.html").read_bytes()
    for path in (project / "data/raw/images").iterdir():
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="has changed since"):
        write_report(project)
    assert (project / "report/index.html").read_bytes() == before


def test_images_whose_files_are_not_here_are_left_out_and_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = pictures_of(project)
    chosen = list(dict.fromkeys(shown))
    for image_id in chosen[:2]:
        (file,) = (project / "data/raw/images").glob(f"{image_id}.*")
        file.unlink()
    write_report(project)
    line = f"2 of {len(chosen)} images are not shown: their files are not here, such as data/raw/images/{chosen[0]}."
    assert line in page_of(project).text
    assert f"warning: report: {line}" in capsys.readouterr().err
    assert pictures_of(project) == [image_id for image_id in shown if image_id not in chosen[:2]]


def test_a_project_without_its_images_has_a_page_without_pictures(project: Path) -> None:
    shutil.rmtree(project / "data/raw")
    write_report(project)
    page = page_of(project)
    assert page.attributes("img") == []
    assert re.search(r"(\d+) of \1 images are not shown", page.text)
    assert "Not shown: the files are not here." in page.text


def with_data(project: Path, source: str, dataset: str | None, **columns: str | list[str]) -> tuple[str, str]:
    """Write the report of a run on such data, and return the text of the page and of the card in one line each."""
    write_params(project, PARAMS | {"data": {"source": source, "directory": "images"}})
    statistics = json.loads((project / "metrics/data.json").read_text(encoding="utf-8"))
    (project / "metrics/data.json").write_text(json.dumps(statistics | {"dataset": dataset}), encoding="utf-8")
    write_table(read_table(Path("data/manifest.csv")).assign(**columns), Path("data/manifest.csv"))
    write_report(project)
    card = (project / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    return " ".join(page_of(project).text.split()), " ".join(card.split())


OF_HAM10000 = ("HAM10000", "CC BY-NC", "Vienna", "Queensland", "light skin", "Cases were chosen")


@pytest.mark.parametrize("source", ["sample", "directory"])
def test_what_is_true_of_ham10000_is_not_said_of_other_images(project: Path, source: str) -> None:
    page, card = with_data(project, source, None, dx_type="")
    for words in (*OF_HAM10000, "istopatholog"):
        assert words not in page
        assert words not in card
    assert ("Not known here: where the images come from" in card) == (source == "directory")


@pytest.mark.parametrize("dataset", ["HAM10000", "ISIC 2018"])
@pytest.mark.parametrize("source", ["kaggle", "directory"])
def test_ham10000_and_isic_2018_are_named_with_their_licence_and_limits(
    project: Path, source: str, dataset: str
) -> None:
    page, card = with_data(project, source, dataset)
    assert "CC BY-NC 4.0" in page
    assert all(words in card for words in OF_HAM10000)
    assert ("Turkey" in card) == (dataset == "ISIC 2018")
    assert "Not known here" not in card


def test_how_the_diagnoses_were_made_is_counted_where_it_is_known(project: Path) -> None:
    _, card = with_data(project, "directory", None, dx_type=["histo"] * 60 + ["follow_up"] * 40)
    assert "in shares of the images: histo 60 %, follow_up 40 %. Without histopathology" in card
    assert "how the diagnoses were made," not in card


def test_where_no_lesion_is_known_none_is_counted(project: Path) -> None:
    write_params(project, PARAMS | {"split": {"group": "auto"}})
    page, card = with_data(project, "directory", None, lesion_id="")
    assert "100 images, lesions unknown." in page
    assert "Images were split one by one, because neither lesions nor patients are known" in page
    assert "Intervals count images" in page
    assert "100 images, lesions unknown. Groups of equal files: 0;" in card
    assert "Split by image, stratified by class. Images of one lesion may be in two parts" in card
    assert "| images | train |" in card
    assert not re.search(r"images of \d+ lesions", page + card)


def test_patients_are_counted_and_the_split_is_by_them_where_they_are_known(project: Path) -> None:
    patients = [f"p{number // 4}" for number in range(100)]
    page, card = with_data(project, "directory", None, lesion_id="", patient_id=patients)
    assert "100 images of 25 patients, lesions unknown. All images of a patient are in one part." in page
    assert "Intervals count patients, not images." in page
    assert "and below them their patients." in page
    assert "Split by patient, stratified by class." in card
    assert "| images (patients) | train |" in card


def test_two_classes_may_be_called_0_and_1(finished: Path, tmp_path: Path) -> None:
    fill_relabelled_run(tmp_path, finished, ["0", "1"])
    page = page_of(tmp_path)
    assert "nobody says whether 0, 1 are malignant: set evaluate.malignant" in page.text
    card = (tmp_path / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    assert re.search(r"\n\| 0 \|( \d+ \(\d+\) \|){4}\n\| 1 \|", card)


@pytest.mark.parametrize("patience", [1, 1000])
def test_the_page_says_when_training_ended_before_patience_ran_out(project: Path, patience: int) -> None:
    path = Path("metrics/training/plots/metrics/eval/loss.tsv")
    epochs = len(pd.read_csv(path, sep="\t"))
    write_params(project, PARAMS | {"train": {"epochs": epochs, "patience": patience}})
    losses = pd.read_csv(path, sep="\t").assign(loss=[1.0] * (epochs - 2) + [0.5, 0.6])
    losses.to_csv(path, sep="\t", index=False)
    write_report(project)
    limit = f"Training ended at its limit, train.epochs={epochs}, before the loss had stopped falling for {patience}"
    assert (limit in " ".join(page_of(project).text.split())) == (patience == 1000)


def test_the_command_in_page_and_card_finds_the_commits_that_hold_the_run_and_no_other(
    finished: Path, tmp_path: Path
) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    def commit(text: str) -> str:
        (tmp_path / "report/MODEL_CARD.md").write_text(text, encoding="utf-8")
        git("add", "--all")
        git("commit", "--quiet", "--message", "a run")
        return git("rev-parse", "HEAD")

    card = (finished / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    (git .*)$", card, re.MULTILINE)
    assert command in page_of(finished).text
    run = re.search(r"git grep -l (\w{16}) ", command)
    assert run is not None
    git("init", "--quiet")
    (tmp_path / "report").mkdir()
    commit(card.replace(run[1], "0" * 16))
    first = commit(card)
    last = commit(card.replace(run[1], "1" * 16))
    experiment = commit(card + "\n")  # as DVC keeps one: no branch, a ref of its own
    git("update-ref", "refs/exps/ab/cd/some-exp", experiment)
    git("reset", "--quiet", "--hard", last)
    shell = ["sh", "-c", command]
    output = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert set(output.split()) == {f"{name}:report/MODEL_CARD.md" for name in (first, experiment)}


@pytest.mark.parametrize(
    "path", ["metrics/metrics.json", "metrics/data.json", "metrics/training/plots/metrics/eval/loss.tsv"]
)
def test_an_input_that_is_missing_or_broken_is_named(project: Path, path: str) -> None:
    (project / path).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=path):
        write_report(project)
    (project / path).unlink()
    with pytest.raises(DataError, match=path):
        write_report(project)


@pytest.mark.slow
def test_the_gain_of_clinical_data_is_against_the_head_that_is_trained_without_them(project: Path, keras: Any) -> None:
    settings = {"epochs": 5, "seed": 3}
    write_params(project, PARAMS | {"train": settings})
    run_stages(project, [train, evaluate])
    without = {tta: Path(f"data/predictions{name}.csv").read_text() for tta, name in (("false", ""), ("true", "_tta"))}
    assert without["false"] != without["true"]
    alone = read_metrics()["test"].balanced_accuracy
    assert read_table(Path("data/predictions_image_only.csv")).empty

    write_params(project, PARAMS | {"train": settings | {"clinical": ["age", "sex", "localization"]}})
    run_stages(project, [train, evaluate, report])
    header, *lines = Path("data/predictions_image_only.csv").read_text().splitlines()
    for tta, text in without.items():
        rows = [line.removesuffix(f",{tta}") for line in lines if line.endswith(f",{tta}")]
        assert [header.removesuffix(",tta"), *rows] == text.splitlines()
    assert Path("data/predictions_tta.csv").read_text() != without["true"]

    gained = read_metrics()["test"].balanced_accuracy
    overall = pd.read_csv("metrics/clinical_gain.csv").iloc[0]
    assert overall[["image_only", "with_clinical"]].tolist() == pytest.approx([alone, gained])
    images = read_metrics()["test"].support
    assert f" {images} {alone:.2f} {gained:.2f} " in " ".join(page_of(project).text.split())
    assert f", from {alone:.3f} with a head trained on the image alone to {gained:.3f}." in (
        project / "report/MODEL_CARD.md"
    ).read_text(encoding="utf-8")


GAINS = """part,variable,group,images,lesions,image_only,with_clinical,gain,low,high
test,overall,all images,60,50,0.5,0.561,0.061,-0.0211,0.1432
test,sex,<i>,30,28,0.5,0.4001,-0.0999,-0.2,-0.01
test,sex,male,11,10,0.5,0.9,0.4,,
"""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("", "none gains, and sex &lt;i&gt; (30 images) loses most, -0.100 (-0.200 to -0.010)."),
        ("test,age_band,75+,20,20,0.5,0.7,0.2,,\n", "age band 75+ (20 images) gains most, +0.200, and sex &lt;i&gt;"),
    ],
    ids=["nobody gains", "one gains"],
)
def test_the_gain_of_each_subgroup_and_the_largest_of_many_images_are_shown(
    with_clinical: Path, more: str, words: str
) -> None:
    (with_clinical / "metrics/clinical_gain.csv").write_text(GAINS + more, encoding="utf-8")
    write_report(with_clinical)
    page = " ".join(page_of(with_clinical).text.split())
    assert "all images 60 0.50 0.56 +0.06 -0.02 to +0.14 sex <i> 30 0.50 0.40 -0.10 -0.20 to -0.01" in page
    assert "male under 20 images 11 0.50 0.90 +0.40" in page
    card = (with_clinical / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    assert "of all test images: +0.061 (-0.021 to +0.143), from 0.500 with" in card
    assert f"Of the subgroups of 20 images or more, {words}" in card


def test_without_clinical_data_neither_page_nor_card_speaks_of_a_gain(finished: Path) -> None:
    page, card = page_of(finished).text, (finished / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    assert "image alone, with the same params" not in page
    assert "clinical data" not in card


def test_the_page_says_what_clinical_values_add_and_what_they_hide(with_clinical: Path) -> None:
    page = (with_clinical / "report/index.html").read_text()
    for words in ("Clinical data", "age: ten years more", "sex: male", "have no place in the map"):
        assert words in page
    card = (with_clinical / "report/MODEL_CARD.md").read_text()
    assert "squeezed to a square; and age, sex, where known. Out:" in card
    assert "they can hide what the image does not show" in card

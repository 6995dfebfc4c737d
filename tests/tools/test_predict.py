"""The command that predicts new images: what it says, where it writes, and what a terminal shows."""

import os
import pty
import shutil
import subprocess
import sys
import termios
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.runtime.workspace import PROJECT
from tests.support.classifier_project import compute_features, write_classifier
from tests.support.clinical import make_encoder
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import write_params
from tests.support.photographs import write_photographs
from tools.predict import classes_to_sum, main, views_in_words, with_sum

COLUMNS = ["image", "predicted", "p_bkl", "p_mel", "p_nv"]


def test_the_views_that_are_averaged_are_said_and_whether_the_report_does_so() -> None:
    mean, alone = "the mean over 3 views of each image", "each image alone, without views"
    assert views_in_words({None: 3}, {None: 3}) == f"{mean}, as the report scores (evaluate.tta)"
    assert views_in_words({None: 1}, {None: 1}) == f"{alone}, as the report scores (evaluate.tta)"
    assert views_in_words({None: 3}, {None: 1}) == f"{mean}; the report scores {alone} (evaluate.tta)"
    assert views_in_words({None: 1}, {None: 3}) == f"{alone}; the report scores {mean} (evaluate.tta)"


def test_of_several_models_those_whose_report_scores_other_views_are_named() -> None:
    mean, alone = "the mean over 3 views of each image", "each image alone, without views"
    either = "the mean over 1 or 3 views of each image"
    mixed: dict[str | None, int] = {"a": 3, "b": 1}
    every: dict[str | None, int] = {"a": 3, "b": 3}
    none: dict[str | None, int] = {"a": 1, "b": 1}
    assert views_in_words(every, every) == f"{mean}, as their reports score (evaluate.tta)"
    assert views_in_words(mixed, mixed) == f"{either}, as their reports score (evaluate.tta)"
    assert views_in_words(every, mixed) == f"{mean}; the report of b scores {alone} (evaluate.tta)"
    assert views_in_words(none, mixed) == f"{alone}; the report of a scores {mean} (evaluate.tta)"
    assert views_in_words(none, every) == f"{alone}; the report of a, b scores {mean} (evaluate.tta)"


@pytest.mark.parametrize(
    ("classes", "named", "expected"),
    [
        (["akiec", "bcc", "mel", "nv"], None, ["akiec", "bcc", "mel"]),
        (["akiec", "bcc", "mel", "nv"], ["nv", "mel", "scc"], ["mel", "nv"]),
        (["benign", "malignant"], None, ["malignant"]),
    ],
)
def test_the_classes_that_screening_must_find_are_summed_and_named(
    classes: list[str], named: list[str] | None, expected: list[str]
) -> None:
    assert classes_to_sum(classes, named) == (
        expected,
        f"p_malignant is the sum of {', '.join(expected)}, as the screening metrics take it",
    )


@pytest.mark.parametrize(
    ("classes", "named", "reason"),
    [
        (["mel", "odd", "strange"], None, "for odd, strange may be malignant or not"),
        (["nv", "bkl"], None, "no class of the model is malignant"),
        (["nv", "mel"], [], "no class of the model is malignant"),
        (["malignant", "mel", "nv"], None, "a class has the name malignant"),
    ],
)
def test_where_the_sum_would_mislead_it_is_left_out_and_the_reason_is_said(
    classes: list[str], named: list[str] | None, reason: str
) -> None:
    summed, explanation = classes_to_sum(classes, named)
    assert summed == []
    assert explanation.startswith("there is no column p_malignant: ")
    assert reason in explanation


def test_the_sum_is_a_column_of_its_own() -> None:
    table = pd.DataFrame({"image": ["a"], "p_mel": [0.25], "p_nv": [0.5], "p_bcc": [0.125]}).astype({"p_mel": "f4"})
    assert with_sum(table, ["mel", "bcc"])["p_malignant"].tolist() == [0.375]
    pd.testing.assert_frame_equal(with_sum(table, []), table)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Path:
    """A project with a classifier and two photographs, one of them with a name that few consoles can show."""
    folder = tmp_path_factory.mktemp("project")
    write_params(folder, {"evaluate": {"malignant": ["mel", "bkl"]}})
    (folder / "stdout").symlink_to("/dev/fd/1")
    first, second = photographs = write_photographs(folder / "images", 2)
    features = compute_features(backbones["first"], photographs)
    write_classifier(folder, backbones["first"], features.reshape(-1, features.shape[-1]))
    first.rename(folder / "images/a.jpg")
    second.rename(folder / "images/皮膚.jpg")
    return folder


def predict(project: Path, *options: str, status: int = 0) -> "subprocess.CompletedProcess[bytes]":
    """Run the command for the folder of images, on a console of ASCII."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "tools.predict", *options]
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, check=False, timeout=120)
    assert result.returncode == status, result.stderr.decode()
    return result


def test_csv_on_standard_output_is_utf_8_and_alone_there(project: Path) -> None:
    result = predict(project, "images", "--csv", "-")
    table = pd.read_csv(BytesIO(result.stdout))
    assert list(table.columns) == [*COLUMNS, "p_malignant"]
    assert list(table["image"]) == ["images/a.jpg", "images/皮膚.jpg"]
    np.testing.assert_allclose(table["p_malignant"], table["p_mel"] + table["p_bkl"], atol=1e-7)
    assert result.stderr.decode().splitlines() == [
        "predict: the mean over 3 views of each image, as the report scores (evaluate.tta)",
        "predict: p_malignant is the sum of bkl, mel, as the screening metrics take it",
        "predict: 2 images are in standard output",
    ]


def test_the_images_alone_are_predicted_where_the_user_says_so(project: Path) -> None:
    alone = predict(project, "images", "--csv", "stdout", "--no-tta")
    assert list(pd.read_csv(BytesIO(alone.stdout))["image"]) == ["images/a.jpg", "images/皮膚.jpg"]
    assert (project / "stdout").is_symlink()
    assert alone.stderr.startswith(b"predict: each image alone, without views; the report scores the mean over 3 views")


@pytest.mark.slow
def test_models_of_the_workspace_give_its_own_table_and_say_what_it_is(project: Path) -> None:
    plain = predict(project, "images", "--csv", "-")
    for names, words in {
        ("workspace",): "the model of workspace",
        ("workspace", "workspace"): "the mean of 2 models: workspace, workspace",
    }.items():
        averaged = predict(project, "images", "--csv", "-", "--models", *names)
        assert averaged.stdout == plain.stdout
        assert averaged.stderr.decode().splitlines() == [f"predict: {words}", *plain.stderr.decode().splitlines()]


def test_a_console_that_lacks_the_letters_of_a_name_loses_nothing(project: Path) -> None:
    header, first, second = predict(project, "images").stdout.decode("ascii").splitlines()
    assert header.split() == [*COLUMNS, "p_malignant"]
    assert first.split()[0] == "images/a.jpg"
    assert second.split()[0] == r"images/\u76ae\u819a.jpg"


def test_a_missing_folder_is_one_line_before_any_work(project: Path) -> None:
    result = predict(project, "images", "--csv", "missing/new.csv", status=1)
    missing = project.resolve() / "missing"
    assert result.stderr.decode() == f"error: missing/new.csv: the folder {missing} does not exist: make it first\n"


def test_where_no_image_can_be_read_the_old_table_stands(project: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    (tmp_path / "old.csv").write_text("old")
    result = predict(project, str(tmp_path / "bad.jpg"), "--csv", str(tmp_path / "old.csv"), status=1)
    assert result.stderr.decode().splitlines()[-1] == "error: no image could be read, see above"
    assert (tmp_path / "old.csv").read_text() == "old"


@pytest.fixture(scope="module")
def clinical_project(project: Path, tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Path:
    """The same project with a head that uses age, sex and localization."""
    folder = tmp_path_factory.mktemp("clinical")
    shutil.copytree(project / "images", folder / "images")
    write_params(folder, {"evaluate": {"malignant": ["mel", "bkl"]}})
    features = compute_features(backbones["first"], sorted((folder / "images").iterdir()))
    encoder = make_encoder(age=(50, 15), sex=["female", "male"], localization=["back", "face"])
    write_classifier(folder, backbones["first"], features.reshape(-1, features.shape[-1]), encoder)
    return folder


def predicted(project: Path, *options: str) -> tuple[NDArray[np.float64], list[str]]:
    """Return the probabilities, (images, classes), of the folder of images, and what is said of clinical variables."""
    result = predict(project, "images", "--csv", "-", *options)
    said = [line for line in result.stderr.decode().splitlines() if line.startswith("predict: ")]
    return pd.read_csv(BytesIO(result.stdout)).filter(regex="^p_").to_numpy(), said[2:-1]


@pytest.mark.slow
def test_clinical_variables_are_given_for_all_images_or_by_a_table(clinical_project: Path) -> None:
    unknown, said = predicted(clinical_project)
    assert said == ["predict: age, sex and localization are unknown: the head was trained with them"]
    of_all, said = predicted(clinical_project, "--age", "80", "--sex", " Male", "--localization", "back")
    assert said == []
    assert (np.abs(of_all - unknown).max(axis=1) > 1e-3).all()
    (clinical_project / "known.csv").write_text("isic_id,dx,age_approx,gender,location\na,nv,80,male,back\n")
    of_table, said = predicted(clinical_project, "--clinical", "known.csv")
    assert said == ["predict: unknown for some of the 2 images: age of 1, sex of 1, localization of 1"]
    np.testing.assert_allclose(of_table, [of_all[0], unknown[1]], atol=1e-6)


@pytest.mark.slow
def test_a_value_that_the_head_never_saw_is_said_and_counts_as_unknown(clinical_project: Path) -> None:
    never, said = predicted(clinical_project, "--age", "80", "--sex", "male", "--localization", "elbow")
    assert said == [
        "predict: localization elbow counts as unknown, for the head was not trained with it; it knows back, face"
    ]
    unknown, said = predicted(clinical_project, "--age", "80", "--sex", "male")
    assert said == ["predict: localization is unknown: the head was trained with it"]
    np.testing.assert_allclose(never, unknown, atol=1e-6)


@pytest.mark.slow
def test_a_head_without_clinical_variables_does_not_use_them(project: Path) -> None:
    given, said = predicted(project, "--age", "80", "--sex", "male")
    assert said == ["predict: age and sex are not used: the head was trained without them (train.clinical)"]
    np.testing.assert_array_equal(given, predicted(project)[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--age", "121"], "argument --age: '121' is not an age of 0 to 120 years"),
        (["--age", "-1"], "argument --age: '-1' is not an age of 0 to 120 years"),
        (["--age", "nan"], "argument --age: 'nan' is not an age of 0 to 120 years"),
        (["--age", "old"], "argument --age: 'old' is not an age of 0 to 120 years"),
        (["--clinical", "a.csv", "--age", "0"], "--clinical has the values of each image: leave out --age, --sex and"),
    ],
)
def test_clinical_options_that_make_no_sense_are_refused(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", "images", *options])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"error: {message}" in capsys.readouterr().err


def test_a_clinical_table_that_cannot_be_used_is_one_line_before_any_work(project: Path) -> None:
    result = predict(project, "images", "--clinical", "missing.csv", status=1)
    assert result.stderr.decode() == "error: label table missing.csv cannot be read: No such file or directory\n"


@pytest.fixture(scope="module")
def trained_project(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Path:
    """A project with the features of the images that it was trained on, and of those that were held out."""
    folder = tmp_path_factory.mktemp("trained")
    files = sorted(write_photographs(folder / "images", 14))
    write_params(folder, {})
    features = compute_features(backbones["first"], files)
    write_classifier(folder, backbones["first"], features.reshape(-1, features.shape[-1]))
    (folder / "data").mkdir()
    features[10:] = features[1]  # of the held-out ones, which decide the limit
    fingerprint = read_backbone_info(backbones["first"]).fingerprint
    write_feature_folder(folder / "data/features", features, fingerprint)
    images = pd.DataFrame({"image_id": [f"image_{number}" for number in range(14)]})
    manifest = images.assign(path=list(map(str, files)), label=["nv", "mel"] * 7, sha256="0")
    manifest.to_csv(folder / "data/manifest.csv", index=False)
    images.assign(part=["train"] * 10 + ["validation"] * 4).to_csv(folder / "data/split.csv", index=False)
    return folder


@pytest.mark.slow
def test_the_most_similar_training_images_are_named_and_what_is_unlike_all_is_warned_of(trained_project: Path) -> None:
    options = [*map(str, sorted((trained_project / "images").iterdir())[:10]), "--similar"]
    result = predict(trained_project, *options, "--csv", "-")
    table = pd.read_csv(BytesIO(result.stdout))
    assert list(table.filter(regex=r"^similar_\d$").columns) == [f"similar_{rank}" for rank in range(1, 7)]
    assert list(table["similar_1"]) == [f"image_{number}" for number in range(10)]
    assert list(table["similar_1_label"]) == ["nv", "mel"] * 5
    np.testing.assert_allclose(table["similar_1_cosine"], 1, atol=1e-4)
    assert (table["similar_2_cosine"] < 1).all()
    unlike = table["image"][table["distance"] > table["distance"][1] + 1e-3]
    assert 0 < len(unlike) < 10
    said = [line.split(" (")[0] for line in result.stderr.decode().splitlines() if line.startswith("warning: ")]
    assert said == [f"warning: predict: {image} is unlike all training images" for image in unlike]
    lines = predict(trained_project, *options).stdout.decode().splitlines()[-10:]
    for number, (image, line) in enumerate(zip(table["image"], lines, strict=True)):
        assert line.startswith(f"{image} is most similar to {['nv', 'mel'][number % 2]} image_{number} (1.00), ")
        assert line.count(", ") == 5


def test_similar_images_of_other_models_are_refused(project: Path) -> None:
    result = predict(project, "images", "--similar", "--models", "workspace", status=2)
    assert b"error: --similar searches the training images of the workspace: leave out --models" in result.stderr


def test_similar_images_need_the_features(project: Path) -> None:
    result = predict(project, "images", "--similar", status=1)
    assert result.stderr.decode().splitlines()[-1].startswith("error: data/features cannot be read (")
    assert b"run dvc repro features" in result.stderr


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows, of what was written to it."""
    lines = []
    for line in written.replace("\r\n", "\n").split("\n"):
        shown = ""
        for text in line.split("\r"):  # back at the start of the line, over what is there
            shown = text + shown[len(text) :]
        lines.append(shown.rstrip())
    return lines


@pytest.mark.parametrize("table", [True, False])
def test_on_a_terminal_a_bar_shows_how_far_it_is_and_leaves_the_table_whole(
    project: Path, tmp_path: Path, table: bool
) -> None:
    for number in range(150):
        shutil.copy(project / "images/a.jpg", tmp_path / f"{number:03}.jpg")
    (tmp_path / "010.jpg").write_text("no image")
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (40, 300))
    command = [sys.executable, "-m", "tools.predict", str(tmp_path), *([] if table else ["--csv", "new.csv"])]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, cwd=project, env=environment, stdout=end, stderr=end, stdin=end) as process:
        os.close(end)
        written = b""
        with os.fdopen(terminal, "rb", buffering=0) as reader:
            try:
                while piece := reader.read(4096):
                    written += piece
            except OSError:  # Linux, when the process has ended
                pass
    assert process.returncode == 1
    text = written.decode()
    assert "predict: " in text
    assert "/150 [" in text
    lines = screen(text)
    assert lines[0].startswith("predict: the mean over 3 views")
    assert lines[1].startswith("predict: p_malignant is the sum")
    assert lines[2].startswith(f"error: {tmp_path / '010.jpg'}: ")
    images = [str(tmp_path / f"{number:03}.jpg") for number in range(150) if number != 10]
    if table:
        header, *rows = lines[3:-2]
        assert header.split() == [*COLUMNS, "p_malignant"]
        assert [row.split()[0] for row in rows] == images
        assert {len(row.split()) for row in rows} == {6}
    else:
        assert lines[3] == "predict: 149 images are in new.csv"
        assert len(lines) == 6
        assert list(pd.read_csv(project / "new.csv")["image"]) == images
    assert lines[-2:] == ["error: 1 of 150 images could not be read, see above", ""]

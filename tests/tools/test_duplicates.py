"""The command that finds photographs of the same lesion: its files and summary, and what the manifest makes of it."""

from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.workspace import executed
from dermoscopy.data.tables import read_table, write_table
from dermoscopy.runtime.commands import sections_of
from dermoscopy.runtime.paths import DUPLICATES, FOUND_LESIONS, MANIFEST, SPLIT
from stages import manifest as manifest_stage
from tests.support.drawn_project import drawn_project
from tests.support.params_file import write_params
from tests.support.same_lesions import IMAGE_IDS, PAIRS, write_same_lesions
from tests.support.tool import run_tool

GROUPS = {"image ISIC_1": ["ISIC_1", "ISIC_4", "ISIC_8"], "image ISIC_2": ["ISIC_2", "ISIC_6"]}
PARTS = ["train", "train", "test", "test", "train", "train", "train", "train", "train"]


def groups(folder: Path) -> dict[str, list[str]]:
    """Return the images of each lesion in data/found_lesions.csv."""
    table = pd.read_csv(folder / FOUND_LESIONS)
    assert list(table.columns) == ["image_id", "lesion_id"]
    assert table["image_id"].is_monotonic_increasing
    return {str(lesion): images.to_list() for lesion, images in table.groupby("lesion_id")["image_id"]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose label table names no lesions; tests do not change it, but run the command."""
    folder = tmp_path_factory.mktemp("project")
    write_same_lesions(folder)
    write_table(pd.DataFrame({"image_id": IMAGE_IDS, "part": PARTS}), folder / SPLIT)
    return folder


@pytest.fixture(scope="module")
def output(project: Path) -> str:
    return run_tool("duplicates", project).out


def test_each_pair_is_listed_with_parts_and_labels_the_surest_first(project: Path, output: str) -> None:
    table = pd.read_csv(project / DUPLICATES)
    assert list(table.columns) == [
        *("image_1", "image_2", "part_1", "part_2", "label_1", "label_2", "same_lesion", "cosine", "inliers")
    ]
    assert sorted(zip(table["image_1"], table["image_2"], strict=True)) == PAIRS
    assert table["inliers"].is_monotonic_decreasing
    first = table[(table["image_1"] == "ISIC_1") & (table["image_2"] == "ISIC_4")]
    assert first[["part_1", "part_2", "label_1", "label_2"]].to_numpy().tolist() == [["train", "test", "nv", "nv"]]
    assert table["same_lesion"].isna().all()


def test_connected_images_are_one_lesion_named_after_the_first(project: Path, output: str) -> None:
    assert groups(project) == GROUPS


def test_the_summary_counts_pairs_across_parts_and_with_two_labels(output: str) -> None:
    assert "duplicates: 4 pairs of photographs of one lesion, 2 of them in two parts, 2 with two labels\n" in output
    assert "duplicates: 2 lesions with two images or more, 5 images in all\n" in output
    assert "recall" not in output


@pytest.mark.slow
def test_two_runs_give_the_same_bytes_and_say_the_same(project: Path, output: str) -> None:
    before = [(project / path).read_bytes() for path in (DUPLICATES, FOUND_LESIONS)]
    assert run_tool("duplicates", project).out == output
    assert [(project / path).read_bytes() for path in (DUPLICATES, FOUND_LESIONS)] == before


@pytest.mark.slow
def test_found_lesions_go_into_the_manifest_and_another_run_finds_the_same(tmp_path: Path) -> None:
    write_same_lesions(tmp_path)
    output = run_tool("duplicates", tmp_path).out
    write_params(tmp_path, {"data": {"lesions": "found"}, "augmentation": {"views": 1}})
    with chdir(tmp_path):
        manifest_stage.main(**sections_of(manifest_stage.main))
    manifest = pd.read_csv(tmp_path / MANIFEST).set_index("image_id")
    assert manifest.index[manifest["lesion_id"].isna()].to_list() == ["ISIC_3", "ISIC_5", "ISIC_7", "ISIC_9"]
    assert {lesion: list(images) for lesion, images in manifest.groupby("lesion_id").groups.items()} == GROUPS
    assert run_tool("duplicates", tmp_path).out == output
    assert groups(tmp_path) == GROUPS


@pytest.mark.slow
def test_lesions_of_the_label_table_are_kept_and_compared_with(tmp_path: Path) -> None:
    # 1 and 4 are known; of 3 and 5, other lesions, the table says that they are one; there is no split
    lesions = ["HAM_1", "HAM_2", "HAM_3", "HAM_1", "HAM_3", "HAM_6", "HAM_7", "HAM_8", "HAM_9"]
    write_same_lesions(tmp_path, lesions)
    output = run_tool("duplicates", tmp_path).out
    assert (
        "duplicates: 1 pairs are of one lesion in the label table too, which has 2: precision 0.250, recall 0.500"
        in (output)
    )
    table = pd.read_csv(tmp_path / DUPLICATES).set_index(["image_1", "image_2"])
    assert table["same_lesion"].to_dict() == {pair: "yes" if pair == ("ISIC_1", "ISIC_4") else "no" for pair in PAIRS}
    assert table["part_1"].isna().all()
    known = {"HAM_1": GROUPS["image ISIC_1"], "HAM_2": GROUPS["image ISIC_2"], "HAM_3": ["ISIC_3", "ISIC_5"]}
    assert groups(tmp_path) == known


@pytest.mark.slow
def test_dvc_notices_found_lesions(tmp_path: Path) -> None:
    project = drawn_project(tmp_path / "project", tmp_path / "cache")
    project.dvc("repro", "split")
    images = read_table(project.folder / MANIFEST)["image_id"].head(2)
    write_table(pd.DataFrame({"image_id": images, "lesion_id": "found_1"}), project.folder / FOUND_LESIONS)
    assert executed(project.dvc("repro", "split")) == ["manifest"]  # which does not change
    params = project.folder / "params.yaml"
    params.write_text(params.read_text().replace("lesions: table", "lesions: found"))
    assert executed(project.dvc("repro", "split")) == ["manifest", "split"]
    assert read_table(project.folder / MANIFEST)["lesion_id"].head(2).to_list() == ["found_1"] * 2
    assert "data/found_lesions.csv" in project.run("git", "status", "--short")


@pytest.mark.slow
def test_features_of_other_images_end_in_one_line(tmp_path: Path) -> None:
    manifest = write_same_lesions(tmp_path)
    write_table(manifest.assign(sha256="0" * 64), tmp_path / MANIFEST)
    error = run_tool("duplicates", tmp_path, status=1).err
    assert error.startswith("error: data/features is of other images, another backbone or other views: ")
    assert error.count("\n") == 1
    assert not (tmp_path / FOUND_LESIONS).exists()


@pytest.mark.slow
def test_without_a_manifest_the_command_says_what_to_run(tmp_path: Path) -> None:
    write_params(tmp_path, {})
    assert (
        run_tool("duplicates", tmp_path, status=1).err
        == "error: data/manifest.csv is missing: run dvc repro, which makes it\n"
    )

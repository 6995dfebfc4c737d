"""Trained models of real Git revisions and DVC experiments, which predict new images."""

import re
import shutil
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.workspace import Workspace
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.finetuned import FinetuningInfo, write_finetuning
from dermoscopy.model.classifier import Classifier
from dermoscopy.model.members import Member
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.scoring.trained_models import members_of, models_in_words
from tests.support.classifier_project import CLASSES, compute_features, write_classifier
from tests.support.params_file import PARAMS, write_params
from tests.support.photographs import write_photographs

# A stage that "trains": it puts the model of this seed in place, which the test has prepared.
STAGE = """
import shutil
from pathlib import Path
from ruamel.yaml import YAML

seed = YAML(typ="safe").load(Path("params.yaml").read_text())["train"]["seed"]
shutil.copytree(Path(PREPARED) / str(seed) / "models", "models", dirs_exist_ok=True)
"""
PARTS = ["models/backbone", "models/head.npz", "models/head.json"]
EXPONENT = 1.5
EVALUATE = PARAMS.evaluate.model_copy(update={"tta": False, "prior_exponent": 2})  # of the workspace


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_photographs(tmp_path_factory.mktemp("photographs"), 4)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path], files: list[Path]) -> Path:
    """Models by seed: 1, 2 and 3 are on one backbone, 4 on a fine-tuned one, 5 knows other classes, 6 is stale."""
    start_keras(seed=0)
    folder = tmp_path_factory.mktemp("prepared")
    features = {name: compute_features(backbones[name], files) for name in ("first", "weights")}
    described: dict[int, dict[str, Any]] = {4: {}, 5: {"classes": ["bcc", *CLASSES[1:]]}, 6: {"backbone": "0" * 64}}
    for seed in range(1, 7):
        backbone = "weights" if seed == 4 else "first"
        rows = features[backbone].reshape(-1, features[backbone].shape[-1])
        project = folder / str(seed)
        write_classifier(project, backbones[backbone], rows, seed=seed, **described.get(seed, {}))
        finetuned = project / "models/finetuned"
        if seed == 4:
            (project / "models/backbone").rename(finetuned)
            shutil.copytree(backbones["first"], project / "models/backbone")
        elif seed > 1:  # the first is from before there was fine-tuning
            finetuned.mkdir()
        if seed > 1:
            write_finetuning(FinetuningInfo(epochs=1, kept=1, layers=1) if seed == 4 else FinetuningInfo(), finetuned)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Workspace:
    """Commits without a model, from before there was fine-tuning, and with it; experiments on the last one."""
    folder = tmp_path_factory.mktemp("trained")
    workspace = Workspace(folder / "project", folder / "cache", {})
    (workspace.folder / "make.py").write_text(STAGE.replace("PREPARED", repr(str(prepared))))
    (workspace.folder / ".gitignore").write_text("/models\n__pycache__\n")
    for seed, tag, outs in [(1, "before", PARTS), (2, "with", [*PARTS, "models/finetuned"])]:
        params = write_params(workspace.folder, {"train": {"seed": seed}})
        if tag == "before":
            old = re.sub(r"^finetune:\n(  .*\n)+", "", params.read_text(), flags=re.MULTILINE)
            assert "finetune" not in old
            params.write_text(old)
        (workspace.folder / "dvc.yaml").unlink()
        options = [*(f"-o{out}" for out in outs), "-ptrain.seed", "-pevaluate.prior_exponent,evaluate.tta", "-dmake.py"]
        workspace.dvc("stage", "add", "--name", "make", *options, "python make.py")
        workspace.dvc("repro")
        workspace.run("git", "add", "--all")
        workspace.run("git", "commit", "--quiet", "--message", tag)
        workspace.run("git", "tag", tag)
    for name, seed in {"third": 3, "tuned": 4, "classes": 5, "stale": 6}.items():
        change = f"evaluate.prior_exponent={EXPONENT if name == 'third' else 0}"
        tta = f"evaluate.tta={str(name != 'third').lower()}"
        workspace.dvc("exp", "run", "--name", name, "-S", f"train.seed={seed}", "-S", change, "-S", tta)
        workspace.run("git", "restore", ".")
    workspace.dvc("checkout")
    return workspace


def prepared_table(prepared: Path, seeds: Sequence[int], files: list[Path], tta: bool | None = None) -> pd.DataFrame:
    """Return what the prepared models predict, where they are; the third is as its experiment."""
    members = [
        Member(EXPONENT if seed == 3 else 0, str(seed), prepared / str(seed), prepared / str(seed), tta=seed != 3)
        for seed in seeds
    ]
    (block,) = Classifier(members).predict_files(files, tta)
    return block.table


@pytest.mark.slow
class TestMembers:
    """In this process, in the folder of the project."""

    @pytest.fixture(autouse=True)
    def here(self, project: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(project.folder)

    def test_each_has_its_own_head_exponent_and_backbone_and_a_shared_one_is_fetched_once(
        self, prepared: Path, backbones: dict[str, Path]
    ) -> None:
        names = ["before", "tuned", "third", "workspace"]
        with members_of(names, EVALUATE) as members:
            assert [member.name for member in members] == names
            assert [member.prior_exponent for member in members] == [0, 0, EXPONENT, 2]
            assert [member.tta for member in members] == [True, True, False, False]
            for member, seed in zip(members, (1, 4, 3, 2), strict=True):
                expected = (prepared / str(seed) / "models/head.npz").read_bytes()
                assert (member.head / "models/head.npz").read_bytes() == expected
            assert [member.backbone for member in members] == [members[i].backbone for i in (0, 1, 0, 0)]
            found = [read_backbone_info(members[0].backbone / "models/backbone")]
            found += [read_backbone_info(members[1].backbone / "models/finetuned")]
            assert found == [read_backbone_info(backbones[name]) for name in ("first", "weights")]
            fetched = [member.head for member in members[:-1]] + [members[0].backbone, members[1].backbone]
            assert members[-1].head == Path()
            assert len({*fetched, Path()}) == 6
        assert [folder for folder in fetched if folder.exists()] == []

    def test_where_the_workspace_comes_first_its_backbone_is_used_where_it_is(self) -> None:
        with members_of(["workspace", "third"], EVALUATE) as members:
            assert [member.backbone for member in members] == [Path(), Path()]

    def test_without_names_it_is_the_workspace_as_its_params_say(self) -> None:
        with members_of(None, EVALUATE) as members:
            assert members == [Member(2, tta=False)]

    def test_a_name_that_is_given_twice_is_one_model_that_is_there_twice(self) -> None:
        with members_of(["third", "workspace", "third"], EVALUATE) as members:
            assert [member.name for member in members] == ["third", "workspace", "third"]
            assert members[0] is members[2]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("nothing", "nothing cannot be read ("),
            ("before~1", "before~1 cannot be read ("),
            ("stale", "stale: models/head.npz was trained on another backbone than the one that is there"),
            ("classes", "with and classes know different classes (only with has bkl; only classes has bcc): "),
        ],
    )
    def test_a_model_that_cannot_be_used_is_one_line_with_its_name(self, name: str, message: str) -> None:
        with pytest.raises(DataError) as error, members_of(["with", name], EVALUATE) as members:
            Classifier(members)
        assert str(error.value).startswith(message)
        assert "\n" not in str(error.value)
        assert gettempdir() not in str(error.value)

    def test_a_model_that_the_cache_has_lost_is_one_line_with_its_name(self, project: Workspace) -> None:
        cache = project.folder.parent / "cache"
        hidden = cache.rename(cache.with_name("hidden"))
        try:
            with (
                pytest.raises(DataError, match=r"^third cannot be read \("),
                members_of(["workspace", "third"], EVALUATE),
            ):
                pass
        finally:
            hidden.rename(cache)


@pytest.mark.slow
def test_the_command_predicts_the_mean_of_revisions_and_experiments_and_checks_nothing_out(
    project: Workspace, prepared: Path, files: list[Path]
) -> None:
    before = project.run("git", "status", "--porcelain"), (project.folder / "params.yaml").read_bytes()
    output = project.python(
        "-m", "tools.predict", *map(str, files), "--csv", "-", "--models", "before", "tuned", "third", "third"
    )
    assert (project.run("git", "status", "--porcelain"), (project.folder / "params.yaml").read_bytes()) == before
    lines = output.splitlines(keepends=True)
    assert lines[0] == "predict: the mean of 4 models: before, tuned, third, third\n"
    assert lines[1] == "predict: the mean over 1 or 3 views of each image, as their reports score (evaluate.tta)\n"
    table = pd.read_csv(StringIO("".join(line for line in lines if not line.startswith("predict: "))))
    expected = prepared_table(prepared, [1, 4, 3, 3], files)
    assert list(table["predicted"]) == list(expected["predicted"])
    names = expected.filter(regex="^p_").columns
    np.testing.assert_allclose(table[names], expected[names], atol=1e-5)
    for seed in (1, 4, 3):
        alone = prepared_table(prepared, [seed], files)
        assert np.abs(table[names].to_numpy() - alone[names].to_numpy()).max() > 0.01


def test_the_models_are_named() -> None:
    assert models_in_words(["main"]) == "the model of main"
    assert models_in_words(["main", "seed-2"]) == "the mean of 2 models: main, seed-2"

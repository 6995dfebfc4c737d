"""Copies of the pipeline: without the data of the project that they are copies of."""

import subprocess
import sys
from pathlib import Path

from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import FOUND_LESIONS
from dermoscopy.runtime.workspace import make_workspace


def test_a_copy_names_no_found_lesions_and_asks_for_none(tmp_path: Path) -> None:
    make_workspace(tmp_path / "project", {"data": {"lesions": "found"}})
    assert load_params(tmp_path / "project/params.yaml").data.lesions == "found"
    (tmp_path / "project" / FOUND_LESIONS).write_text("image_id,lesion_id\nISIC_1,found_ISIC_1\n")
    code = f"""
from pathlib import Path
from dermoscopy.runtime.workspace import make_workspace
make_workspace(Path({str(tmp_path / "copy")!r}), {{"data": {{"source": "sample"}}}})
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "project", check=True)
    assert (tmp_path / "copy" / FOUND_LESIONS).read_text() == "image_id,lesion_id\n"
    data = load_params(tmp_path / "copy/params.yaml").data
    assert (data.source, data.lesions) == ("sample", "table")

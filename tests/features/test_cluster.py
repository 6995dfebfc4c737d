"""The features stage on a Ray cluster: the same bytes as alone, and whatever is lost costs its tasks and no more."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from benchmarks.processes import stage_command, stage_environment
from dermoscopy.data.tables import read_table
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.features.executors import cluster as cluster_executor
from dermoscopy.features.executors import staff
from dermoscopy.features.executors.cluster import ClusterExecutor
from dermoscopy.features.executors.local import LocalExecutor
from dermoscopy.features.executors.staff import Places, find_places
from dermoscopy.features.executors.worker import Description, Worker
from dermoscopy.features.extraction import Executor, Task, make_tasks
from dermoscopy.runtime.errors import ClusterError, ParamsError
from dermoscopy.runtime.params import Features, load_params
from dermoscopy.runtime.paths import BACKBONE, MANIFEST
from dermoscopy.runtime.progress import progress
from dermoscopy.runtime.workspace import PROJECT
from tests.support.ray_cluster import free_port, ray_cluster, wait_until, workers
from tests.support.stage_project import chunks, contents, enter_copy, make_project

IMAGES, CHUNK = 96, 8  # twelve tasks
SIDE = 64

OPENVINO = Features(engine="openvino", precision="float32")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each."""
    with ray_cluster(2) as started:
        yield started


@pytest.fixture(scope="module")
def made(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that lacks its features."""
    folder = tmp_path_factory.mktemp("made")
    make_project(folder, backbones["first"], IMAGES)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and the current folder; tasks are of CHUNK images."""
    return enter_copy(made, tmp_path / "project", CHUNK, monkeypatch)


def run_stage(folder: Path, address: str = "") -> subprocess.CompletedProcess[str]:
    """Run the features stage of a project as a process, on the cluster at an address or alone."""
    return subprocess.run(
        stage_command("features"),
        cwd=folder,
        env={**stage_environment(), "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def run_tasks(executor: Executor) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the first image of each task of the project in the current folder, and its features, as it is done."""
    manifest = read_table(MANIFEST, "image_id", "path", "sha256")
    all_tasks = make_tasks(manifest, {(0, 1): list(range(len(manifest)))}, [4 * 1280] * 2)
    with progress("features", len(manifest)) as bar:
        for task, features in executor.run(all_tasks, load_params().augmentation, SIDE, bar):
            yield task.numbers[0], features


def locally() -> dict[int, NDArray[np.float32]]:
    """Return the features of all tasks, by first image, computed in this process."""
    return dict(run_tasks(LocalExecutor(lambda: load_engine("openvino", BACKBONE))))


def assert_same(ours: dict[int, NDArray[np.float32]], theirs: dict[int, NDArray[np.float32]]) -> None:
    assert sorted(ours) == sorted(theirs) == list(range(0, IMAGES, CHUNK))
    for first, features in ours.items():
        np.testing.assert_array_equal(features, theirs[first])


def connect(address: str) -> "closing[ClusterExecutor]":
    return closing(ClusterExecutor(address, OPENVINO, BACKBONE, str(next(Path("data/raw/images").iterdir()))))


@pytest.mark.slow
def test_the_script_for_slurm_runs_the_pipeline_on_its_nodes(project: Path, tmp_path: Path) -> None:
    # First of all tests here: it starts Ray, which runs once on a node. There is no Slurm here, so what Slurm would do
    # is said for one node, and of the pipeline the stage in question is run.
    commands = {
        "scontrol": "echo localhost",
        "srun": 'test "$1" = --cpus-per-task=1 && shift && exec "$@"',
    }
    script = (PROJECT / "docs/examples/slurm.sh").read_text(encoding="utf-8")
    assert "dvc repro" in script
    (tmp_path / "slurm.sh").write_text(script.replace("dvc repro", shlex.join(stage_command("features"))))
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, lines in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/activate").write_text(f'PATH="{folder}:{Path(sys.executable).parent}:$PATH"\n')
    job = {"SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1", "SLURM_CPUS_PER_TASK": "1", "HOME": str(tmp_path)}
    result = subprocess.run(
        ["bash", tmp_path / "slurm.sh"],  # noqa: S607 - wherever bash is
        cwd=project,
        env={**stage_environment(), **job},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert f"features: 1280 numbers for {IMAGES} images x 2 views, by openvino" in result.stdout
    assert len(chunks(project)) == 2


@pytest.fixture
def large_project(project: Path) -> Path:
    """A project of twelve whole tasks, which a stage makes: the same images under many names."""
    manifest = pd.concat([pd.read_csv(project / MANIFEST)] * 32, ignore_index=True)
    manifest["image_id"] = [f"{name}_{number}" for number, name in enumerate(manifest["image_id"])]
    manifest.to_csv(project / MANIFEST, index=False)
    return project


@pytest.mark.slow
def test_a_cluster_gives_the_same_bytes_as_this_machine_alone(large_project: Path, cluster: Any) -> None:
    alone = run_stage(large_project)
    assert alone.returncode == 0, alone.stderr
    expected = contents(large_project / "data/features")
    shutil.rmtree(large_project / "data/features")
    shutil.rmtree(large_project / "data/.features")
    together = run_stage(large_project, cluster.address)
    assert together.returncode == 0, together.stderr
    assert together.stdout == alone.stdout
    assert contents(large_project / "data/features") == expected
    assert len(chunks(large_project)) == 2 * 12


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_task_and_no_more(
    project: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, submitted = locally(), []
    submit = cluster_executor.submit

    def count(*arguments: Any) -> Any:
        submitted.append(arguments)
        return submit(*arguments)

    monkeypatch.setattr(cluster_executor, "submit", count)
    done = {}
    with connect(cluster.address) as executor:
        wait_until(lambda: looked(executor) and len(executor.staff.hired) == 2)
        victim = workers()[0]
        for first, features in run_tasks(executor):
            assert first not in done
            done[first] = features
            if len(done) == 2:
                victim.suspend()  # it is given a task, if it has none
            if len(done) == 4:
                victim.kill()
    assert_same(done, expected)
    assert len(submitted) == len(expected) + 1


@pytest.mark.slow
def test_nodes_may_leave_and_join(project: Path) -> None:
    expected, done, at_the_end = locally(), {}, set()
    with ray_cluster(2) as cluster, connect(cluster.address) as executor:
        second = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
        for first, features in run_tasks(executor):
            done[first] = features
            if len(done) == 1:
                wait_until(lambda: len(workers()) == 2)
                leaving = {process.pid for process in workers()}
                cluster.remove_node(second, allow_graceful=False)
                wait_until(lambda: len(workers()) == 1)
                cluster.add_node(num_cpus=1)
                wait_until(lambda: looked(executor) and len(workers()) == 2)
                at_the_end = {process.pid for process in workers()}
    assert_same(done, expected)
    assert len(at_the_end - leaving) == 1


def looked(executor: ClusterExecutor) -> bool:
    """Let a connected executor look at the nodes, as it does between tasks."""
    executor.staff.wait([])
    return True


@pytest.mark.slow
def test_an_interrupted_run_on_a_cluster_goes_on_alone(large_project: Path, cluster: Any) -> None:
    process = subprocess.Popen(
        stage_command("features"),
        cwd=large_project,
        env={**stage_environment(), "RAY_ADDRESS": cluster.address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(chunks(large_project)) >= 4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    wait_until(lambda: not workers())
    kept = chunks(large_project)
    assert len(kept) < 2 * 12
    assert run_stage(large_project).returncode == 0
    assert {path: written for path, written in chunks(large_project).items() if path in kept} == kept
    finished = contents(large_project / "data/features")
    shutil.rmtree(large_project / "data/features")
    shutil.rmtree(large_project / "data/.features")
    assert run_stage(large_project).returncode == 0
    assert contents(large_project / "data/features") == finished


@pytest.mark.slow
def test_workers_that_cannot_see_the_images_are_sent_them(project: Path, cluster: Any) -> None:
    expected = locally()
    with closing(ClusterExecutor(cluster.address, OPENVINO, BACKBONE, "not/there.jpg")) as executor:
        done = dict(run_tasks(executor))
        assert not any(hired.description.reads for hired in executor.staff.hired)
    assert_same(done, expected)


@pytest.mark.slow
def test_a_bad_image_ends_the_run_in_one_line_as_it_does_alone(project: Path, cluster: Any) -> None:
    image = project / "data/raw/images/ISIC_0000050.jpg"
    image.write_bytes(image.read_bytes() + b"more")
    alone, together = run_stage(project), run_stage(project, cluster.address)
    assert alone.returncode == together.returncode == 1
    for result in (alone, together):
        assert "ISIC_0000050.jpg has changed since data/manifest.csv was made: run dvc repro again" in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_a_task_that_no_worker_survives_ends_the_run(
    project: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(Worker):
        def compute(self, setup: list[Any], task: Task, contents: list[bytes] | None) -> NDArray[np.float32]:
            if "ISIC_0000040" in [file.image_id for file in task.files]:
                os._exit(1)
            return super().compute(setup, task, contents)

    monkeypatch.setattr(staff, "Worker", Dying)
    with (
        connect(cluster.address) as executor,
        pytest.raises(ClusterError, match="3 workers of the cluster were lost while they computed ISIC_0000040, "),
    ):
        dict(run_tasks(executor))


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_run(project: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking(Worker):
        def __init__(self, features: Features, cores: int) -> None:
            import_module("a_package_that_the_nodes_lack")

    monkeypatch.setattr(staff, "Worker", Lacking)
    with connect(cluster.address) as executor, pytest.raises(ClusterError, match="No module named 'a_package") as found:
        executor.identity()
    assert "install requirements.txt of this project" in str(found.value)


@pytest.mark.slow
def test_a_node_on_which_none_can_start_does_not_end_the_run(
    project: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    bad = cluster.head_node.node_id

    class Lacking(Worker):
        def describe(self, path: str) -> Description:
            description = super().describe(path)
            if description.node == bad:
                raise ParamsError("not here")
            return description

    monkeypatch.setattr(staff, "Worker", Lacking)
    expected = locally()
    with connect(cluster.address) as executor:
        executor.identity()
        wait_until(lambda: looked(executor) and executor.staff._failures == staff.FAILURES)
        assert_same(dict(run_tasks(executor)), expected)
        ray.kill(executor.staff.hired[0].actor)  # another one starts in its place
        assert_same(dict(run_tasks(executor)), expected)
    assert "warning: features: workers of the Ray cluster cannot start (not here): " in capsys.readouterr().err


@pytest.mark.slow
def test_a_worker_with_another_engine_is_left_out(
    project: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Different(Worker):
        def describe(self, path: str) -> Description:
            return super().describe(path)._replace(identity=f"openvino of process {os.getpid()}")

    monkeypatch.setattr(staff, "Worker", Different)
    expected = locally()
    with connect(cluster.address) as executor:
        assert executor.identity().startswith("openvino of process ")
        wait_until(lambda: looked(executor) and len(executor.staff.left_out) == 1)
        assert_same(dict(run_tasks(executor)), expected)
        assert len(executor.staff.hired) == len(executor.staff.left_out) == 1
    assert "is left out: it computes with openvino of process " in capsys.readouterr().err


@pytest.mark.slow
def test_ray_s_own_addresses_are_understood_and_a_cluster_that_goes_is_one_line(project: Path) -> None:
    expected, port = locally(), free_port()
    with ray_cluster(1, ray_client_server_port=port) as cluster, connect(f"ray://127.0.0.1:{port}") as executor:
        assert_same(dict(run_tasks(executor)), expected)
        for process in cluster.head_node.all_processes["ray_client_server"]:
            process.process.kill()
        with pytest.raises(ClusterError, match=r"the Ray cluster is gone \(.*\): start it and run again"):
            dict(run_tasks(executor))
    with connect("local") as executor:
        assert_same(dict(run_tasks(executor)), expected)


@pytest.mark.slow
def test_where_no_cluster_answers_one_line_says_so(project: Path) -> None:
    result = run_stage(project, "ray://127.0.0.1:1")
    assert result.returncode == 1
    assert result.stderr.startswith("error: RAY_ADDRESS=ray://127.0.0.1:1: no Ray cluster can be used there (")
    assert len(result.stderr.splitlines()) == 1


def test_the_cluster_file_is_what_ray_understands() -> None:
    schema = Path(str(find_spec("ray.autoscaler").origin)).with_name("ray-schema.json")  # type: ignore[union-attr] # Ray has it
    examples = PROJECT / "docs/examples"
    check = [sys.executable, "-m", "check_jsonschema", "--schemafile", str(schema), str(examples / "cluster.yaml")]
    result = subprocess.run(check, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_without_ray_one_line_says_how_to_get_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match="Ray is not installed: run make cluster"):
        connect("auto")


@pytest.mark.parametrize(
    ("nodes", "gpu", "places"),
    [
        ([{"CPU": 16.0}, {"CPU": 4.0}], False, Places(5, 4, gpu=False)),
        ([{"CPU": 1.0}, {"CPU": 6.0}], False, Places(7, 1, gpu=False)),
        ([{"CPU": 0.0}, {"memory": 1.0}], False, Places(0, 4, gpu=False)),
        ([{"CPU": 8.0}, {"CPU": 32.0, "GPU": 2.0}, {"CPU": 12.0, "GPU": 1.0}], True, Places(3, 12, gpu=True)),
        ([{"CPU": 8.0}, {"CPU": 32.0, "GPU": 2.0}], False, Places(10, 4, gpu=False)),
        ([{"CPU": 8.0}], True, Places(0, 0, gpu=True)),
    ],
)
def test_each_gpu_is_a_place_or_else_a_few_cores(nodes: list[dict[str, float]], gpu: bool, places: Places) -> None:
    assert find_places(nodes, gpu) == places

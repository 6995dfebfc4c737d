"""Images and label tables in a storage, read from a real S3 server, and through a proxy that makes its faults."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import s3fs

from dermoscopy.data import storage
from dermoscopy.data.images import ImageFile, read_image
from dermoscopy.data.sources.directory import ListedFile, list_files
from dermoscopy.data.storage import READERS, is_there, read_bytes, readers, stored_files
from dermoscopy.data.tables import read_table
from dermoscopy.features.extraction import prepare_views
from dermoscopy.features.near_duplicates import read_keypoints
from dermoscopy.page.gallery import are_missing
from dermoscopy.runtime.commands import sections_of
from dermoscopy.runtime.errors import DataError, PipelineError, SourceError, StorageError
from dermoscopy.runtime.paths import LISTING, REJECTED
from dermoscopy.runtime.workspace import PROJECT
from stages import download, listing, manifest
from tests.support.params_file import PARAMS, write_params
from tests.support.photographs import jpeg
from tests.support.s3_server import CUT, ON, SECRET, STUCK, FaultyProxy, Refuse, S3Server, Wait, faulty_proxy

FILES = {f"{label}/{label}{number}.jpg": jpeg(number) for label in ("mel", "nv") for number in (1, 2, 3)}
IMAGE = "nv/nv1.jpg"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, in which this process runs."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def proxy(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """The proxy through which this process reads; it passes everything on."""
    forget_servers()  # of the proxy before this one
    with faulty_proxy(s3_server) as proxy:
        for name, value in s3_server.environment(proxy.address).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield proxy


@pytest.fixture
def asked_once(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let S3 be asked once where it is asked several times; returns what is usual."""
    usual: dict[str, Any] = storage.S3_CONFIG
    monkeypatch.setattr(storage, "S3_CONFIG", usual | {"retries": {"mode": "standard", "total_max_attempts": 1}})
    return usual


@pytest.fixture
def bucket(s3_server: S3Server, request: pytest.FixtureRequest) -> str:
    """The address of a folder of six images, of a class for each subfolder, in a bucket of its own."""
    name = f"images-{abs(hash(request.node.nodeid))}"
    s3_server.fill(name, {f"of mine/{key}": content for key, content in FILES.items()})
    return f"s3://{name}/of mine"


def forget_servers() -> None:
    """Let the environment be looked at again."""
    s3fs.S3FileSystem.clear_instance_cache()


def put(server: S3Server, address: str, content: bytes) -> None:
    name, _, key = address.removeprefix("s3://").partition("/")
    server.client.put_object(Bucket=name, Key=key, Body=content)


def run_listing(directory: str, **data: Any) -> bytes:
    """Run the listing stage, and return what it wrote."""
    write_params(Path(), {"data": {"source": "directory", "directory": directory} | data})
    listing.main(**sections_of(listing.main))
    return LISTING.read_bytes()


def run(directory: str, **data: Any) -> pd.DataFrame:
    """Run listing and manifest, and return the manifest."""
    run_listing(directory, **data)
    manifest.main(**sections_of(manifest.main))
    return read_table(Path("data/manifest.csv"))


def message(read: Any, *arguments: Any) -> str:
    """Return the one line that reading ends with; it names the address, and repeats no secret."""
    with pytest.raises(PipelineError) as error:
        read(*arguments)
    text = str(error.value)
    assert "\n" not in text
    assert str(arguments[0]) in text
    assert SECRET not in text
    return text


class TestReading:
    """One file."""

    def test_an_image_has_the_pixels_of_its_file(self, bucket: str, tmp_path: Path, proxy: FaultyProxy) -> None:
        path = tmp_path / "nv1.jpg"
        path.write_bytes(FILES[IMAGE])
        assert (read_image(f"{bucket}/{IMAGE}") == read_image(path)).all()
        assert [method for method, _ in proxy.requests] == ["GET"]

    @pytest.mark.parametrize(
        "fault",
        [Refuse(503, "SlowDown"), Refuse(503, "ServiceUnavailable"), Refuse(500, "InternalError"), CUT, Wait(1.5)],
        ids=str,
    )
    def test_what_fails_once_is_asked_for_again(self, bucket: str, proxy: FaultyProxy, fault: Any) -> None:
        proxy.decide = lambda method, path, before: ON if before else fault
        assert read_bytes(f"{bucket}/{IMAGE}") == FILES[IMAGE]
        assert len(proxy.requests) == (1 if isinstance(fault, Wait) else 2)

    @pytest.mark.parametrize(
        ("fault", "words"),
        [
            (
                Refuse(403, "AccessDenied"),
                "may not be read (AccessDenied by the proxy): check the credentials of s3://",
            ),
            (Refuse(403, "SignatureDoesNotMatch"), "check the credentials of s3://, see docs/storage.md"),
            (Refuse(404, "NoSuchKey"), "is missing: bring it back, or set data.directory"),
            (Refuse(503, "SlowDown"), "cannot be read (SlowDown by the proxy): check address and network"),
            (CUT, "cannot be read (Response payload is not completed"),
        ],
        ids=str,
    )
    def test_what_fails_again_and_again_is_one_line(
        self, bucket: str, proxy: FaultyProxy, asked_once: dict[str, Any], fault: Any, words: str
    ) -> None:
        proxy.decide = lambda method, path, before: fault
        assert words in message(read_bytes, f"{bucket}/{IMAGE}")

    def test_a_server_that_never_answers_is_given_up_after_a_minute(
        self, bucket: str, proxy: FaultyProxy, asked_once: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(storage, "S3_CONFIG", storage.S3_CONFIG | {"read_timeout": 0.2})
        proxy.decide = lambda method, path, before: STUCK
        for read in (read_bytes, stored_files):
            proxy.requests.clear()
            assert "cannot be read (Read timeout on endpoint URL" in message(read, f"{bucket}/{IMAGE}")
            attempts = len(proxy.requests) * asked_once["retries"]["total_max_attempts"]
            assert attempts * asked_once["read_timeout"] <= 60

    def test_no_server_is_one_line_without_what_the_environment_keeps_secret(
        self, bucket: str, asked_once: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for endpoint, words in {
            "http://127.0.0.1:9": 'cannot be read (Could not connect to the endpoint URL: "http://127.0.0.1:9/',
            "http://user:hidden@127.0.0.1:9": "cannot be read (",
        }.items():
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            forget_servers()
            text = message(stored_files, bucket)
            assert words in text
            assert "hidden" not in text

    @pytest.mark.parametrize(
        ("variables", "words"),
        [
            ({"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}, "may not be read (Unable to locate credentials): check the"),
            ({"AWS_PROFILE": "nobody"}, "may not be read (The config profile (nobody) could not be found): check the"),
        ],
        ids=["no credentials", "no profile"],
    )
    def test_credentials_that_are_not_found_are_one_line(
        self, bucket: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        forget_servers()
        for read in (read_bytes, is_there, stored_files):
            assert words in message(read, f"{bucket}/{IMAGE}")

    def test_no_bucket_and_no_such_protocol_are_one_line_each(self) -> None:
        assert "is not there (The specified bucket does not exist)" in message(stored_files, "s3://nobody-has-this")
        assert "cannot be read (Protocol not known: foo)" in message(read_bytes, "foo://bucket/a.jpg")

    def test_packages_of_storages_are_loaded_for_an_address_only_and_one_that_is_missing_is_named(self) -> None:
        code = (
            "import sys\n"
            "import stages.listing, stages.manifest\n"
            "from dermoscopy.data.storage import read_bytes\n"
            "print(sorted({'fsspec', 's3fs', 'botocore'} & set(sys.modules)))\n"
            "sys.modules['s3fs'] = None\n"
            "try:\n"
            "    read_bytes('s3://bucket/a.jpg')\n"
            "except Exception as error:\n"
            "    print(error)\n"
        )
        result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
        loaded, error = result.stdout.splitlines()
        assert loaded == "[]"
        assert (
            error == "s3://bucket/a.jpg needs a package that is not installed (Install s3fs to access S3): run make s3"
        )

    def test_many_are_read_at_a_time_and_no_more_than_that(self, bucket: str, proxy: FaultyProxy) -> None:
        proxy.decide = lambda method, path, before: Wait(0.3)
        addresses = [f"{bucket}/{key}" for key in FILES] * 11
        assert readers(addresses[0]) == READERS
        assert readers("a.jpg") == os.cpu_count()
        with ThreadPoolExecutor(readers(addresses[0])) as pool:
            assert list(pool.map(read_bytes, addresses)) == list(FILES.values()) * 11
        assert READERS / 2 < proxy.at_once <= READERS

    def test_a_picture_is_missing_where_its_object_is_gone_or_its_storage_cannot_be_read(
        self, bucket: str, proxy: FaultyProxy
    ) -> None:
        paths = [f"{bucket}/{IMAGE}", f"{bucket}/gone.jpg"]
        assert are_missing(paths) == [False, True]
        proxy.decide = lambda method, path, before: Refuse(403, "AccessDenied")
        proxy.requests.clear()
        assert are_missing(paths * 20) == [True] * 40
        assert len(proxy.requests) == 1


class TestListing:
    """What an address holds."""

    NAMES = (
        *("b.jpg", "A.PNG", "a/c.tiff", "a/deep/d.webp", "a b/señal.jpg", "皮膚/x.jpg", "labels.csv", "more.TSV"),
        *("._b.jpg", ".hidden/x.jpg", "a/.git/x.png", "@eaDir/b.jpg", "a/@eaDir/c.jpg/t.jpg", "__MACOSX/b.jpg"),
        *("b_segmentation.png", "a/x_mask.png", "a/more.csv", ".labels.csv", "scan.heic", "a/b.dcm", "notes.txt"),
    )

    def test_the_rules_are_those_of_a_folder(self, s3_server: S3Server, tmp_path: Path) -> None:
        s3_server.fill("rules", {f"top/{name}": name.encode() for name in self.NAMES} | {"topmost/x.jpg": b"x"})
        for name in self.NAMES:
            path = tmp_path / "top" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode())

        def found(folder: str) -> tuple[list[tuple[str, str, int]], list[str]]:
            files, warnings = list_files(PARAMS.data.model_copy(update={"source": "directory", "directory": folder}))
            relative = [(file.kind, file.path.removeprefix(f"{folder}/"), file.bytes) for file in files]
            return relative, [line.replace(f"{folder}/", "") for line in warnings]

        of_bucket = found("s3://rules/top")
        assert of_bucket == found(str(tmp_path / "top")) == found(f"file://{tmp_path}/top")
        assert [name for kind, name, _ in of_bucket[0] if kind == "table"] == ["labels.csv", "more.TSV"]
        assert len(of_bucket[0]) == 8
        assert of_bucket[1] == [
            "pictures in a format that is not read: a/b.dcm, scan.heic: convert them to JPEG or PNG"
        ]

    def test_it_takes_a_few_requests_and_none_for_an_image(self, bucket: str, proxy: FaultyProxy) -> None:
        before = run_listing(bucket)
        assert len(proxy.requests) == 1
        assert run_listing(f"{bucket}/") == before

    def test_each_change_is_in_the_listing_even_within_a_second_and_of_the_same_size(
        self, bucket: str, s3_server: S3Server
    ) -> None:
        seen = [run_listing(bucket)]
        put(s3_server, f"{bucket}/{IMAGE}", FILES[IMAGE][:-1] + b"\0")
        seen.append(run_listing(bucket))
        put(s3_server, f"{bucket}/labels.csv", b"image,label\n")
        seen.append(run_listing(bucket))
        s3_server.client.delete_object(Bucket=bucket.split("/")[2], Key="of mine/mel/mel1.jpg")
        seen.append(run_listing(bucket))
        assert len(set(seen)) == 4
        put(s3_server, f"{bucket}/{IMAGE}", FILES[IMAGE][:-1] + b"\0")  # the same content
        assert run_listing(bucket) == seen[-1]

    def test_an_empty_address_or_one_of_a_file_is_an_error_and_not_the_list_before(
        self, bucket: str, s3_server: S3Server
    ) -> None:
        run_listing(bucket)
        s3_server.fill("bare", {})
        for address in ("s3://bare", f"{bucket}/{IMAGE}", f"{bucket}/mel/no"):
            assert "holds no image" in message(run_listing, address)

    def test_a_storage_that_cannot_be_read_leaves_the_listing_and_says_so(
        self, bucket: str, proxy: FaultyProxy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = run_listing(bucket)
        proxy.decide = lambda method, path, before: Refuse(403, "AccessDenied")
        assert run_listing(bucket) == before
        err = capsys.readouterr().err
        assert f"warning: listing: {bucket} may not be read (AccessDenied by the proxy): check the credentials" in err
        assert "until then data/listing.csv stays as it was, and stages that read no image can run\n" in err
        assert "AccessDenied" in message(run_listing, "s3://another/folder")  # of which nothing is known
        LISTING.unlink()
        assert "AccessDenied" in message(run_listing, bucket)

    @pytest.mark.parametrize(
        "address",
        [
            *("s3://AKIAKEY:hidden@bucket/x", "s3://AKIAKEY:se/hidden@bucket/x", "https://host/x?Signature=hidden"),
            "s3://bucket/x::s3://AKIAKEY:hidden@bucket/y.zip",
        ],
    )
    def test_a_secret_in_an_address_is_refused_and_not_repeated(self, address: str, project: Path) -> None:
        write_params(Path(), {"data": {"source": "directory", "directory": address}})
        for stage in (listing, download):
            with pytest.raises(SourceError, match="has a password or a query in it") as error:
                stage.main(**sections_of(stage.main))
            assert "hidden" not in str(error.value)
        with pytest.raises(SourceError, match="has a password or a query in it"):
            run_listing("s3://bucket/images", labels=address)
        assert [path for path in project.rglob("*") if path.is_file()] == [project / "params.yaml"]

    def test_a_storage_that_tells_no_versions_is_refused(self, monkeypatch: pytest.MonkeyPatch, bucket: str) -> None:
        monkeypatch.setattr(storage, "VERSIONS", ())
        assert "does not say which version it has: copy the images into a folder" in message(stored_files, bucket)


class TestManifest:
    """All images of an address."""

    def test_it_is_that_of_the_same_folder(self, bucket: str, tmp_path: Path) -> None:
        for key, content in FILES.items():
            path = tmp_path / "folder" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        of_folder, of_bucket = run(str(tmp_path / "folder")), run(bucket)
        assert of_bucket["path"].tolist() == [f"{bucket}/{key}" for key in FILES]
        pd.testing.assert_frame_equal(of_bucket.drop(columns="path"), of_folder.drop(columns="path"))

    @pytest.mark.parametrize("place", ["beside", "elsewhere", "in the project", "deeper"])
    def test_the_label_table_may_be_in_the_storage_or_in_the_project(
        self, bucket: str, s3_server: S3Server, place: str
    ) -> None:
        table = "image,label\n" + "".join(f"{Path(key).name},{'bcc' if '1' in key else 'df'}\n" for key in FILES)
        ages = b"image,age\nnv1,50\n"
        labels = "tables/truth.csv"
        if place == "in the project":
            Path("tables").mkdir()
            Path(labels).write_text(table)
            (Path("tables") / "ages.csv").write_bytes(ages)
        else:
            folder = {"beside": bucket, "elsewhere": bucket.replace("of mine", "tables"), "deeper": f"{bucket}/tables"}
            put(s3_server, f"{folder[place]}/truth.csv", table.encode())
            put(s3_server, f"{folder[place]}/ages.csv", ages)
            labels = {"beside": "truth.csv", "elsewhere": f"{folder[place]}/truth.csv", "deeper": labels}[place]
        found = run(bucket, labels=labels).set_index("image_id")
        assert set(found["label"]) == {"bcc", "df"}
        assert found["age"].dropna().to_dict() == {"nv1": 50}
        with pytest.raises(SourceError, match=r"is not a file: name the label table"):
            run(bucket, labels=labels.replace("truth", "nothing"))

    def test_a_label_table_in_a_storage_goes_with_images_in_a_folder(self, bucket: str, s3_server: S3Server) -> None:
        Path("mine").mkdir()
        for number in (1, 2):
            Path(f"mine/{number}.jpg").write_bytes(jpeg(number))
        put(s3_server, f"{bucket}/t.csv", b"image,label\n1,nv\n2,mel\n")
        assert run("mine", labels=f"{bucket}/t.csv")["label"].tolist() == ["nv", "mel"]

    def test_a_fault_in_a_table_is_named_with_its_address(self, bucket: str, s3_server: S3Server) -> None:
        put(s3_server, f"{bucket}/t.csv", b"image,label,age\nnv1,nv,old\n")
        with pytest.raises(DataError, match=f"{bucket}/t.csv, row 2, column age: 'old' is not a number of years"):
            run(bucket)

    def test_only_what_changed_is_read(self, bucket: str, s3_server: S3Server, proxy: FaultyProxy) -> None:
        before = run(bucket).set_index("image_id")["sha256"]
        put(s3_server, f"{bucket}/{IMAGE}", FILES[IMAGE][:-1] + b"\0")
        proxy.requests.clear()
        after = run(bucket).set_index("image_id")["sha256"]
        assert [image_id for image_id in before.index if before[image_id] != after[image_id]] == ["nv1"]
        assert len(proxy.requests) == 2  # the listing, and the image

    def test_a_bad_object_and_one_that_is_gone_are_rejected_as_files_are(
        self, bucket: str, s3_server: S3Server, proxy: FaultyProxy
    ) -> None:
        put(s3_server, f"{bucket}/{IMAGE}", b"text")
        proxy.decide = lambda method, path, before: Refuse(404, "NoSuchKey") if path.endswith("nv2.jpg") else ON
        assert len(run(bucket, on_bad_image="skip")) == 4
        reasons = read_table(REJECTED).set_index("image_id")["reason"]
        assert reasons["nv1"].startswith(f"{bucket}/{IMAGE}: not an image")
        assert reasons["nv2"].startswith(f"{bucket}/nv/nv2.jpg is missing")

    def test_a_storage_that_fails_rejects_no_image_and_what_was_read_is_kept(
        self, bucket: str, proxy: FaultyProxy
    ) -> None:
        proxy.decide = lambda method, path, before: Refuse(403, "ExpiredToken") if path.endswith("nv3.jpg") else ON
        with pytest.raises(StorageError, match=r"nv3\.jpg may not be read \(ExpiredToken by the proxy\)"):
            run(bucket, on_bad_image="skip")
        assert not REJECTED.exists()
        proxy.decide = lambda method, path, before: ON
        proxy.requests.clear()
        assert len(run(bucket, on_bad_image="skip")) == 6
        assert [path.rpartition("/")[2] for _, path in proxy.requests][1:] == ["nv3.jpg"]

    def test_views_and_keypoints_are_those_of_the_files(self, bucket: str, tmp_path: Path) -> None:
        for key, content in FILES.items():
            (tmp_path / Path(key).name).write_bytes(content)
        table = run(bucket)
        files = table.assign(path=[str(tmp_path / Path(path).name) for path in table["path"]])
        for ours, theirs in zip(read_keypoints(table), read_keypoints(files), strict=True):
            assert (ours.descriptors == theirs.descriptors).all()
        of_table, of_files = (
            [prepare_views(ImageFile(*row), (0, 1), PARAMS.augmentation, 64) for row in images.to_numpy().tolist()]
            for images in (table[list(ImageFile._fields)], files[list(ImageFile._fields)])
        )
        assert np.array_equal(of_table, of_files)

    def test_a_listing_names_addresses_in_full(self, bucket: str) -> None:
        run_listing(bucket)
        rows = pd.read_csv(LISTING)
        assert list(rows.columns) == list(ListedFile._fields)
        assert rows["path"].tolist() == [f"{bucket}/{key}" for key in FILES]

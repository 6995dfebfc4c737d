"""Bad and unusual image files: each is read as it should be, or refused with its reason."""

import os
import shutil
import struct
import subprocess
import sys
import unicodedata
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from dermoscopy.data.image_files import require_plain_name
from dermoscopy.data.images import MAX_PIXELS, read_image
from dermoscopy.data.tables import read_table
from dermoscopy.model.classifier import image_files
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import INSPECTIONS
from dermoscopy.runtime.workspace import PROJECT
from tests.support import photographs
from tests.support.params_file import write_params


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """A drawn photograph, 300 x 225."""
    return Image.fromarray(photographs.photograph(1)).resize((300, 225))


@pytest.fixture(scope="module")
def transparent(photograph: Image.Image) -> Image.Image:
    """That photograph, transparent on the left and opaque on the right."""
    image = photograph.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").rotate(90).resize(image.size))
    return image


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Return the content of an image file, as Pillow writes it."""
    stream = BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def encode_16_bits(image: Image.Image, suffix: str) -> bytes:
    """Return the content of an image file with 16 bits a channel, as OpenCV writes it."""
    deep = np.asarray(image)[..., ::-1] if image.mode == "RGB" else np.asarray(image)
    return cv2.imencode(suffix, deep.astype(np.uint16) * 257)[1].tobytes()


def read(folder: Path, content: bytes, name: str = "image.jpg") -> NDArray[np.uint8]:
    """Return the pixels of a file with this content."""
    (folder / name).write_bytes(content)
    return read_image(folder / name)


def message(folder: Path, content: bytes) -> str:
    """Return the error that reading a file with this content ends with, which is one line that names the file."""
    with pytest.raises(DataError) as error:
        read(folder, content)
    assert "\n" not in str(error.value)
    assert str(folder / "image.jpg") in str(error.value)
    return str(error.value)


def difference(pixels: NDArray[np.uint8], image: Image.Image) -> float:
    """Return by how much (0 to 255) pixels differ from an image in the mean, which must have their size."""
    expected = np.asarray(image.convert("RGB"))
    assert pixels.shape == expected.shape
    return float(np.abs(pixels.astype(int) - expected).mean())


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "BMP"])
def test_the_content_decides_and_not_the_suffix(tmp_path: Path, photograph: Image.Image, image_format: str) -> None:
    lossless = {"lossless": True} if image_format == "WEBP" else {}
    assert difference(read(tmp_path, encode(photograph, image_format, **lossless)), photograph) == 0


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_has_the_colours_that_pillow_finds(tmp_path: Path, photograph: Image.Image, image_format: str) -> None:
    content = encode(photograph.convert("CMYK"), image_format, **({"quality": 95} if image_format == "JPEG" else {}))
    with Image.open(BytesIO(content)) as image:
        assert image.mode == "CMYK"
        assert difference(read(tmp_path, content), image) <= 1
    assert difference(read(tmp_path, content), photograph) < 2


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
    ],
    ids=str,
)
def test_alpha_is_dropped_and_darkens_nothing(
    tmp_path: Path, photograph: Image.Image, transparent: Image.Image, image_format: str, options: dict[str, Any]
) -> None:
    assert difference(read(tmp_path, encode(transparent, image_format, **options)), photograph) == 0


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_16_bits_become_8(tmp_path: Path, photograph: Image.Image, mode: str, suffix: str) -> None:
    image = photograph.convert(mode)
    assert difference(read(tmp_path, encode_16_bits(image, suffix)), image) == 0


@pytest.mark.parametrize(("image_format", "bound"), [("JPEG", 3), ("TIFF", 0), ("BMP", 0)])
def test_grey_has_three_equal_channels(
    tmp_path: Path, photograph: Image.Image, image_format: str, bound: float
) -> None:
    pixels = read(tmp_path, encode(photograph.convert("L"), image_format))
    assert (pixels == pixels[..., :1]).all()
    assert difference(pixels, photograph.convert("L")) <= bound


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone_in_every_format_that_has_one(
    tmp_path: Path, photograph: Image.Image, orientation: int, image_format: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if image_format == "WEBP" else {}
    content = encode(photograph, image_format, exif=exif, **lossless)
    with Image.open(BytesIO(content)) as image:
        assert difference(read(tmp_path, content), ImageOps.exif_transpose(image)) < 0.5


def test_a_transparent_tiff_is_turned_too(tmp_path: Path, photograph: Image.Image, transparent: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read(tmp_path, encode(transparent, "TIFF", exif=exif))
    assert difference(pixels, photograph.transpose(Image.Transpose.ROTATE_270)) == 0


def test_the_first_picture_of_a_camera_file_with_several_is_the_photograph(
    tmp_path: Path, photograph: Image.Image
) -> None:
    preview = photograph.rotate(180).resize((160, 120))
    content = encode(photograph, "MPO", save_all=True, append_images=[preview], quality=95)
    with Image.open(BytesIO(content)) as image:
        assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 2)
    assert difference(read(tmp_path, content), photograph) < 2


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_several_frames_or_pages_are_refused(tmp_path: Path, photograph: Image.Image, image_format: str) -> None:
    content = encode(photograph, image_format, save_all=True, append_images=[photograph.rotate(180)])
    assert f"the {image_format} has several frames or pages" in message(tmp_path, content)


@pytest.mark.parametrize("image_format", ["GIF", "PPM", "JPEG2000"])
def test_a_format_that_is_not_listed_is_refused_whatever_its_suffix(
    tmp_path: Path, photograph: Image.Image, image_format: str
) -> None:
    assert "not an image in one of the formats JPEG, PNG" in message(tmp_path, encode(photograph, image_format))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (31, 450), (600, 31)], ids=str)
def test_an_image_too_small_for_a_lesion_is_refused_with_its_size(
    tmp_path: Path, photograph: Image.Image, size: tuple[int, int], image_format: str
) -> None:
    text = message(tmp_path, encode(photograph.resize(size), image_format))
    assert f"{size[0]} x {size[1]} pixels are too few: 32 a side are needed" in text


def test_the_smallest_image_is_read(tmp_path: Path, photograph: Image.Image) -> None:
    small = photograph.resize((32, 32))
    assert difference(read(tmp_path, encode(small, "PNG")), small) == 0


def png_header(width: int, height: int) -> bytes:
    """Return the beginning of a PNG that claims this size: 53 bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )


def with_size(content: bytes, old: tuple[int, int], new: tuple[int, int], code: str, *, height_first: bool) -> bytes:
    """Return the content of an image file with the size in its header replaced."""
    before, after = (struct.pack(code, *(pair[::-1] if height_first else pair)) for pair in (old, new))
    assert content.count(before) == 1
    return content.replace(before, after)


def huge_headers(photograph: Image.Image) -> dict[str, bytes]:
    """Return files of some kilobytes that claim to be 20,000 x 20,000 (WebP: 16,000 x 16,000)."""
    small = photograph.resize((64, 48))
    huge = (20_000, 20_000)
    tiff = encode(small, "TIFF")
    for tag, length in ((256, 64), (257, 48)):
        entry = [kind for kind in ("<HHLHH", "<HHLL") if struct.pack(kind, *tiff_entry(kind, tag, length)) in tiff]
        assert len(entry) == 1
        tiff = tiff.replace(
            struct.pack(entry[0], *tiff_entry(entry[0], tag, length)),
            struct.pack(entry[0], *tiff_entry(entry[0], tag, 20_000)),
        )
    webp = encode(small, "WEBP")
    return {
        "PNG": png_header(*huge),
        "JPEG": with_size(encode(small, "JPEG"), (64, 48), huge, ">HH", height_first=True),
        "BMP": with_size(encode(small, "BMP"), (64, 48), huge, "<ii", height_first=False),
        "TIFF": tiff,
        "WEBP": with_size(webp, (64, 48), (16_000, 16_000), "<HH", height_first=False),
    }


def tiff_entry(code: str, tag: int, value: int) -> tuple[int, ...]:
    """Return what an entry of a TIFF directory holds: tag, type, count and value."""
    return (tag, 3, 1, value, 0) if code == "<HHLHH" else (tag, 4, 1, value)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_a_few_bytes_that_claim_a_huge_image_are_refused_before_its_memory_is_taken(
    tmp_path: Path, photograph: Image.Image, image_format: str
) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(huge_headers(photograph)[image_format])
    assert path.stat().st_size < 20_000
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from dermoscopy.runtime.errors import DataError\n"
        "from dermoscopy.data.images import read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    read_image(Path(sys.argv[1]))\n"
        "except DataError as error:\n"
        "    print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    error, megabytes = result.stdout.splitlines()
    assert error == f"{path}: the image has more than 100 megapixels"
    assert int(megabytes) < 100  # the pixels alone would be 730 or more
    assert result.stderr == ""


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_the_largest_size_is_not_huge(tmp_path: Path, photograph: Image.Image) -> None:
    assert MAX_PIXELS == 10_000 * 10_000
    small = encode(photograph.resize((64, 48)), "JPEG")
    for height, fault in ((10_000, "image file is truncated"), (10_001, "more than 100 megapixels")):
        claims = with_size(small, (64, 48), (10_000, height), ">HH", height_first=True)[:-20]
        assert fault in message(tmp_path, claims)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as a command does, see configure_image_libraries
@pytest.mark.parametrize("lost", [0.99, 0.5, 0.05, 100, 12, 1], ids=str)
@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "jpeg"}),
        ("BMP", {}),
        ("JPEG", {"restart_marker_rows": 1}),
    ],
    ids=str,
)
def test_half_an_image_is_never_taken_for_a_whole_one(
    tmp_path: Path, photograph: Image.Image, image_format: str, options: dict[str, Any], lost: float
) -> None:
    content = encode(photograph, image_format, **options)
    message(tmp_path, content[: -int(lost if lost >= 1 else lost * len(content))])


def test_a_truncated_transparent_tiff_is_refused(tmp_path: Path, transparent: Image.Image) -> None:
    message(tmp_path, encode(transparent, "TIFF")[:-1000])


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_one_wrong_byte_in_a_png_is_found_by_its_checksum_and_nothing_else_is_printed(
    tmp_path: Path, photograph: Image.Image, place: float, capfd: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(encode(photograph, "PNG"))
    content[int(place * len(content))] ^= 1
    assert "broken PNG file" in message(tmp_path, bytes(content))
    assert capfd.readouterr() == ("", "")


def test_a_jpeg_overwritten_with_other_data_is_refused(tmp_path: Path) -> None:
    content = bytearray(photographs.jpeg(1))
    content[40_000:44_096] = np.random.default_rng(0).bytes(4096)
    assert "the JPEG cannot be decoded: broken data stream" in message(tmp_path, bytes(content))


def test_a_truncated_jpeg_is_not_whole_because_its_thumbnail_is(tmp_path: Path, photograph: Image.Image) -> None:
    thumbnail = encode(photograph.resize((160, 120)), "JPEG")
    content = encode(photograph, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail)
    assert content.count(b"\xff\xd9") >= 2
    assert difference(read(tmp_path, content), photograph) < 5
    assert "the JPEG cannot be decoded: image file is truncated" in message(tmp_path, content[: -len(content) // 2])


def test_a_film_after_the_end_of_a_jpeg_does_no_harm(tmp_path: Path) -> None:
    content = photographs.jpeg(1)
    film = np.random.default_rng(0).bytes(200_000) + b"\xff\xda" + bytes(100)  # as telephones append
    assert np.array_equal(read(tmp_path, content + film), read(tmp_path, content))


def test_many_threads_may_be_the_first_to_read(tmp_path: Path, photograph: Image.Image) -> None:
    for number in range(16):
        (tmp_path / f"{number}.tif").write_bytes(encode(photograph, "TIFF" if number % 2 else "WEBP"))
    code = (
        "import sys\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from pathlib import Path\n"
        "from dermoscopy.data.images import read_image\n"
        "with ThreadPoolExecutor(16) as pool:\n"
        "    print({image.shape for image in pool.map(read_image, Path(sys.argv[1]).iterdir())})\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "{(225, 300, 3)}\n"


Spoil = Callable[[Path, Image.Image], object]

# What may stand in data/raw in place of an image, and words that its reason must have.
FAULTS: dict[str, tuple[Spoil, str]] = {
    "empty": (lambda path, _: path.touch(), "the file is empty"),
    "truncated": (lambda path, image: path.write_bytes(encode(image, "JPEG")[:-1000]), "image file is truncated"),
    "truncated_png": (lambda path, image: path.write_bytes(encode(image, "PNG")[:-1000]), "not an image that can be"),
    "truncated_tiff": (lambda path, image: path.write_bytes(encode(image, "TIFF")[:-1000]), "the TIFF is damaged"),
    "truncated_webp": (lambda path, image: path.write_bytes(encode(image, "WEBP")[:-1000]), "not an image that can be"),
    "truncated_bmp": (lambda path, image: path.write_bytes(encode(image, "BMP")[:-1000]), "the BMP is damaged"),
    "text": (lambda path, _: path.write_text("<html>403 Forbidden</html>"), "not an image in one of the formats"),
    "one_pixel": (lambda path, image: image.resize((1, 1)).save(path), "1 x 1 pixels are too few"),
    "huge": (lambda path, _: path.write_bytes(png_header(20_000, 20_000)), "more than 100 megapixels"),
    "animated": (
        lambda path, image: image.save(path, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "several frames or pages",
    ),
    "folder": (lambda path, _: path.mkdir(), "no file of this name"),
    "to_nowhere": (lambda path, _: path.symlink_to("nowhere.jpg"), "is missing"),
    "to_itself": (lambda path, _: path.symlink_to(path.name), "symbolic links"),
    "missing": (lambda _path, _image: None, "no file of this name"),
}


@pytest.fixture
def project(tmp_path: Path, photograph: Image.Image) -> Path:
    """A project whose data/raw holds four good images and every fault."""
    images = tmp_path / "data/raw/images"
    images.mkdir(parents=True)
    names = {"GOOD 1": ".JPG", "gut zwölf": ".JPEG", "良性": ".Jpg", "plain": ".jpg"}
    for number, (name, suffix) in enumerate(names.items(), 1):
        (images / f"{name}{suffix}").write_bytes(photographs.jpeg(number))
    for name, (spoil, _) in FAULTS.items():
        spoil(images / f"{name}.jpg", photograph)
    rows = [f"{name},{'mel' if number % 2 else 'nv'}\n" for number, name in enumerate([*names, *FAULTS])]
    (tmp_path / "data/raw/labels.csv").write_text("image_id,dx\n" + "".join(rows), encoding="utf-8")
    return tmp_path


def run_manifest(folder: Path, on_bad_image: str, *prefix: str) -> "subprocess.CompletedProcess[str]":
    """Run the manifest stage as a process in a project."""
    write_params(folder, {"data": {"on_bad_image": on_bad_image}})
    return subprocess.run(
        [*prefix, sys.executable, "-m", "stages.manifest"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )


def said(result: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return the lines on stderr but for the progress bar."""
    return [line for line in result.stderr.splitlines() if line and not line.startswith("manifest: ")]


def written(folder: Path) -> list[str]:
    """Return the files of a project but for params.yaml and data/raw."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in files if name not in ("params.yaml", str(INSPECTIONS)) and "data/raw/" not in name)


def test_bad_images_end_the_stage_with_one_line_and_nothing_is_written(project: Path) -> None:
    result = run_manifest(project, "fail")
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = said(result)
    assert line.startswith(f"error: {len(FAULTS)} of {len(FAULTS) + 4} labelled images are bad: ")
    for name, (_, reason) in list(FAULTS.items())[:5]:
        assert any(name in clause and reason in clause for clause in line.split("; "))
    assert f"and {len(FAULTS) - 5} more; fix them, or set data.on_bad_image=skip" in line
    assert written(project) == []


def test_skipping_lists_every_bad_image_with_its_reason_and_keeps_the_good_whatever_their_names(project: Path) -> None:
    result = run_manifest(project, "skip")
    assert result.returncode == 0
    assert said(result) == []
    rejected = read_table(project / "data/rejected.csv")
    assert list(rejected["image_id"]) == list(FAULTS)
    for name, reason in rejected.itertuples(index=False):
        assert name in reason
        assert FAULTS[name][1] in reason
    manifest = read_table(project / "data/manifest.csv")
    assert set(manifest["image_id"]) == {"GOOD 1", "gut zwölf", "良性", "plain"}
    assert all((project / path).is_file() for path in manifest["path"])
    assert (manifest[["width", "height"]] == [600, 450]).all(axis=None)


@pytest.mark.slow
def test_a_file_that_may_not_be_read_is_bad(project: Path) -> None:
    unreadable = project / "data/raw/images/plain.jpg"
    unreadable.chmod(0)
    prefix = []
    if os.geteuid() == 0:  # who may read everything, until that capability is taken away
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
        if not shutil.which("setpriv") or subprocess.run([*prefix, "true"], check=False).returncode:
            pytest.skip("root reads every file here, and setpriv, which could take that from it, is not at work")
    result = run_manifest(project, "skip", *prefix)
    assert result.returncode == 0, result.stderr
    rejected = read_table(project / "data/rejected.csv").set_index("image_id")["reason"]
    assert rejected["plain"] == "data/raw/images/plain.jpg: Permission denied"


@pytest.mark.slow
@pytest.mark.parametrize(("form", "table_form"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_may_be_written_in_either_way(project: Path, form: Any, table_form: Any) -> None:
    images, table = project / "data/raw/images", project / "data/raw/labels.csv"
    (images / "plain.jpg").rename(images / f"{unicodedata.normalize(form, 'señal')}.jpg")
    table.write_text(
        table.read_text(encoding="utf-8").replace("plain", unicodedata.normalize(table_form, "señal")), encoding="utf-8"
    )
    assert run_manifest(project, "skip").returncode == 0
    assert "señal" in set(read_table(project / "data/manifest.csv")["image_id"])


@pytest.mark.parametrize("name", [b"l\xe9sion.jpg", b"two\nlines.jpg"], ids=["latin-1", "line break"])
def test_a_name_that_no_table_can_hold_is_refused(name: bytes) -> None:
    with pytest.raises(DataError, match="this name is not plain UTF-8 text: rename it"):
        require_plain_name(Path(os.fsdecode(name)))


def test_a_folder_with_the_name_of_an_image_is_a_folder(tmp_path: Path) -> None:
    (photograph,) = photographs.write_photographs(tmp_path / "case.jpg", 1)
    assert image_files([tmp_path]).files == [photograph]

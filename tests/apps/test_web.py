"""The server of the page: what it serves, to whom, and what it keeps to itself."""

import base64
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped] # its stubs are a package of their own
import pytest
import requests
from PIL import Image
from starlette.testclient import TestClient

from apps import web
from apps.answers import Answers
from apps.rendering import in_html, percent
from apps.web import LOCAL, MAX_BODY, MAX_FILE, WAITING, make_app
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT
from tests.support.page_question import ask
from tools.screenshots import open_app


def photo(seed: int, suffix: str = "PNG", side: int = 90, **options: object) -> bytes:
    """Return the content of an image file of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 30, 3), np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, suffix, **options)
    return content.getvalue()


def run_web(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the page's command, which ends, in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "apps.web", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_a_model_it_says_in_one_line_what_to_run(tmp_path: Path) -> None:
    result = run_web(tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: models/head.npz is missing")
    assert "make demo" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line_that_names_another(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/head.npz").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run_web(tmp_path, "--port", str(port))
    assert result.returncode == 1
    assert result.stderr == f"error: port {port} is in use: choose another, as in make app PORT={port + 1}\n"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0.0 %"), (0.0004, "< 0.1 %"), (0.3746, "37.5 %"), (0.9996, "> 99.9 %"), (1.0, "100.0 %")],
)
def test_no_probability_is_rounded_to_what_is_certain(share: float, text: str) -> None:
    assert percent(share).replace("\u00a0", " ") == text


@pytest.mark.slow
def test_what_is_unlike_the_training_images_is_warned_of_before_anything_else(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    answers = Answers(load_params())
    answer = answers.answer(photo(1), "photo.png", {})
    usual, unusual = (in_html(answers, replace(answer, unusual=value), None) for value in (False, True))
    assert "unlike" not in usual
    assert unusual.index("unlike the images that the model learned from") < unusual.index("The model's answer")


@pytest.mark.slow
def test_without_a_model_of_its_own_it_serves_the_demo_and_says_so(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / ".demo")
    with open_app(tmp_path) as url:
        page = requests.get(url, timeout=10).text
    assert "Drawn images" in page
    assert "Research and teaching only" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "queue/gradio_api/file=/etc/passwd",
        "queue/gradio_api/file=params.yaml",
        "queue/gradio_api/file/params.yaml",
        "queue/gradio_api/proxy=https://example.org",
        "queue/gradio_api/upload",
        "queue/gradio_api/queue/join",
        "queue/gradio_api/run/answer",
        "queue/gradio_api/info",
        "queue/gradio_api/vibe-edit",
        "queue/config",
        "queue/",
        "docs",
        "openapi.json",
        "params.yaml",
        "web.py",
        "examples/..%2f..%2fparams.yaml",
        "examples/9999",
        "style.css/",
    ],
)
def test_nothing_but_the_page_can_be_fetched(url: str, path: str) -> None:
    for method in ("GET", "POST"):
        reply = requests.request(method, f"{url}/{path}", timeout=10)
        assert reply.status_code in (404, 405)
        assert "root:" not in reply.text
        assert "source: sample" not in reply.text


@pytest.mark.slow
def test_no_path_leads_around_the_guard(url: str) -> None:
    for path in ("/queue/gradio_api/call/answer/../../info", "/queue/gradio_api/call/answer/%2e%2e/%2e%2e/info"):
        connection = HTTPConnection(url.removeprefix("http://"), timeout=10)  # it sends a path as it is
        connection.request("GET", path)
        assert connection.getresponse().status == 404


@pytest.mark.slow
def test_a_site_elsewhere_may_not_read_answers_by_any_name(url: str) -> None:
    queue, question = f"{url}/queue/gradio_api/call/answer", {"data": [{"example": 0}]}
    elsewhere = {"Origin": "https://evil.example"}
    for reply in (
        requests.options(queue, headers=elsewhere | {"Access-Control-Request-Method": "POST"}, timeout=60),
        requests.post(queue, json=question, headers=elsewhere, timeout=60),
    ):
        assert [name for name in reply.headers if name.lower().startswith("access-control-")] == []
    # a site whose name leads to this machine
    for path in ("", "examples/0"):
        assert requests.get(f"{url}/{path}", headers={"Host": "evil.example"}, timeout=10).status_code == 400
        assert requests.get(f"{url}/{path}", headers={"Host": "localhost:1"}, timeout=10).status_code == 200


@pytest.mark.slow
def test_more_questions_than_may_wait_are_turned_away(url: str) -> None:
    queue, content = f"{url}/queue/gradio_api/call/answer", base64.b64encode(photo(1, side=1200)).decode()
    ask(url, example=0)  # the queue is open

    def post(_: int) -> int:
        return requests.post(queue, json={"data": [{"photo": content}]}, timeout=60).status_code

    with ThreadPoolExecutor(40) as pool:
        counts = Counter(pool.map(post, range(40)))
    assert set(counts) == {200, 503}
    assert counts[200] >= WAITING
    assert "html" in ask_patiently(url)


def ask_patiently(url: str) -> dict[str, str]:
    """Return the answer to an example, when the server has room for the question."""
    for _ in range(60):
        try:
            return ask(url, example=0)
        except requests.HTTPError:
            time.sleep(1)
    raise AssertionError("the server has not answered what waited")


@pytest.mark.slow
def test_an_answer_that_nobody_fetches_is_forgotten(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setattr(web, "UNREAD", 2)
    queue = "/queue/gradio_api/call/answer"
    app = make_app(Answers(load_params()), LOCAL)
    # Gradio raises where there is no answer
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:

        def post() -> str:
            event: str = client.post(queue, json={"data": [{"example": 0}]}).json()["event_id"]
            return event

        assert "event: complete" in client.get(f"{queue}/{post()}").text
        unread = post()
        time.sleep(4)
        assert "event: complete" not in client.get(f"{queue}/{unread}").text


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "page.js", "style.css", "examples/0", "nothing", "too large"])
def test_every_reply_forbids_the_browser_what_is_elsewhere(url: str, path: str) -> None:
    if path == "too large":
        reply = requests.post(f"{url}/queue/gradio_api/call/answer", data=b" " * (MAX_BODY + 1), timeout=10)
        assert reply.status_code == 413
        headers = reply.headers
    else:
        headers = requests.get(f"{url}/{path}", timeout=10).headers
    policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("img-src") == "'self' data: blob:"
    assert set(policy.values()) == {"'none'", "'self'"}
    assert headers["Cache-Control"] == "no-store"


# Each process of Python writes down whom it calls and which files it opens for writing.
WITNESS = """
import os, sys
written = os.O_WRONLY | os.O_RDWR | os.O_CREAT
seen = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND)
def note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "subprocess.Popen", "tempfile.mkstemp",
                 "tempfile.mkdtemp", "os.mkdir", "os.rename"):
        os.write(seen, f"{event} {arguments!r}\\n".encode())
    if event == "open" and (arguments[2] or 0) & written:
        os.write(seen, f"{event} {arguments!r}\\n".encode())
sys.addaudithook(note)
"""


@pytest.mark.slow
def test_the_server_calls_nobody_and_an_answer_leaves_nothing_on_the_disk(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, code, home = tmp_path / "seen.txt", tmp_path / "code", tmp_path / "home"
    seen.touch()
    code.mkdir()
    home.mkdir()
    (code / "sitecustomize.py").write_text(WITNESS)
    for name, value in {"WITNESS": seen, "PYTHONPATH": code, "HOME": home, "TMPDIR": home}.items():
        monkeypatch.setenv(name, str(value))
    with open_app(finished) as url:
        assert "html" in ask(url, example=0)
        started = seen.read_text(encoding="utf-8")
        files = sorted(home.rglob("*"))
        assert "html" in ask(url, photo=photo(1), name="photo.png")
        assert "html" in ask(url, photo=photo(2, "TIFF"), name="large.tif")
        assert "error" in ask(url, photo=b"text", name="photo.txt")
        assert "html" in ask(url, example=1)
        assert sorted(home.rglob("*")) == files
        assert seen.read_text(encoding="utf-8") == started
    assert "os.mkdir" in started  # so it does see what Gradio does at its start
    assert "socket." not in seen.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_server_forgets_each_photo(url: str) -> None:
    port = int(url.rsplit(":", 1)[1])
    server = psutil.Process(next(c.pid for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port))
    content = photo(1, side=1700)
    assert 8_000_000 < len(content) < MAX_FILE

    def memory_after(questions: int) -> int:
        for _ in range(questions):
            assert "html" in ask(url, photo=content)
        return int(server.memory_info().rss)

    before = memory_after(4)
    assert memory_after(12) - before < 4 * len(content)


@pytest.mark.slow
def test_users_at_once_each_get_the_answer_to_their_own_photo(url: str) -> None:
    photos = [photo(seed) for seed in range(12)]
    alone = [ask(url, photo=content)["html"] for content in photos]
    assert len(set(alone)) == len(photos)
    with ThreadPoolExecutor(len(photos)) as users:
        together = list(users.map(lambda content: ask(url, photo=content)["html"], photos))
    assert together == alone


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"a text file", "not an image"),
        (photo(1, "JPEG")[:1500], "photo.jpg"),
        (photo(1, "GIF"), "not an image"),
        (photo(1, "TIFF", save_all=True, append_images=[Image.new("RGB", (120, 90))]), "photo.jpg"),
        (b"\xff\xd8" + bytes(MAX_FILE), "larger than 20 MB"),
    ],
)
def test_what_cannot_be_read_gets_one_clear_line(url: str, content: bytes, says: str) -> None:
    error = ask(url, photo=content, name="photo.jpg")["error"]
    assert says in error
    assert "\n" not in error
    assert not re.search(r"Traceback|Error|Exception|pydantic|PIL|cv2", error)


@pytest.mark.slow
@pytest.mark.parametrize(
    "question",
    [
        {"age": 300},
        {"age": "NaN"},
        {"sex": "x" * 1000},
        {"photo": "x"},
        {"example": -1},
        {"example": 9999},
        {"more": 1},
    ],
)
def test_a_question_that_no_page_asks_gets_one_clear_line(url: str, question: dict[str, object]) -> None:
    error = ask(url, **({"example": 0} | question))["error"]
    assert "\n" not in error
    assert "reload the page" in error or "0 to 120" in error


@pytest.mark.slow
def test_a_body_over_the_limit_is_refused(url: str) -> None:
    address = f"{url}/queue/gradio_api/call/answer"
    chunks = (b" " * 1_000_000 for _ in range(30))  # of a length that nobody has announced
    assert requests.post(address, data=chunks, timeout=60).status_code == 413
    assert requests.post(address, data=b" " * 30_000_000, timeout=60).status_code == 413

"""A server that speaks what the kaggle client speaks, with faults on request.

As at Kaggle there are two hosts. The API (localhost) knows the credentials and answers a download with a redirect to
a signed address; the storage (127.0.0.1) wants that signature and no credentials, and serves ranges. Tests ask for
faults; a benchmark and a test let it serve the real images.
"""

import base64
import hashlib
import json
import sys
import threading
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SO_SNDBUF, SOL_SOCKET
from types import TracebackType
from typing import Any, Literal

API = "/api/v1/"
STORAGE = "/storage/archive.zip"
BLOCK_BYTES = 65_536
SETTINGS_FOLDER = Path(__file__).with_name("download_settings")


@dataclass
class Request:
    """One request as it came and was answered; `range` is its Range header."""

    method: str
    path: str
    range: str | None
    status: int


class KaggleServer(ThreadingHTTPServer):
    """Serves one archive as the one dataset it knows; use as a context manager.

    Attributes:
        archive: the file served; may be replaced between requests.
        status: answer this status to every request of the API.
        storage_status: answer this status to every request of the storage.
        introspection_status: answer this status when asked about a token that is not valid.
        coming: status and headers of the answers to the next requests of the API, of the storage, and of those of the
            storage that ask for a range.
        body: answer this to every request of the API, as JSON that it may be or not.
        location: redirect a download to this address.
        silent: never answer the API, but keep the connection.
        ranges: honour, ignore or (answer 206 with everything) misread a Range header; or hide that ranges are served.
        announced: add this to the length of the archive in the headers; None: do not tell the length.
        extra: write this behind the last byte announced.
        cuts: cut the next transfers after this many bytes of their bodies; None: do not cut.
        stall_after: fall silent in the next transfer after this many bytes of its body, but keep the connection.
        requests: what was asked, in order.
        bytes_sent: bytes of archives written to sockets.
    """

    username, key = "lena", "k1e9y" * 6
    token = "KGAT_" + "t0k3n" * 6
    signature = "s1gn3d" * 6
    daemon_threads = True

    def __init__(self, archive: Path, dataset: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.archive = archive
        self.dataset = dataset
        self.status: int | None = None
        self.storage_status: int | None = None
        self.introspection_status = 200
        self.coming: dict[str, list[tuple[int, dict[str, str]]]] = {"api": [], "storage": [], "range": []}
        self.body: bytes | None = None
        self.location: str | None = None
        self.silent = False
        self.ranges: Literal["honour", "ignore", "misread", "hide"] = "honour"
        self.announced: int | None = 0
        self.extra = b""
        self.cuts: list[int | None] = []
        self.stall_after: int | None = None
        self.requests: list[Request] = []
        self.bytes_sent = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def __enter__(self) -> "KaggleServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what fails here, but not that a client has gone: tests kill clients."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    @property
    def endpoint(self) -> str:
        return f"http://localhost:{self.server_port}"

    @property
    def secrets(self) -> list[str]:
        """Everything that no output may show."""
        basic = base64.b64encode(f"{self.username}:{self.key}".encode()).decode()
        return [self.key, self.token, self.signature, basic]

    def transfers(self) -> list[Request]:
        """Requests for the archive itself."""
        return [request for request in self.requests if request.path.startswith(STORAGE)]


def meet(project: Path, **settings: Any) -> dict[str, str]:
    """Return the environment in which the download stage of a project meets a local server; credentials come on top.

    Args:
        project: the folder whose modules are run.
        settings: `endpoint`, the server's; and, in lower case, any name of dermoscopy/data/sources/kaggle.py, or
            `images` of archive.py beside it, that the stage is to take another value for.
    """
    return {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "PYTHONPATH": str(SETTINGS_FOLDER),
        "DOWNLOAD_PROJECT": str(project),
        "DOWNLOAD_SETTINGS": json.dumps(settings),
    }


class _Handler(BaseHTTPRequestHandler):
    server: KaggleServer
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        # Small, so that few bytes are counted as sent that the client has never taken.
        self.connection.setsockopt(SOL_SOCKET, SO_SNDBUF, BLOCK_BYTES)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        if self.server.silent:
            self.server.closing.wait()
        elif self.server.body is not None:
            self._begin(200, {"Content-Type": "application/json"}, len(self.server.body))
            self.wfile.write(self.server.body)
        elif self.server.coming["api"]:
            status, headers = self.server.coming["api"].pop(0)
            self._answer(status, {"code": status, "message": "as the test asked"}, headers)
        elif self.server.status is not None:
            self._answer(self.server.status, {"code": self.server.status, "message": "as the test asked"})
        elif self.path == f"{API}security.OAuthService/IntrospectToken":
            valid = content.get("token") == self.server.token
            answer = {"active": True, "username": self.server.username} if valid else {"active": False}
            self._answer(200 if valid else self.server.introspection_status, answer)
        elif self.headers["Authorization"] not in self._accepted():
            self._answer(401, {"code": 401, "message": "Unauthenticated"})
        elif (
            self.path == f"{API}datasets.DatasetApiService/DownloadDataset"
            and f"{content.get('ownerSlug')}/{content.get('datasetSlug')}" == self.server.dataset
        ):
            location = f"http://127.0.0.1:{self.server.server_port}{STORAGE}?X-Goog-Signature={self.server.signature}"
            self._answer(302, {}, {"Location": self.server.location or location})
        else:
            self._answer(404, {"code": 404, "message": "Not found"})

    def do_GET(self) -> None:
        """Send the archive, or the rest of it that is asked for, as an object store does (RFC 9110, 13 and 14)."""
        if self.path != f"{STORAGE}?X-Goog-Signature={self.server.signature}" or self.headers["Authorization"]:
            return self._answer(403, {})
        if self.server.storage_status is not None:
            return self._answer(self.server.storage_status, {"error": "as the test asked"})
        for kind in ["storage", "range"] if self.headers["Range"] else ["storage"]:
            if self.server.coming[kind]:
                status, headers = self.server.coming[kind].pop(0)
                return self._answer(status, {"error": "as the test asked"}, headers)
        content = self.server.archive.read_bytes()
        modified = formatdate(self.server.archive.stat().st_mtime, usegmt=True)
        headers = {
            "Content-Type": "application/zip",
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "Last-Modified": modified,
        }
        if self.server.ranges != "hide":
            headers["Accept-Ranges"] = "bytes"
        start = 0
        matches = self.headers.get("If-Range", headers["ETag"]) in (headers["ETag"], modified)
        if self.headers["Range"] and matches and self.server.ranges in ("honour", "misread"):
            if self.server.ranges == "honour":
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self._answer(416, {}, {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        length = None if self.server.announced is None else len(content) - start + self.server.announced
        self._begin(206 if "Content-Range" in headers else 200, headers, length)
        self._send(content[start:])
        if self.server.announced != 0 or self.server.extra:
            self.close_connection = True
        return None

    def _accepted(self) -> list[str]:
        """The Authorization headers that let one in."""
        basic = base64.b64encode(f"{self.server.username}:{self.server.key}".encode()).decode()
        return [f"Basic {basic}", f"Bearer {self.server.token}"]

    def _answer(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self._begin(status, {"Content-Type": "application/json"} | (headers or {}), len(body))
        self.wfile.write(body)

    def _begin(self, status: int, headers: dict[str, str], length: int | None) -> None:
        with self.server.lock:
            self.server.requests.append(Request(self.command, self.path, self.headers["Range"], status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(self, content: bytes) -> None:
        """Write a body with the faults that are due; the client may leave before its end."""
        with self.server.lock:
            cut = self.server.cuts.pop(0) if self.server.cuts else None
            stall, self.server.stall_after = self.server.stall_after, None
        end = min(limit for limit in (cut, stall, len(content)) if limit is not None)
        try:
            for first in range(0, end, BLOCK_BYTES):
                block = content[first : min(first + BLOCK_BYTES, end)]
                self.connection.sendall(block)
                with self.server.lock:
                    self.server.bytes_sent += len(block)
            self.connection.sendall(self.server.extra)
        except OSError:
            self.close_connection = True
            return
        if stall is not None:
            self.server.closing.wait()
        if end < len(content):
            self.close_connection = True

"""An S3 server on this machine (moto's), and a proxy before it that makes the faults of networks and storages."""

import http.client
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

# Made up, and told to clients by the environment alone: so they must be found nowhere.
KEY, SECRET = "AKIAMADEUPFORTESTS00", "made+up/secret/of/these/tests/0123456789"


class S3Server(NamedTuple):
    """A server with a client of its own; each test takes buckets of its own."""

    address: str
    client: Any

    def environment(self, address: str | None = None) -> dict[str, str]:
        """Return the variables by which the AWS SDK finds the server, or a proxy before it, and may use it."""
        return {
            "AWS_ENDPOINT_URL": address or self.address,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def fill(self, bucket: str, files: dict[str, bytes]) -> None:
        """Make a bucket with these objects."""
        self.client.create_bucket(Bucket=bucket)
        for key, content in files.items():
            self.client.put_object(Bucket=bucket, Key=key, Body=content)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server for all tests of the session, on a free port."""
    import boto3  # these take seconds to import, and every session of tests knows this fixture
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # or it prints every request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
    )
    yield S3Server(address, client)
    server.stop()


# What a proxy does with a request: pass it on, cut its answer in the middle, never answer; refuse it with a status and
# a code of S3, or wait some seconds first.
ON, CUT, STUCK = "on", "cut", "stuck"


class Refuse(NamedTuple):
    status: int
    code: str


class Wait(NamedTuple):
    seconds: float


Fault = str | Refuse | Wait
# From method and path of a request, and how many of both there were before.
Decide = Callable[[str, str, int], Fault]


class FaultyProxy:
    """A proxy before a server.

    Attributes:
        address: where it listens.
        decide: what it does with a request; may be replaced at any time.
        requests: method and path of each request, in order.
        at_once: the most requests that were waiting for their answers at a time.
    """

    def __init__(self, server: str) -> None:
        self.decide: Decide = lambda method, path, before: ON
        self.requests: list[tuple[str, str]] = []
        self.at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        proxy, target = self, server.removeprefix("http://")

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                proxy._answer(self, target)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - names of the base class

            def log_message(self, *args: Any) -> None:
                """Print nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128  # or many that connect at once wait for a second

        self._server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, target: str) -> None:
        asked = (request.command, request.path.partition("?")[0])
        with self._lock:
            fault = self.decide(*asked, self.requests.count(asked))
            self.requests.append(asked)
            self._open += 1
            self.at_once = max(self.at_once, self._open)
        try:
            self._answer_as(fault, request, target)
        finally:
            with self._lock:
                self._open -= 1

    def _answer_as(self, fault: Fault, request: BaseHTTPRequestHandler, target: str) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        if fault == STUCK:
            self._ended.wait()
            request.close_connection = True
            return
        if isinstance(fault, Wait):
            time.sleep(fault.seconds)
        if isinstance(fault, Refuse):
            answer = f"<Error><Code>{fault.code}</Code><Message>{fault.code} by the proxy</Message></Error>".encode()
            status, headers = fault.status, [("Content-Type", "application/xml")]
        else:
            connection = http.client.HTTPConnection(target)
            connection.request(request.command, request.path, body, dict(request.headers))
            response = connection.getresponse()
            answer, status = response.read(), response.status
            headers = [
                pair for pair in response.getheaders() if pair[0].lower() not in ("transfer-encoding", "connection")
            ]
            connection.close()
        request.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or request.command == "HEAD":
                request.send_header(name, value)
        if request.command != "HEAD":
            request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(answer[: len(answer) // 2] if fault == CUT else answer)
        if fault == CUT:
            request.close_connection = True


@contextmanager
def faulty_proxy(server: S3Server) -> Iterator[FaultyProxy]:
    """Give a proxy before a server that passes everything on, until told otherwise."""
    proxy = FaultyProxy(server.address)
    try:
        yield proxy
    finally:
        proxy.close()

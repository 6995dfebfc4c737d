"""`make app`: a page on which a photo can be dropped, and what the trained model makes of it.

For research only: this is not a medical device. Run from the top folder of the project, after dvc repro or make demo;
answers on this machine only, unless --host says otherwise. docs/app.md says what the page shows.
"""

import argparse
import asyncio
import errno
import logging
import os
import re
import socket
from contextlib import asynccontextmanager, chdir
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError

from apps.answers import Answers, Example
from apps.rendering import in_html, render, thumbnail
from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.storage import read_bytes
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import DataError, PipelineError, one_line
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import HEAD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from gradio import Blocks
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HERE = Path(__file__).parent
DEMO = Path(".demo")
MAX_FILE = 20_000_000  # bytes of a photo
MAX_BODY = MAX_FILE * 4 // 3 + 10_000  # the photo in base64, and the rest of a question
AT_A_TIME = 2  # questions that are answered; others wait
WAITING = 16  # questions, each with its photo; more are turned away
UNREAD = 60  # seconds after which an answer that nobody fetches is forgotten
LOCAL = ["127.0.0.1", "localhost"]

# Gradio has some forty routes, which write uploads to the disk, read files and fetch addresses: only these are open.
OPEN = re.compile(r"/(style\.css|page\.js|examples/\d+|queue/gradio_api/call/answer(/[0-9a-f]{32})?)?")
# FastAPI, Gradio, and the library of Hugging Face beneath it, read as they are imported whom they may call: nobody.
SILENT = {
    "FASTAPI_OTEL_AUTO_CONFIGURE": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Question(BaseModel):
    """What the page asks: a photo with the name of its file, or the number of an example; and what is known."""

    model_config = ConfigDict(extra="forbid")

    photo: Base64Bytes | None = None
    name: Annotated[str, Field(max_length=500)] = ""
    example: Annotated[int, Field(strict=True)] | None = None
    age: Annotated[float, Field(ge=0, le=120, strict=True)] | None = None
    sex: Annotated[str, Field(max_length=100)] | None = None
    localization: Annotated[str, Field(max_length=100)] | None = None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m apps.web", description=__doc__)
    parser.add_argument("--port", type=int, default=7860, help="of the page (default: 7860)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    arguments = parser.parse_args()
    if find_spec("gradio") is None:
        raise PipelineError("Gradio is not installed: run make app, which installs requirements-app.txt")
    os.environ |= SILENT
    folder = project_to_serve()
    with listen(arguments.host, arguments.port) as listening, chdir(folder):
        if folder == DEMO:
            print("apps.web: no model in models/, so this is the one of make demo: drawn images, random weights")
        configure_image_libraries()
        # another name would be a site elsewhere that has its name lead here
        app = make_app(Answers(load_params()), LOCAL if arguments.host in LOCAL else ["*"])
        address = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        port = listening.getsockname()[1]
        print(f"apps.web: http://{address}:{port} is up, for research only (Ctrl-C ends it)", flush=True)
        serve(app, listening)


def project_to_serve() -> Path:
    """Return the folder whose model is shown: this one, or that of the demo; a PipelineError if neither has one."""
    for folder in (Path(), DEMO):
        if (folder / HEAD).is_file():
            return folder
    raise PipelineError(f"{HEAD} is missing, and {DEMO / HEAD} too: run make repro, or make demo for drawn images")


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; a PipelineError if the port is taken or not allowed."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OverflowError:
        raise PipelineError(f"port {port} does not exist: choose one of 1024 to 65535") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PipelineError(f"port {port} is in use: choose another, as in make app PORT={port + 1}") from None
        raise PipelineError(f"cannot listen on {host}, port {port}: {error.strerror}") from None


def serve(app: "ASGIApp", listening: socket.socket) -> None:
    """Serve the page until Ctrl-C, and keep no log of who asks what."""
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listening])


def make_app(answers: Answers, hosts: list[str]) -> "ASGIApp":
    """Return the page, its style and script, the examples, and behind Gradio's queue the answers.

    Gradio takes three seconds to import, in which the page can be read: it is imported when all else is served.

    Args:
        answers: the model.
        hosts: by which names the server may be asked; "*" is any.
    """
    from fastapi import FastAPI, HTTPException
    from fastapi.responses import FileResponse, HTMLResponse, Response
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> "AsyncIterator[None]":
        app.state.queue = asyncio.create_task(open_queue(answers))
        yield

    async def queue(scope: "Scope", receive: "Receive", send: "Send") -> None:
        await (await app.state.queue)(scope, receive, send)

    examples = sorted(enumerate(answers.examples), key=lambda pair: pair[1].image_id)  # not by what they show
    page = render("index.html.jinja", answers=answers, examples=examples, max_megabytes=MAX_FILE // 1_000_000)
    app = FastAPI(openapi_url=None, lifespan=lifespan, max_body_size=MAX_BODY)
    app.mount("/queue", queue)

    @app.get("/", response_class=HTMLResponse)
    def index() -> str:
        return page

    @app.get("/style.css")
    def style() -> FileResponse:
        return FileResponse(HERE / "style.css")

    @app.get("/page.js")
    def script() -> FileResponse:
        return FileResponse(HERE / "page.js")

    @app.get("/examples/{number}")
    def example(number: int) -> Response:
        try:
            return Response(thumbnail(answers.examples[number].path), media_type="image/jpeg")
        except (IndexError, PipelineError):  # there is none, or its file has gone
            raise HTTPException(404) from None

    return Guard(TrustedHostMiddleware(app, allowed_hosts=hosts))


async def open_queue(answers: Answers) -> "ASGIApp":
    """Return Gradio's application, started: its queue gives each question to `answer_in_html`, and keeps nothing."""
    from fastapi import FastAPI

    def answer(question: dict[str, Any]) -> dict[str, str]:
        try:
            return {"html": answer_in_html(answers, question)}
        except PipelineError as error:
            return {"error": one_line(str(error))}
        except Exception:  # a bug of ours: the page shows one line, the terminal all of it
            logging.exception("apps.web could not answer")
            return {"error": "The page could not answer, and the fault is not yours. The terminal says more."}

    def make() -> "tuple[FastAPI, Blocks]":
        import gradio

        with gradio.Blocks(analytics_enabled=False) as queue:
            gradio.api(answer, api_name="answer", concurrency_limit=AT_A_TIME)
        queue.queue(max_size=WAITING)
        app = FastAPI(openapi_url=None)
        gradio.mount_gradio_app(app, queue, path="", run_history=False, ssr_mode=False, mcp_server=False)
        return app, queue

    app, blocks = await asyncio.to_thread(make)
    await app.router.lifespan_context(app).__aenter__()  # which starts the queue; it ends with the process

    # Gradio keeps the last question of each of 10,000 users, and the answers that 2,000 have not fetched
    questions, unread = blocks.state_holder, blocks._queue.pending_messages_per_session  # which have no public names

    def forget(events: list[str]) -> None:
        for event in events:
            unread.pop(event, None)

    async def forgetful(scope: "Scope", receive: "Receive", send: "Send") -> None:
        try:
            await app(scope, receive, send)
        finally:
            questions.session_data.clear()
            questions.time_last_used.clear()
            asyncio.get_running_loop().call_later(UNREAD, forget, list(unread))

    return forgetful


def answer_in_html(answers: Answers, asked: dict[str, Any]) -> str:
    """Return the answer to a `Question` as a piece of the page; a DataError of one line if there is none."""
    try:
        question = Question.model_validate(asked)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("age",):
            raise DataError("The age must be a number of years, 0 to 120.") from None
        raise DataError("This page and its server do not understand each other: reload the page.") from None
    example: Example | None = None
    if question.example is not None:
        if not 0 <= question.example < len(answers.examples):
            raise DataError("This example does not exist: reload the page.")
        example = answers.examples[question.example]
        content, name = read_bytes(example.path), example.image_id
    else:
        content, name = question.photo or b"", question.name or "the photo"
    if len(content) > MAX_FILE:
        raise DataError(f"{name}: the file is larger than {MAX_FILE // 1_000_000} MB.")
    known = question.model_dump(include={"age", "sex", "localization"}, exclude_none=True)
    return in_html(answers, answers.answer(content, name, known), example)


class Guard:
    """ASGI middleware: only what is OPEN, and HEADERS on every answer.

    With these headers a browser loads nothing from elsewhere, and sends nothing there. No page from elsewhere may read
    an answer, for which Gradio would give it leave.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.datastructures import MutableHeaders
        from starlette.responses import PlainTextResponse

        async def send_guarded(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                headers.update(HEADERS)
            await send(message)

        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http" or not OPEN.fullmatch(scope["path"]):
            return await PlainTextResponse("not found", 404)(scope, receive, send_guarded)
        return await self._app(scope, receive, send_guarded)


if __name__ == "__main__":
    run_command(main)

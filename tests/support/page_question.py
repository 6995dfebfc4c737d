"""Questions to a page that is served, as its script asks them."""

import base64
import json
from typing import Any

import requests


def ask(url: str, **question: Any) -> dict[str, str]:
    """Return what the page says of a `Question`; a photo is bytes."""
    if isinstance(question.get("photo"), bytes):
        question["photo"] = base64.b64encode(question["photo"]).decode()
    queue = f"{url}/queue/gradio_api/call/answer"
    joined = requests.post(queue, json={"data": [question]}, timeout=60)
    joined.raise_for_status()
    events = requests.get(f"{queue}/{joined.json()['event_id']}", timeout=60).text
    answer: dict[str, str] = json.loads(events.rsplit("event: complete\ndata: ", 1)[1])[0]
    return answer

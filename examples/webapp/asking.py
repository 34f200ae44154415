"""What a request asks for, taken apart and checked."""

import json
import time
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from .jobs import Entry, new_id, without_secrets
from .uploads import Uploads

MOST_BODY: Final = 16 * 1024
"""Bytes of a request that is no upload."""

LONGEST_NAME: Final = 200
LONGEST_ADDRESS: Final = 2000


async def asked_for(request: Request) -> dict[str, Any]:
    """The request's JSON object."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY:
            raise HTTPException(413, "The request is too large.")
    try:
        asked = json.loads(body)
        json.dumps(asked, ensure_ascii=False, allow_nan=False).encode()  # else it fails later, and less clearly
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise HTTPException(400, "The request must be a JSON object.")
    return asked


def recording(asked: dict[str, Any], uploads: Uploads) -> tuple[Entry, str]:
    """What is to be transcribed: how it is called here, and the reference for the worker."""
    return _upload(asked, uploads) if asked.get("upload") else _address(asked)


def options(asked: dict[str, Any]) -> dict[str, Any]:
    """The options of tasks.transcribe that the form offers. The worker checks their values."""
    language = asked.get("language")
    return {
        "live": asked.get("live") is True,
        "channels": "split" if asked.get("channels") == "split" else "mix",
        "pace": asked.get("pace", 1.0),
        **({"language_hints": [language]} if language else {}),
    }


def _upload(asked: dict[str, Any], uploads: Uploads) -> tuple[Entry, str]:
    """The upload's id becomes the job's, so that a request which is sent again makes no second job."""
    upload_id = str(asked["upload"])
    if (path := uploads.find(upload_id)) is None:
        raise HTTPException(404, "The upload is not there any more; choose the file again.")
    name = str(asked.get("name") or "recording")[:LONGEST_NAME]
    return _new(upload_id, name, f"/api/jobs/{upload_id}/audio"), path.as_uri()


def _address(asked: dict[str, Any]) -> tuple[Entry, str]:
    """A recording elsewhere. Only of the web: a `file:` reference could name the upload of somebody else."""
    url = str(asked.get("url") or "").strip()
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("https", "http") and bool(parts.hostname)
    except ValueError:
        is_web = False
    if not is_web or len(url) > LONGEST_ADDRESS:
        raise HTTPException(400, "Choose a file, or give an address that begins with https:// or http://.")
    shown = without_secrets(url)
    # A signed address is handed to the worker and not kept, so the browser cannot play it.
    audio = url if parts.scheme == "https" and shown == url else ""
    return _new(new_id(), shown[:LONGEST_NAME], audio), url


def _new(job_id: str, name: str, audio: str) -> Entry:
    return Entry(id=job_id, name=name, audio=audio, created_at=time.time())

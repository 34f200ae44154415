"""The app's HTTP side, over a real Valkey; what a worker would write there, the tests write."""

import ast
import asyncio
import base64
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from emulator.stack import free_port
from examples.webapp.settings import Settings, from_environment
from examples.webapp.uploads import GRACE, Uploads
from tests.web.serving import SENTENCE, Web, Worker

FOLDER = Path(__file__).parents[2] / "examples" / "webapp"


def message(client: redis.Redis) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """The one message in the queue: arguments, options, headers."""
    (raw,) = client.lrange("transcribe.interactive", 0, -1)
    found = json.loads(raw)
    args, options, _ = json.loads(base64.b64decode(found["body"]))
    return args, options, found["headers"]


# -- What it is made of ------------------------------------------------------------------------------------------------


def test_it_knows_nothing_of_ours_but_celery_and_redis() -> None:
    found = set()
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).split(".")[0])
    assert found - sys.stdlib_module_names == {"celery", "redis", "starlette"}


def test_its_page_takes_nothing_from_elsewhere_and_makes_no_markup_of_text() -> None:
    for path in (FOLDER / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        addresses = [part.split('"')[0] for part in text.split("http")[1:] if part.startswith(("://", "s://"))]
        assert addresses in ([], ["s://example.com/call.mp3"]), path
        assert not any(word in text for word in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(")), path


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WEBAPP_UPLOADS", str(tmp_path / "new"))
    monkeypatch.setenv("WEBAPP_HOSTS", "a.example,b.example")
    monkeypatch.setenv("WEBAPP_MOST_UPLOAD_MB", "3")
    settings = from_environment()
    assert (settings.hosts, settings.most_upload) == (("a.example", "b.example"), 3 * 1024**2)
    assert settings.uploads.is_dir()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("WEBAPP_UPLOADS", None, "set WEBAPP_UPLOADS"), ("WEBAPP_TTL", "long", "WEBAPP_TTL are numbers")],
)
def test_a_wrong_setting_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str | None, said: str
) -> None:
    monkeypatch.setenv("WEBAPP_UPLOADS", str(tmp_path))
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=said):
        from_environment()


# -- A new job ---------------------------------------------------------------------------------------------------------


def test_an_upload_becomes_a_job_on_the_queue(web: Web, client: redis.Redis) -> None:
    job_id = web.send(name="a call.wav", language="en", live=True, pace=2, channels="split")

    args, options, headers = message(client)

    assert args == [(web.settings.uploads / job_id).as_uri()]
    assert options == {
        "live": True,
        "channels": "split",
        "pace": 2,
        "language_hints": ["en"],
        "formats": ["txt", "srt", "vtt", "tsv"],
    }
    assert (headers["id"], headers["task"]) == (job_id, "tasks.transcribe")
    assert web.get("/api/jobs").json["jobs"][0] | {"created_at": 0} == {
        "id": job_id,
        "name": "a call.wav",
        "audio": f"/api/jobs/{job_id}/audio",
        "created_at": 0,
        "state": "queued",
        "waits": False,
        "progress_ms": 0,
        "duration_ms": 0,
        "error": "",
    }


def test_a_request_that_is_sent_again_makes_no_second_job(web: Web) -> None:
    upload = web.upload()
    ids = {web.post("/api/jobs", {"upload": upload}).json["id"] for _ in range(2)}
    assert ids == {upload} and len(web.get("/api/jobs").json["jobs"]) == 1


def test_a_signed_address_is_handed_on_and_kept_nowhere_else(web: Web, client: redis.Redis) -> None:
    secret = "https://user:pass@host.example/call.mp3?signature=s3cret"

    job_id = web.post("/api/jobs", {"url": secret}).json["id"]

    args, _, headers = message(client)
    assert args == [secret]
    job = web.get(f"/api/jobs/{job_id}")
    assert (job.json["name"], job.json["audio"]) == ("https://host.example/call.mp3", "")
    for shown in (str(headers), str(client.hgetall(f"webapp:job:{job_id}")), job.body.decode()):
        assert "s3cret" not in shown and "pass" not in shown


def test_the_browser_plays_an_open_address_itself(web: Web) -> None:
    job_id = web.post("/api/jobs", {"url": "https://host.example/call.mp3"}).json["id"]
    assert web.get(f"/api/jobs/{job_id}").json["audio"] == "https://host.example/call.mp3"


@pytest.mark.parametrize(
    "url", ["", "file:///etc/passwd", "call.mp3", "s3://bucket/key", "https://", "https://[", "https://h/" + "a" * 2000]
)
def test_an_address_that_is_not_of_the_web_is_refused(web: Web, client: redis.Redis, url: str) -> None:
    answer = web.post("/api/jobs", {"url": url})
    assert (answer.status, "https://" in answer.error) == (400, True)
    assert not client.exists("transcribe.interactive")


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"name": "\\ud800"}', b'{"pace": NaN}', b"[" * 9000])
def test_a_request_that_is_no_object_is_refused(web: Web, body: bytes) -> None:
    assert web.post("/api/jobs", body).status == 400


def test_a_request_has_a_limit(web: Web) -> None:
    assert web.post("/api/jobs", {"url": "x" * 20_000}).status == 413


def test_a_list_is_bounded_and_has_an_end(web: Web, client: redis.Redis) -> None:
    upload = web.upload()
    client.zadd("webapp:recent", {f"{i:032x}": i for i in range(60)})
    web.post("/api/jobs", {"upload": upload})
    assert client.zcard("webapp:recent") == 50
    assert 0 < client.ttl("webapp:recent") <= web.settings.ttl
    assert 0 < client.ttl(f"webapp:job:{upload}") <= web.settings.ttl
    assert [job["id"] for job in web.get("/api/jobs").json["jobs"]] == [upload]


# -- Uploads -----------------------------------------------------------------------------------------------------------


def test_an_upload_is_on_disk_as_it_was_sent(web: Web) -> None:
    sent = os.urandom(3_000_000)
    assert (web.settings.uploads / web.upload(sent)).read_bytes() == sent


@pytest.mark.parametrize("extra", [-1, 0])
def test_an_upload_up_to_the_limit_is_taken(start: Callable[..., Web], extra: int) -> None:
    web = start(most_upload=1000)
    assert web.post("/api/uploads", bytes(1000 + extra)).status == 201


@pytest.mark.parametrize("announced", [True, False])
def test_a_larger_one_is_refused_and_leaves_nothing(start: Callable[..., Web], announced: bool) -> None:
    web = start(most_upload=1000)
    chunked = b"3e9\r\n" + bytes(1001) + b"\r\n0\r\n\r\n"
    answer = (
        web.post("/api/uploads", bytes(1001))
        if announced
        else web.post("/api/uploads", chunked, Transfer_Encoding="chunked")
    )
    assert answer.status == 413 and "too large" in answer.error
    assert list(web.settings.uploads.iterdir()) == []


def test_an_empty_one_is_refused_and_leaves_nothing(web: Web) -> None:
    answer = web.post("/api/uploads", b"")
    assert answer.status == 400 and "empty" in answer.error
    assert list(web.settings.uploads.iterdir()) == []


def test_all_uploads_together_have_a_limit(start: Callable[..., Web]) -> None:
    web = start(most_uploads=1000)
    web.upload(bytes(600))
    answer = web.post("/api/uploads", bytes(600))
    assert answer.status == 507 and "no room" in answer.error


def test_an_upload_that_is_broken_off_leaves_nothing(web: Web, eventually: Callable[..., None]) -> None:
    with socket.create_connection(("127.0.0.1", web.port)) as half:
        half.sendall(b"POST /api/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n" + bytes(500))
        eventually(lambda: list(web.settings.uploads.iterdir()), "the upload has begun")
    eventually(lambda: not list(web.settings.uploads.iterdir()), "its file is gone")


@pytest.mark.parametrize("name", ["../secret", "..%2Fsecret", "%2e%2e/secret", "a" * 32 + "/../../secret", "0" * 32])
def test_no_name_leads_out_of_the_folder(web: Web, name: str) -> None:
    (web.settings.uploads.parent / "secret").write_bytes(b"not for you")
    assert web.get(f"/api/jobs/{name}/audio").status == 404
    assert web.get(f"/static/{name}").status == 404
    assert web.post("/api/jobs", {"upload": name}).status == 404


def test_the_recording_comes_by_ranges_as_players_ask(web: Web) -> None:
    upload = web.upload(bytes(range(100)))
    web.post("/api/jobs", {"upload": upload, "name": "call.mp3"})
    answer = web.get(f"/api/jobs/{upload}/audio", Range="bytes=10-19")
    assert (answer.status, answer.body) == (206, bytes(range(10, 20)))
    assert answer.headers["content-type"] == "audio/mpeg"


@pytest.mark.parametrize("name", ["page.html", "picture.svg", "script.js", "noname"])
def test_an_upload_is_never_a_page_of_ours(web: Web, name: str) -> None:
    job_id = web.send(name=name)
    headers = web.get(f"/api/jobs/{job_id}/audio").headers
    assert headers["content-type"] == "application/octet-stream"
    assert (headers["x-content-type-options"], headers["content-security-policy"]) == ("nosniff", "sandbox")


def test_old_uploads_go_when_nobody_knows_their_jobs(start: Callable[..., Web], client: redis.Redis) -> None:
    web = start()
    ours, running, forgotten, young = web.send(), web.upload(), web.upload(), web.upload()
    part, foreign = web.settings.uploads / ("f" * 32 + ".part"), web.settings.uploads / "notes.txt"
    for path in (part, foreign):
        path.write_bytes(b"x")
    Worker(client, running).runs()
    for path in web.settings.uploads.iterdir():
        if path.name != young:
            os.utime(path, (0, time.time() - GRACE - 10))

    async def is_needed(job_id: str) -> bool:
        return bool(client.exists(f"webapp:job:{job_id}", f"stenopool:job:{{{job_id}}}"))

    asyncio.run(Uploads(web.settings.uploads, 1, 1).sweep(is_needed))

    assert {path.name for path in web.settings.uploads.iterdir()} == {ours, running, young, "notes.txt"}
    assert forgotten not in os.listdir(web.settings.uploads)


def test_the_app_sweeps_when_it_starts(
    start: Callable[..., Web], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    (tmp_path / "uploads").mkdir()
    old = tmp_path / "uploads" / ("a" * 32)
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    start()
    eventually(lambda: not old.exists(), "the old upload is gone")


# -- Who may ask -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 201),
        ({"Sec_Fetch_Site": "same-origin"}, 201),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_another_site_cannot_send_in_a_users_name(web: Web, headers: dict[str, str], status: int) -> None:
    assert web.post("/api/uploads", b"RIFF", **headers).status == status


def test_the_apps_own_page_can(web: Web) -> None:
    assert web.post("/api/uploads", b"RIFF", Origin=f"http://127.0.0.1:{web.port}").status == 201


def test_a_name_that_is_not_ours_is_refused(web: Web) -> None:
    """Else a page whose name leads to this machine could read all: there is no login."""
    assert web.get("/api/jobs", Host="evil.example").status == 400


@pytest.mark.parametrize("path", ["/", "/jobs/" + "a" * 32, "/static/app.js", "/api/jobs", "/api/jobs/none"])
def test_every_answer_limits_what_a_browser_may_do_with_it(web: Web, path: str) -> None:
    headers = web.get(path).headers
    assert "require-trusted-types-for 'script'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"


# -- A job -------------------------------------------------------------------------------------------------------------


def test_a_job_is_shown_as_far_as_it_has_come(web: Web, client: redis.Redis) -> None:
    job_id = web.send()
    worker = Worker(client, job_id)
    worker.runs(progress_ms=1500, duration_ms=3000)
    worker.says("Hello.")
    last = worker.tell("partial", SENTENCE | {"text": "How"})

    job = web.get(f"/api/jobs/{job_id}").json

    assert (job["state"], job["progress_ms"], job["duration_ms"]) == ("running", 1500, 3000)
    assert ([one["text"] for one in job["sentences"]], job["partial"]["text"]) == (["Hello."], "How")
    assert job["last"] == last


def test_a_failure_is_said_with_the_users_name_for_the_recording(web: Web, client: redis.Redis) -> None:
    job_id = web.send(name="holiday.pdf")
    reference = (web.settings.uploads / job_id).as_uri()
    Worker(client, job_id).fails(f"{reference} is no recording.", audio=reference)
    assert web.get(f"/api/jobs/{job_id}").json["error"] == "holiday.pdf is no recording."
    assert web.get("/api/jobs").json["jobs"][0]["state"] == "failed"


def test_a_job_can_be_cancelled_before_any_worker_has_it(web: Web, client: redis.Redis) -> None:
    job_id = web.send()
    assert web.post(f"/api/jobs/{job_id}/cancel").status == 202
    assert 0 < client.ttl(f"stenopool:job:{{{job_id}}}:cancel") <= web.settings.ttl
    assert web.get(f"/api/jobs/{job_id}").json["state"] == "cancelling"


def test_what_has_ended_is_not_cancelled(web: Web, client: redis.Redis) -> None:
    job_id = web.send()
    Worker(client, job_id).succeeds()
    assert web.post(f"/api/jobs/{job_id}/cancel").status == 202
    assert not client.exists(f"stenopool:job:{{{job_id}}}:cancel")


def test_captions_are_downloaded_under_the_recordings_name(web: Web, client: redis.Redis) -> None:
    job_id = web.send(name='会议"; x=.wav')
    Worker(client, job_id).succeeds(srt="1\n", vtt="WEBVTT\n")

    answer = web.get(f"/api/jobs/{job_id}/captions.srt")

    assert (answer.body, answer.headers["content-type"]) == (b"1\n", "text/plain; charset=utf-8")
    disposition = "attachment; filename*=utf-8''%E4%BC%9A%E8%AE%AE%22%3B%20x%3D.srt"
    assert answer.headers["content-disposition"] == disposition
    assert web.get(f"/api/jobs/{job_id}").json["captions"] == ["srt", "vtt"]
    assert web.get(f"/api/jobs/{job_id}/captions.exe").status == 404


@pytest.mark.parametrize("job_id", ["a" * 32, "none", "a b", "{}"])
def test_a_job_that_the_app_did_not_send_is_not_shown(web: Web, client: redis.Redis, job_id: str) -> None:
    client.hset(f"stenopool:job:{{{job_id}}}", mapping={"state": "running", "error": "secret"})
    path = f"/api/jobs/{job_id.replace(' ', '%20')}"
    for answer in (
        web.get(path),
        web.get(f"{path}/events"),
        web.get(f"{path}/captions.srt"),
        web.post(f"{path}/cancel"),
    ):
        assert answer.status == 404 and "no such job" in answer.error


# -- Redis is away -----------------------------------------------------------------------------------------------------


def test_a_redis_that_is_away_is_a_sentence(start: Callable[..., Web]) -> None:
    web = start(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    upload = web.upload()
    for answer in (
        web.get("/api/jobs"),
        web.post("/api/jobs", {"upload": upload}),
        web.get(f"/api/jobs/{upload}/events"),
        web.post(f"/api/jobs/{upload}/cancel"),
    ):
        assert answer.status == 503 and "Redis cannot be reached" in answer.error
    assert web.get("/").status == 200


def test_settings_are_checked_by_their_defaults() -> None:
    usual = Settings(redis_url="", uploads=Path())
    assert (usual.hosts, usual.most_upload, usual.ttl) == (("127.0.0.1", "localhost"), 500 * 1024**2, 86_400)

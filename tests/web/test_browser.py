"""The example's web app in a real browser, against a real worker, the emulator with a speech model, and Valkey."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jiwer
import pysubs2
import pytest
import redis
from moonshine_voice import get_assets_path
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from emulator.stack import Stack, free_port

ASSETS = Path(get_assets_path())
SAID = "Ever tried. Ever failed. No matter. Try again. Fail again. Fail better."  # beckett.wav
WORST = 0.25
"""Word error rate that the tiny model must stay under."""

PLAIN = jiwer.Compose(
    [jiwer.ToLowerCase(), jiwer.SubstituteRegexes({r"[^\w]+": " "}), jiwer.RemoveMultipleSpaces(), jiwer.Strip()]
    + [jiwer.ReduceToListOfListOfWords()]
)

QUIET = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
"""Else it calls its maker's servers when it starts."""

PATIENCE = 30_000.0
"""Milliseconds for anything to appear."""

Shot = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("web")
    (made / "uploads").mkdir()
    return made


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    with Stack(folder, engine="moonshine") as running:
        running.worker("threads", 4, STENOPOOL_AUDIO_ROOTS=str(folder / "uploads"))
        yield running


class App:
    """The app's process, which can go and come back at the same address."""

    def __init__(self, stack: Stack, uploads: Path) -> None:
        self._stack = stack
        self._env = stack.env(WEBAPP_UPLOADS=str(uploads))
        self._port = str(free_port())
        self.address = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "--factory", "examples.webapp.app:create", "--port", self._port]
        process = self._stack.run("app", [*command, "--timeout-graceful-shutdown", "1"], self._env)
        self._process = process.wait_until(lambda app: "Uvicorn running on" in app.output)

    def stop(self) -> None:
        self._process.stop()


@pytest.fixture(scope="module")
def app(stack: Stack, folder: Path) -> App:
    return App(stack, folder / "uploads")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium: make browser installs it"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-sync", *QUIET.split()]
        )
        yield running
        running.close()


@pytest.fixture
def page(browser: Browser, app: App) -> Iterator[Page]:
    """A page of the app; at its end it must not have complained of anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text))
    opened.goto(app.address)
    yield opened
    context.close()
    # A refusal by the server is no fault of the page, though the browser notes it.
    assert [one for one in complaints if "Failed to load resource" not in one] == []


@pytest.fixture
def shot(request: pytest.FixtureRequest) -> Shot:
    """Takes a picture, where they were asked for; wide and narrow, by day and by night."""
    pictures: Path | None = request.config.getoption("--web-shots", None)

    def take(page: Page, name: str) -> None:
        if pictures is None:
            return
        pictures.mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            for width, height in ((390, 844), (1280, 800)):
                page.set_viewport_size({"width": width, "height": height})
                page.screenshot(path=pictures / f"{name}-{scheme}-{width}.png")

    return take


def begin(page: Page, recording: str, pace: str = "2") -> None:
    """What a user does for a new transcript."""
    page.set_input_files("#file", ASSETS / recording)
    page.locator("summary").click()
    page.select_option("#pace", pace)
    page.get_by_role("button", name="Transcribe").click()
    page.wait_for_url("**/jobs/*")


def error_rate(heard: str) -> float:
    return float(jiwer.wer(SAID, heard, reference_transform=PLAIN, hypothesis_transform=PLAIN))


def test_a_recording_is_read_while_it_is_heard_and_along_with_its_sound(page: Page, tmp_path: Path, shot: Shot) -> None:
    begin(page, "beckett.wav")

    # Its words appear before it has ended.
    expect(page.locator("#text li.partial")).not_to_be_empty()
    expect(page.locator("#state")).to_have_text("Listening")

    # The whole text is right.
    expect(page.locator("#state")).to_have_text("Done")
    expect(page.locator("#text li.partial")).to_have_count(0)
    sentences = page.locator("#text .said")
    assert error_rate(" ".join(sentences.all_inner_texts())) <= WORST

    # A sentence is played from its beginning, and is marked while it is heard.
    row = page.locator("#text li").nth(sentences.count() - 1)
    row.get_by_role("button").click()
    expect(row).to_have_class("spoken")
    expect(row.locator(".word.spoken").first).to_be_visible()
    minutes, seconds = row.get_by_role("button").inner_text().split(":")
    played: float = page.evaluate("document.getElementById('audio').currentTime")
    assert 0 <= played - (60 * int(minutes) + int(seconds)) < 5
    page.evaluate("document.getElementById('audio').pause()")
    shot(page, "done")

    # A word is, too.
    page.locator("#text .word").first.click()
    expect(page.locator("#text li").first).to_have_class("spoken")

    # The captions are a file that others can read.
    with page.expect_download() as download:
        page.get_by_role("link", name="SRT").click()
    assert download.value.suggested_filename == "beckett.srt"
    download.value.save_as(tmp_path / "beckett.srt")
    captions = pysubs2.load(str(tmp_path / "beckett.srt"))
    assert error_rate(" ".join(event.plaintext for event in captions)) <= WORST
    assert [link.inner_text() for link in page.locator("#formats a").all()] == ["TXT", "SRT", "VTT", "TSV"]

    # It is in the list.
    newest = page.locator("#recent li").first
    expect(newest).to_contain_text("beckett.wav")
    expect(newest).to_contain_text("Done")


def test_a_page_that_is_opened_in_the_middle_has_the_text_so_far_and_can_cancel(page: Page, shot: Shot) -> None:
    begin(page, "two_cities.wav", pace="4")
    first = page.locator("#text li:not(.partial) .said").first
    first.wait_for()
    before = first.inner_text()
    page.locator("#text li.partial").wait_for()
    shot(page, "live")

    page.reload()

    expect(first).to_have_text(before)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("Cancelled")
    expect(first).to_have_text(before)
    expect(page.locator("#recent li").first).to_contain_text("Cancelled")


def test_a_page_goes_on_when_the_app_was_away_and_no_sentence_is_missing_or_doubled(page: Page, app: App) -> None:
    begin(page, "beckett.wav")
    page.locator("#text li:not(.partial)").first.wait_for()

    app.stop()
    expect(page.locator("#notice")).to_be_visible()
    app.start()

    expect(page.locator("#state")).to_have_text("Done")
    expect(page.locator("#notice")).to_be_hidden()
    assert error_rate(" ".join(page.locator("#text .said").all_inner_texts())) <= WORST


def test_why_a_job_failed_is_said(page: Page, shot: Shot) -> None:
    page.fill("#url", "https://127.0.0.1/call.mp3")
    page.get_by_role("button", name="Transcribe").click()
    expect(page.locator("#state")).to_have_text("Failed")
    expect(page.locator("#error")).to_contain_text("https://127.0.0.1/call.mp3")
    shot(page, "failed")


def test_an_address_that_is_none_is_refused_beside_the_form(page: Page) -> None:
    page.fill("#url", "call.mp3")
    page.get_by_role("button", name="Transcribe").click()
    expect(page.locator("#refusal")).to_contain_text("https://")
    expect(page.get_by_role("button", name="Transcribe")).to_be_enabled()


def test_a_text_is_shown_as_text_whatever_it_says(page: Page, stack: Stack, shot: Shot) -> None:
    name = "<img src=x onerror=alert(1)> " + "a_very_long_name_without_any_space_" * 4 + ".wav"
    said = ["<script>alert(1)</script> & so on", "مرحبا بكم في النص", "他说：今天的会议推迟到明天。", "x" * 120]
    job_id = page.evaluate(
        """async (name) => {
            const { upload } = await (await fetch("/api/uploads", { method: "POST", body: "RIFF" })).json();
            const body = JSON.stringify({ upload, name });
            return (await (await fetch("/api/jobs", { method: "POST", body })).json()).id;
        }""",
        name,
    )
    page.goto(f"{page.url}jobs/{job_id}")
    expect(page.locator("#state")).to_have_text("Failed")  # four bytes are no recording
    write_result(stack, job_id, said)

    page.reload()

    expect(page.locator("#name")).to_have_text(name)
    assert [row.inner_text() for row in page.locator("#text .said").all()] == said
    assert page.locator("#text .said").nth(1).evaluate("row => getComputedStyle(row).direction") == "rtl"
    expect(page.locator("#text .speaker").nth(1)).to_have_text("Channel 2")
    for width in (320, 390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.locator("#unplayable")).to_be_visible()
    expect(page.locator("#player")).to_be_hidden()
    shot(page, "strange")


def write_result(stack: Stack, job_id: str, said: list[str]) -> None:
    """Let the job have succeeded, and each other sentence be of the other channel, begun before the last one's end."""
    sentences = [
        {"begin_time": 1000 * i, "end_time": 1000 * i + 1900, "text": text, "channel": i % 2, "words": []}
        for i, text in enumerate(said)
    ]
    result = {"sentences": sentences, "captions": {"txt": ""}, "timing": {}}
    with redis.Redis.from_url(stack.redis_url) as client:
        client.hset(f"stenopool:job:{{{job_id}}}", mapping={"state": "succeeded", "result": json.dumps(result)})
        client.hdel(f"stenopool:job:{{{job_id}}}", "error")


def test_of_speakers_who_speak_at_once_all_are_marked_below_the_player(page: Page, stack: Stack) -> None:
    begin(page, "two_cities.wav")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("Cancelled")
    write_result(stack, page.url.rsplit("/", 1)[-1], [f"Sentence {number}." for number in range(40)])
    page.reload()
    rows = page.locator("#text li")
    expect(rows).to_have_count(40)

    rows.nth(39).scroll_into_view_if_needed()
    page.evaluate("document.getElementById('audio').playbackRate = 0.0625")  # two seconds last half a minute
    for number in (10, 8, 6, 4):
        rows.nth(number).get_by_role("button").click()
        expect(rows.nth(number)).to_have_class("spoken")
    expect(rows.nth(3)).to_have_class("spoken")
    expect(rows.nth(8)).not_to_have_class("spoken")
    page.evaluate("document.getElementById('audio').pause()")
    row, player = rows.nth(4).bounding_box(), page.locator("#player").bounding_box()
    assert row and player and row["y"] >= player["y"] + player["height"]


def test_however_often_one_goes_to_a_place_it_is_looked_once_a_frame_what_is_spoken(page: Page) -> None:
    begin(page, "beckett.wav", pace="0")
    expect(page.locator("#state")).to_have_text("Done")
    for _ in range(5):
        page.locator("#text .word").first.click()
    looks = page.evaluate(
        """async () => {
            const ours = requestAnimationFrame;
            let asked = 0;
            window.requestAnimationFrame = (then) => (asked++, ours(then));
            for (let frame = 0; frame < 20; frame++) await new Promise((next) => ours(next));
            return asked;
        }"""
    )
    assert 10 <= looks <= 25

    # What is not on the screen is not played by the keyboard.
    page.evaluate("document.getElementById('audio').pause()")
    page.get_by_role("link", name="Transcripts").click()
    expect(page.locator("#job")).to_be_hidden()
    page.keyboard.press("Space")
    assert page.evaluate("document.getElementById('audio').paused")


def test_what_is_being_sent_is_what_the_form_shows(page: Page) -> None:
    on_their_way: list[Route] = []
    page.route("**/api/uploads", lambda route: on_their_way.append(route))
    page.set_input_files("#file", ASSETS / "beckett.wav")
    page.get_by_role("button", name="Transcribe").click()
    expect(page.locator("#file")).to_be_disabled()
    drop(page, "other.wav")
    expect(page.locator("#chosen")).to_contain_text("beckett.wav")

    on_their_way.pop().fulfill(status=507, json={"error": "The disk is full."})
    expect(page.locator("#refusal")).to_have_text("The disk is full.")
    drop(page, "other.wav", "third.wav")
    expect(page.locator("#chosen")).to_contain_text("other.wav")
    expect(page.locator("#refusal")).to_contain_text("the first of 2")


def test_a_job_that_is_not_there_leaves_the_form_also_on_a_telephone(page: Page, app: App) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{app.address}/jobs/{'0' * 32}")
    expect(page.locator("#notice")).to_contain_text("no such job")
    expect(page.get_by_role("button", name="Transcribe")).to_be_visible()
    page.get_by_role("link", name="Transcripts").click()
    expect(page.locator("#notice")).to_be_hidden()


def drop(page: Page, *names: str) -> None:
    """Let files fall on the page."""
    data = page.evaluate_handle(
        """(names) => {
            const data = new DataTransfer();
            for (const name of names) data.items.add(new File(["RIFF"], name));
            return data;
        }""",
        names,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})


def test_a_recording_can_be_dropped_and_the_keyboard_is_enough(page: Page) -> None:
    drop(page, "dropped.wav")
    expect(page.locator("#chosen")).to_contain_text("dropped.wav")

    page.locator("#url").focus()
    for _ in range(2):  # past the options
        page.keyboard.press("Tab")
    expect(page.locator("#go")).to_be_focused()
    page.keyboard.press("Enter")

    page.wait_for_url("**/jobs/*")
    expect(page.locator("#error")).to_contain_text("dropped.wav")

"""The docs name what the code has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import JobError
from worker.recognition import RecognitionError

ROOT = Path(__file__).parent.parent
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
DOCUMENTED = set(re.findall(r"`([a-z_]+)`", ERRORS)) - {"error", "error_code"}


def family(kind: type) -> Iterator[type]:
    yield kind
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield from family(child)


def raised_in(path: Path) -> set[str]:
    """The codes with which a file makes a job's errors."""
    names = {kind.__name__ for kind in family(JobError)}
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    makers = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in names and call.args]
    return {str(call.args[0].value) for call in makers if isinstance(call.args[0], ast.Constant)}


def codes() -> set[str]:
    ours = {code for path in (ROOT / "tasks").rglob("*.py") for code in raised_in(path)}
    return ours | {kind.code for kind in family(RecognitionError) if issubclass(kind, RecognitionError)}


def test_every_code_that_a_job_can_end_with_is_in_the_docs() -> None:
    assert len(codes()) > 30
    assert codes() - DOCUMENTED == set()


def test_the_docs_name_no_code_that_is_gone() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8") for folder in ("tasks", "worker") for path in (ROOT / folder).rglob("*.py")
    )
    assert {code for code in DOCUMENTED if f'"{code}"' not in sources} == set()


@pytest.mark.parametrize(
    ("page", "bench"),
    [
        ("pool", "first_word"),
        ("pool", "sizes"),
        ("pool", "sizes_10s"),
        ("quota", "quota"),
        ("speed", "streams"),
        ("speed", "files"),
        ("text", "http_reuse"),
    ],
)
def test_a_page_shows_measured_lines_as_they_were_measured(page: str, bench: str) -> None:
    shown = set((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8").splitlines())
    measured = (ROOT / "bench" / "results" / f"{bench}.md").read_text(encoding="utf-8").splitlines()
    head, _, *rows = [line for line in measured if line.startswith("|")]
    assert head in shown
    assert len(shown.intersection(rows)) >= 4, "write them again from bench/results"


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"

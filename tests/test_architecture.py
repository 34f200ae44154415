"""The arrows of the house: who may import whom. Read from the source, so that a lazy import counts too."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"cli", "config", "emulator", "tasks", "worker"}

# Each package or module: of ours, what it may import beside itself. The longest name that matches decides.
MAY_IMPORT: dict[str, set[str]] = {
    "config": set(),
    "emulator": set(),
    "worker.pool": set(),
    "worker.recognition": set(),
    "worker.addresses": set(),
    "worker.patched": set(),
    "worker.patience": {"worker.patched"},
    # Its errors are those of recognition: of one service, so that a user reads the same word for the same thing.
    "worker.generation": {"worker.http", "worker.patched", "worker.recognition"},
    "worker.http": {"worker.addresses", "worker.patience"},
    "worker.objects": {"config.storage"},
    "worker.requests": {"config"},
    # What limits a process is told by its figures; of the load only the bounds are named, the pool is known by shape.
    "worker.limits": {"worker.figures", "worker.recognition.load"},
    "worker.figures": set(),
    "worker.script": set(),
    "worker.beat": {"worker.script"},
    "worker.stops": {"worker.script"},
    # An account's quota knows no pool, no recogniser and no job; only the queues' names and weights are read.
    "worker.quota": {"config.queues", "worker.script", "worker.stops"},
    "worker.accounts": {
        "config.quota",
        "worker.figures",
        "worker.pool",
        "worker.quota",
        "worker.recognition",
        "worker.stops",
    },
    "worker.report": {"worker.beat", "worker.figures", "worker.limits", "worker.script"},
    "worker.sizing": {"config", "worker.pool", "worker.quota.ledger"},
    "worker.descriptors": set(),
    "worker.preload": {"worker.recognition"},
    "worker.slots": {"worker.handback"},
    "worker.handback": {"worker.drain"},
    "worker.intake": {"config.queues"},
    "worker.ear": set(),
    "worker.upkeep": {"config", "worker.beat", "worker.notices"},
    "worker.consumer": set(),
    "worker.drain": set(),
    "worker.ending": {"config", "worker.drain"},
    "worker.jobs": set(),
    "worker.notices": {"worker.handback", "worker.jobs"},
    "worker.visibility": {"config", "worker.beat", "worker.jobs", "worker.script"},
    "worker.runtime": {
        "config",
        "worker.accounts",
        "worker.beat",
        "worker.drain",
        "worker.generation",
        "worker.http",
        "worker.objects",
        "worker.pool",
        "worker.quota",
        "worker.recognition",
        "worker.report",
        "worker.sizing",
        "worker.stops",
    },
    "worker.lifecycle": {
        "config",
        "worker.descriptors",
        "worker.drain",
        "worker.preload",
        "worker.runtime",
        "worker.sizing",
    },
    "worker.steps": {
        "config",
        "worker.beat",
        "worker.drain",
        "worker.ear",
        "worker.ending",
        "worker.handback",
        "worker.intake",
        "worker.jobs",
        "worker.lifecycle",
        "worker.report",
        "worker.runtime",
        "worker.sizing",
        "worker.slots",
        "worker.upkeep",
        "worker.visibility",
    },
    "worker.app": {"config", "worker.lifecycle", "worker.steps"},
    "worker": set(),
    "tasks.audio.reference": {"tasks.errors"},
    "tasks.compact": set(),
    "tasks.spacing": set(),
    "tasks.checks": {"tasks.errors"},
    # What is done with a text knows neither Celery nor the settings.
    "tasks.text": {
        "tasks.checks",
        "tasks.errors",
        "tasks.job.asking",
        "tasks.job.keys",
        "tasks.stream",
        "worker.generation",
        "worker.recognition",
        "worker.script",
        "worker.stops",
    },
    "tasks.text.cut": {"tasks.spacing"},
    "tasks.text.source": {"tasks.errors"},
    "tasks.transcript": {"tasks.compact", "tasks.spacing", "worker.recognition"},
    # A job's record knows neither audio nor recognition; a stream knows neither Redis nor the settings.
    "tasks.job": {
        "tasks.checks",
        "tasks.compact",
        "tasks.errors",
        "tasks.transcript.packed",
        "worker.jobs",
        "worker.script",
        "worker.stops",
    },
    "tasks.stream": {
        "tasks.audio.pacing",
        "tasks.errors",
        "tasks.job.request",
        "tasks.meter",
        "worker.accounts",
        "worker.pool",
        "worker.quota",
        "worker.recognition",
        "worker.stops",
    },
    "tasks": {
        "config",
        "worker.beat",
        "worker.generation",
        "worker.http",
        "worker.jobs",
        "worker.objects",
        "worker.patched",
        "worker.patience",
        "worker.pool",
        "worker.quota",
        "worker.recognition",
        "worker.runtime",
        "worker.script",
        "worker.stops",
    },
    # The shell, which speaks Celery: to its queue, too.
    "tasks.shell": {"config.logs", "tasks.errors", "worker.handback"},
    "tasks.transcribe": {"config", "tasks", "worker.notices", "worker.runtime"},
    "cli": {"config", "tasks", "worker"},
}

# What only some may import: the library, and the one place or the few that may.
ONLY: dict[str, set[str]] = {
    "websocket": {"worker.recognition"},
    "celery": {
        "cli",
        "config.celeryconfig",
        "tasks.diagnose",
        "tasks.generate",
        "tasks.notify",
        "tasks.shell",
        "tasks.transcribe",
        "worker.app",
        "worker.consumer",
        "worker.ear",
        "worker.ending",
        "worker.handback",
        "worker.intake",
        "worker.lifecycle",
        "worker.notices",
        "worker.requests",
        "worker.slots",
        "worker.steps",
        "worker.upkeep",
        "worker.visibility",
    },
    "billiard": {"worker.lifecycle", "worker.preload"},
    "kombu": {"cli", "config.celeryconfig", "worker.ear", "worker.handback", "worker.intake", "worker.lifecycle"},
    "redis": {
        "cli",
        "tasks.janitor",
        "tasks.job",
        "tasks.text.answers",
        "worker.beat",
        "worker.intake",
        "worker.quota",
        "worker.report",
        "worker.runtime",
        "worker.script",
        "worker.steps",
        "worker.upkeep",
    },
    "av": {"tasks.audio"},
    "urllib3": {"tasks.audio", "worker.generation.sync", "tasks.delivery", "worker.http"},
    "botocore": {"worker.objects"},
    "alibabacloud_oss_v2": {"worker.objects"},
    "pydantic": {"config", "tasks.checks", "tasks.job.request", "tasks.text.request"},
    "pydantic_settings": {"config"},
    "aiohttp": {"emulator", "worker.generation.aio"},
    "click": {"cli"},
    "rich": {"cli"},
}


@functools.cache
def modules() -> dict[str, Path]:
    paths = [path for package in sorted(OURS) for path in (ROOT / package).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def rule(module: str) -> str:
    return max((name for name in MAY_IMPORT if within(module, name)), key=len)


@pytest.mark.parametrize("module", sorted(modules()))
def test_an_import_runs_along_an_arrow(module: str) -> None:
    home = rule(module)
    allowed = MAY_IMPORT[home] | {home}
    for name in imports(modules()[module]):
        if name.split(".")[0] in OURS and name in modules():
            assert any(within(name, package) for package in allowed) or name in {"worker", "tasks"}, (
                f"{module} imports {name}"
            )


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_library_is_imported_only_where_it_belongs(module: str) -> None:
    for name in imports(modules()[module]):
        places = ONLY.get(name.split(".")[0])
        assert places is None or any(within(module, place) for place in places), f"{module} imports {name}"


def test_the_app_names_its_tasks_by_string() -> None:
    assert not any(within(name, "tasks") for name in imports(modules()["worker.app"]))


@pytest.mark.parametrize(
    "module", sorted(name for name in modules() if name.split(".")[0] not in {"config", "emulator"})
)
def test_only_config_reads_the_environment(module: str) -> None:
    for node in nodes(modules()[module]):
        assert not (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}), (
            f"{module} reads the environment"
        )


def test_every_package_has_a_rule_of_its_own() -> None:
    assert {module.split(".")[0] for module in modules()} == OURS

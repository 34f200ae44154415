"""What the environment tells the web app."""

import os
from dataclasses import dataclass
from pathlib import Path

MEGABYTE = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Sizes in bytes, times in seconds."""

    redis_url: str
    """The Redis of the workers: `STENOPOOL_REDIS_URL`."""
    uploads: Path
    """Where uploads are kept: `WEBAPP_UPLOADS`. Workers must see it too, inside `STENOPOOL_AUDIO_ROOTS`."""
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    """The names by which browsers may call the app: `WEBAPP_HOSTS`, joined by commas; `*` for any."""
    most_upload: int = 500 * MEGABYTE
    """Largest recording: `WEBAPP_MOST_UPLOAD_MB`."""
    most_uploads: int = 5000 * MEGABYTE
    """What all of them together may take: `WEBAPP_MOST_UPLOADS_MB`."""
    ttl: int = 86_400
    """How long a job stays in the list: `WEBAPP_TTL`; no longer than workers keep it (`STENOPOOL_JOB_TTL`)."""
    most_watchers: int = 200
    """Browsers that follow a job at the same time. Each takes a connection to Redis."""
    heartbeat: float = 15.0
    """Silence after which a browser that follows a job gets a comment: proxies close what is silent for longer."""


def from_environment() -> Settings:
    """The settings; exits with a sentence when they cannot be used."""
    env, usual = os.environ, Settings(redis_url="", uploads=Path())
    try:
        settings = Settings(
            redis_url=env.get("STENOPOOL_REDIS_URL", "redis://127.0.0.1:6379/0"),
            uploads=Path(env["WEBAPP_UPLOADS"]).resolve(),
            hosts=tuple(env.get("WEBAPP_HOSTS", ",".join(usual.hosts)).split(",")),
            most_upload=int(env.get("WEBAPP_MOST_UPLOAD_MB", usual.most_upload // MEGABYTE)) * MEGABYTE,
            most_uploads=int(env.get("WEBAPP_MOST_UPLOADS_MB", usual.most_uploads // MEGABYTE)) * MEGABYTE,
            ttl=int(env.get("WEBAPP_TTL", usual.ttl)),
        )
    except KeyError:
        raise SystemExit("set WEBAPP_UPLOADS to a folder for uploads, inside STENOPOOL_AUDIO_ROOTS") from None
    except ValueError as error:
        raise SystemExit(f"WEBAPP_MOST_UPLOAD_MB, WEBAPP_MOST_UPLOADS_MB and WEBAPP_TTL are numbers: {error}") from None
    settings.uploads.mkdir(parents=True, exist_ok=True)
    return settings

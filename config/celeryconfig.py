"""Celery's options, computed from the settings."""

import math
from typing import Any

from kombu import Exchange, Queue

from config.queues import QUEUE, QUEUES
from config.settings import Settings

QUICK_TRIES = 10
"""So many tries to store a result follow each other in about five seconds."""

BETWEEN_TRIES = 5.0
"""Seconds between two tries after these: Celery takes a random time up to ten."""

REDIS_ANSWER = 5
"""Seconds for a connection to Redis, and for each answer about a result. Celery's own value is 120: a Redis that does
not answer would hold up a job's end by so much with each try."""


def celery_options(settings: Settings) -> dict[str, Any]:
    """Celery's configuration. The reasons stand beside what differs from Celery's defaults."""
    return {
        "broker_url": settings.redis.url,
        "result_backend": settings.redis.url,
        "result_expires": settings.job.ttl,
        # One backend for all threads of a process. By default each makes its own, with two connections and 100 KB.
        "result_backend_thread_safe": True,
        # A job that has come to its end waits for a Redis that is away. By default its result would be lost.
        "result_backend_always_retry": True,
        "result_backend_max_retries": _tries(settings.redis.patience),
        "redis_socket_timeout": REDIS_ANSWER,
        "redis_socket_connect_timeout": REDIS_ANSWER,
        # JSON only: a message from a shared Redis must never be able to run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_default_queue": QUEUE,
        # Each on an exchange of its own: on a shared one, a message would go to both queues, and its job be done twice.
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_create_missing_queues": False,
        # A message is acknowledged when its job has ended, so a job survives its worker.
        "task_acks_late": True,
        # A child that died leaves its message to the next; the job's record counts the tries that came to nothing, so
        # that one which kills whoever takes it ends all the same.
        "task_reject_on_worker_lost": True,
        # A job lasts minutes: one that is fetched early waits behind it while other workers are idle. The second of
        # these is for what comes after a lost connection: jobs from before it that still run take up slots, and are
        # counted by nothing else. (What Celery would rather reduce is without effect on Redis.)
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_enable_prefetch_count_reduction": False,
        # Running streams go on when the connection to the broker is lost: their leases say whose the jobs are.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Celery's ends the worker when Redis is away for a moment while a job runs.
        "worker_consumer": "worker.consumer:Consumer",
        "task_track_started": True,
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "broker_connection_retry_on_startup": True,
        # A Redis that is full, or has become a replica, refuses commands; without this the worker ends and its jobs.
        "broker_channel_error_retry": True,
        # The default gives up after 100 tries, about 46 minutes of a Redis outage, and ends the worker.
        "broker_connection_max_retries": None,
        "broker_transport_options": _transport(settings),
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 25,
    }


def _tries(patience: float) -> int:
    """How often to try in about so many seconds."""
    return QUICK_TRIES + math.ceil(patience / BETWEEN_TRIES)


def _transport(settings: Settings) -> dict[str, Any]:
    return {
        "visibility_timeout": settings.redis.visibility_timeout,
        "unacked_restore_interval": 5,
        # Whoever takes back what dead workers held does it alone. If he dies in that, the others wait so long.
        "unacked_mutex_expire": 10,
        "unacked_restore_throttle": 1,
        "health_check_interval": 25,
        "socket_keepalive": True,
        "client_name": "stenopool",
    }

"""Celery's options, computed from the settings."""

from typing import Any

from kombu import Exchange, Queue

from config.settings import Settings

QUEUE = "transcribe"
"""Where our own clients send jobs."""

PLAIN_QUEUE = "celery"
"""Where a Celery client that was configured with nothing but the broker's address sends jobs."""


def celery_options(settings: Settings) -> dict[str, Any]:
    """Celery's configuration. The reasons stand beside what differs from Celery's defaults."""
    return {
        "broker_url": settings.redis.url,
        "result_backend": settings.redis.url,
        "result_expires": settings.job.ttl,
        # One backend for all threads of a process. By default each makes its own, with two connections and 100 KB.
        "result_backend_thread_safe": True,
        # JSON only: a message from a shared Redis must never be able to run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "task_default_queue": QUEUE,
        # Each on an exchange of its own: on a shared one, a message would go to both queues, and its job be done twice.
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in (QUEUE, PLAIN_QUEUE)],
        "task_create_missing_queues": False,
        # A message is acknowledged when its job has ended, so a job survives its worker.
        "task_acks_late": True,
        # A child that died takes its job through the retries' count; plain redelivery would run a poison job for ever.
        "task_retry_on_worker_lost": True,
        # A job lasts minutes: one that is fetched early waits behind it while other workers are idle.
        "worker_prefetch_multiplier": 1,
        "task_track_started": True,
        "task_send_sent_event": True,
        "worker_send_task_events": True,
        "broker_connection_retry_on_startup": True,
        # The default gives up after 100 tries, about 46 minutes of a Redis outage, and ends the worker.
        "broker_connection_max_retries": None,
        "broker_transport_options": _transport(settings),
        "redis_socket_keepalive": True,
        "redis_backend_health_check_interval": 25,
    }


def _transport(settings: Settings) -> dict[str, Any]:
    return {
        "visibility_timeout": settings.redis.visibility_timeout,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "health_check_interval": 25,
        "socket_keepalive": True,
        "client_name": "stenopool",
    }

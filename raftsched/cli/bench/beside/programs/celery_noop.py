"""A no-op of Celery: acknowledged when it has ended, its result kept."""

from __future__ import annotations

import os
from typing import Any

import redis
from celery import Celery

URL = os.environ["BENCH_REDIS"]

#: Results in a database of their own, where they are counted without reading them.
app = Celery("celery_noop", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.task_acks_late = True
# By default four tasks a worker are fetched ahead; more are better for short ones.
app.conf.worker_prefetch_multiplier = 64

_results: Any = redis.Redis.from_url(f"{URL}/1")


def nothing() -> None:
    """Nothing, as fast as it goes."""


_task = app.task(nothing, name="nothing")


def submit() -> None:
    """One task."""
    _task.delay()


def kept() -> int:
    """Results that are kept."""
    return int(_results.dbsize())


def forget() -> None:
    """Drop them."""
    _results.flushdb()

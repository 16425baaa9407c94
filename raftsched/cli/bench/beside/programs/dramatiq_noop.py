"""A no-op of Dramatiq: acknowledged when it has ended, its result kept."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = os.environ["BENCH_REDIS"]

broker = RedisBroker(url=f"{URL}/2")
#: Results in a database of their own, where they are counted without reading them.
broker.add_middleware(Results(backend=RedisBackend(url=f"{URL}/3")))
dramatiq.set_broker(broker)

_results: Any = redis.Redis.from_url(f"{URL}/3")


def nothing() -> bool:
    """Next to nothing: a result of None is remarked upon in the log."""
    return True


_actor = dramatiq.actor(nothing, store_results=True)


def submit() -> None:
    """One task."""
    _actor.send()


def kept() -> int:
    """Results that are kept."""
    return int(_results.dbsize())


def forget() -> None:
    """Drop them."""
    _results.flushdb()

"""A no-op of Huey, its result kept."""

from __future__ import annotations

import os

from huey import RedisHuey

#: Counts its results without reading them.
huey = RedisHuey("bench", url=f"{os.environ['BENCH_REDIS']}/4")


def nothing() -> bool:
    """Next to nothing: a result of None is not kept."""
    return True


_task = huey.task()(nothing)


def submit() -> None:
    """One task."""
    _task()


def kept() -> int:
    """Results that are kept."""
    return int(huey.result_count())


def forget() -> None:
    """Drop them."""
    huey.storage.flush_results()

"""Three logs over mutual TLS: they elect, commit, and take a restarted one back."""

from __future__ import annotations

from pathlib import Path

from tests.certificates import TestAuthority

from .logs import logs, numbered


async def test_logs_agree_over_tls(tmp_path: Path, authority: TestAuthority) -> None:
    async with logs(tmp_path, tls=authority.files) as cluster:
        await cluster.add(numbered(0, 200))
        old = await cluster.leader()
        await cluster.stop(old)
        await cluster.add(numbered(200, 210))
        await cluster.start(old)
        await cluster.add(numbered(210, 211))
        assert all(m.items == numbered(0, 211) for m in cluster.machines.values())

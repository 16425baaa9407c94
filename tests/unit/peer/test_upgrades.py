"""When a version comes into force, and what becomes of a peer that does not know it."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from raftsched.core import codec
from raftsched.core.commands import (
    ENTRY_VERSION,
    ActivateVersion,
    AnyCommand,
    Batch,
    Entry,
    SubmitTasks,
)
from raftsched.core.cron.zones import tzdata_version
from raftsched.core.outcomes import Accepted, Outcome
from raftsched.core.versions import SUPPORTED, Supports
from raftsched.peer.errors import UpgradeNeeded
from raftsched.peer.intake import Intake
from raftsched.peer.replica import Replica
from raftsched.peer.stamping import Head
from raftsched.peer.upgrades import HEARD_SECONDS_MAX, Upgrades, about, told_by
from raftsched.raft import pysyncobj_log
from raftsched.raft.log import PeerView
from tests.unit.core.builders import new_task
from tests.unit.peer.test_proposer import Bench as ProposerBench
from tests.unit.peer.test_proposer import settle
from tests.unit.peer.test_timekeeping import Clock, Log

PREVIOUS = Supports(1, 2)


class Bench:
    """The upgrades of ``n1`` among three, of which the others told what the test says."""

    def __init__(self, **told: dict[str, Any]) -> None:
        self.clock, self.log, self.replica = Clock(), Log(), Replica("c")
        at = self.clock.seconds
        self.log.views = {p: PeerView(at, None, 0.0, at, facts) for p, facts in told.items()}
        self.proposed: list[AnyCommand] = []
        self.upgrades = Upgrades(
            self.replica,
            self.log,  # type: ignore[arg-type]
            self.clock,
            lambda: ("n2", "n3"),
            self._propose,
        )

    async def _propose(self, command: AnyCommand, timeout_seconds: float) -> Outcome:
        self.proposed.append(command)
        assert isinstance(command, ActivateVersion)
        self.replica.state.version = command.version
        return Accepted()


NEW, OLD = about(SUPPORTED, "0.2.0"), about(PREVIOUS, "0.1.1")


async def test_a_version_comes_into_force_once_when_all_members_know_it() -> None:
    bench = Bench(n2=NEW, n3=NEW)
    await bench.upgrades.step()
    await bench.upgrades.step()
    assert bench.proposed == [ActivateVersion(SUPPORTED.highest)]


@pytest.mark.parametrize(
    "told",
    [
        {"n2": NEW},
        {"n2": NEW, "n3": {}},
        {},
        {"n2": NEW, "n3": {"versions": "all"}},
        {"n2": NEW, "n3": {"versions": [1, "3"]}},
    ],
    ids=["not heard", "says nothing", "nobody heard", "rubbish", "half rubbish"],
)
async def test_a_version_waits_for_a_member_that_does_not_know_it(
    told: dict[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(**told)
    with caplog.at_level(logging.INFO):
        await bench.upgrades.step()
        await bench.upgrades.step()
    assert bench.proposed == []
    [record] = caplog.records
    assert f"version 1 stays in force, not {ENTRY_VERSION}: waits for " in record.message
    assert "n3 (" in record.message


async def test_a_member_that_fell_silent_may_be_another_program_when_it_is_back() -> None:
    bench = Bench(n2=NEW, n3=NEW)
    bench.clock.pass_(HEARD_SECONDS_MAX + 0.1)
    await bench.upgrades.step()
    assert bench.proposed == []


def test_what_a_member_told_is_shown() -> None:
    view = PeerView(1.0, None, 0.0, 1.0, OLD)
    assert told_by(view, 12.6) == ("0.1.1", 2, 13, tzdata_version())
    assert told_by(view._replace(about={}), None) == ("", 2, None, "")


async def test_peers_of_other_time_zones_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(n2=NEW, n3={**NEW, "tzdata": "1999z"})
    with caplog.at_level(logging.WARNING):
        await bench.upgrades.step()
        await bench.upgrades.step()
    [record] = caplog.records
    assert "n3 1999z" in record.message and tzdata_version() in record.message
    assert "n2" not in record.message


# The entry of an activation --------------------------------------------------------------------


async def test_an_activation_stands_in_an_entry_of_its_own_version_and_nothing_else_does() -> None:
    bench = ProposerBench()
    bench.lead()
    intake = Intake(bench.log, lambda: Head(2, 5, False), lambda origin, refused: None)  # type: ignore[arg-type]
    intake.term_changed(1, leads=True)
    assert intake.take(1, 1, Batch("n1", 7, 1, (SubmitTasks((new_task("t"),)),))) is None
    await settle()
    assert intake.take(1, 1, Batch("n1", 7, 2, (ActivateVersion(3),))) is None
    await settle()
    versions = [codec.decode_entry(data).version for data in bench.log.entries]
    assert versions == [2, 3]
    intake.close()


# A peer that does not know a version -----------------------------------------------------------


def entry_of(version: int, *commands: AnyCommand) -> bytes:
    return codec.encode_entry(Entry(version, 1, 1_000, (Batch("n1", 1, 1, commands),)))


def test_a_replica_stops_before_it_applies_a_version_it_does_not_know() -> None:
    replica = Replica("c", supports=PREVIOUS)
    replica.apply(1, 1, entry_of(2, SubmitTasks((new_task("t"),))))
    before = list(replica.begin_snapshot())
    replica.end_snapshot()
    for _ in range(2):  # Again, as after a restart.
        with pytest.raises(UpgradeNeeded, match="upgrade this peer: the cluster runs version 3"):
            replica.apply(2, 1, entry_of(3, ActivateVersion(3), SubmitTasks((new_task("u"),))))
    assert list(replica.begin_snapshot()) == before
    assert UpgradeNeeded.exit_code == 11


@pytest.mark.parametrize("supports", [PREVIOUS, Supports(1, ENTRY_VERSION)])
def test_a_replica_does_not_load_a_snapshot_of_a_version_it_does_not_know(
    supports: Supports,
) -> None:
    source, target = Replica("c"), Replica("c", supports=supports)
    source.state.version = supports.highest
    target.restore(5, list(source.begin_snapshot()))
    assert target.state.index == 5
    source.state.version = supports.highest + 1
    source.end_snapshot()
    with pytest.raises(UpgradeNeeded, match="upgrade this peer"):
        target.restore(9, list(source.begin_snapshot()))
    assert target.state.index == 5


def test_an_activation_is_logged_on_every_peer(caplog: pytest.LogCaptureFixture) -> None:
    replica = Replica("c")
    with caplog.at_level(logging.WARNING):
        replica.apply(1, 1, entry_of(3, ActivateVersion(3)))
        replica.apply(2, 1, entry_of(3, ActivateVersion(3)))
    assert [r.message.partition(":")[0] for r in caplog.records] == [
        "version 3 is in force from entry 1 on"
    ]


def test_exit_codes_are_those_of_the_command_line() -> None:
    from raftsched.cli.exits import Exit

    assert UpgradeNeeded.exit_code == Exit.UPGRADE_NEEDED


@pytest.mark.parametrize(
    ("error", "code"), [(UpgradeNeeded("upgrade this peer"), 11), (RuntimeError("a bug"), 70)]
)
def test_a_peer_that_must_stop_ends_its_process_with_the_errors_code_and_line(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    codes: list[int] = []
    monkeypatch.setattr("os._exit", codes.append)
    monkeypatch.setattr("logging.shutdown", lambda: None)
    pysyncobj_log._end_process(error)
    assert codes == [code]
    [record] = caplog.records
    assert (record.exc_info is None) == (code == 11)
    assert (record.message == "upgrade this peer; this peer stops") == (code == 11)


def test_about_is_of_plain_types() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(NEW)) == NEW

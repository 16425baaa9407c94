"""Who is in the group: configurations as entries, in force when appended and no longer when cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raftsched.raft.config import LogConfig
from raftsched.raft.files import JournalDamaged
from raftsched.raft.journal import Journal
from raftsched.raft.membership import (
    REMOVED_MAX,
    Address,
    Configuration,
    Membership,
    decode,
    encode,
    founding,
    only,
    with_learner,
    with_voter,
    without,
)
from raftsched.testing.disk import Crash, MemoryDisk

DIRECTORY = Path("/data")
THREE = Configuration({p: Address(f"{p}:1", f"{p}:2") for p in ("n1", "n2", "n3")})
FOUR = with_learner(THREE, "n4", Address("n4:1"), "n1")
AFTER = with_voter(FOUR, "n4")


def test_steps_of_a_replacement() -> None:
    assert (sorted(FOUR.voters), sorted(FOUR.learners)) == (["n1", "n2", "n3"], ["n4"])
    assert (sorted(AFTER.voters), AFTER.learners) == (["n1", "n2", "n3", "n4"], {})
    assert FOUR.replaces == AFTER.replaces == {"n4": "n1"}
    done = without(AFTER, "n1")
    assert (sorted(done.voters), done.replaces, done.removed) == (["n2", "n3", "n4"], {}, ("n1",))


def test_configuration_travels_and_does_not_depend_on_order() -> None:
    reversed_ = Configuration(dict(reversed(AFTER.voters.items())), replaces={"n4": "n1"})
    assert decode(encode(AFTER)) == AFTER
    assert encode(reversed_) == encode(AFTER)


def test_ids_of_removed_peers_are_kept_up_to_a_bound() -> None:
    now = Configuration(THREE.voters, removed=tuple(f"old{i}" for i in range(REMOVED_MAX)))
    now = without(now, "n3")
    assert len(now.removed) == REMOVED_MAX
    assert (now.removed[0], now.removed[-1]) == ("old1", "n3")


def test_founders_are_the_peers_of_the_file() -> None:
    peers = {"n2": "h2:1", "n1": "h1:1"}
    config = LogConfig(
        cluster_id="c", peer_id="n1", peers=peers, data_dir=Path(), api={"n1": "h1:2"}
    )
    assert founding(config).voters == {"n1": Address("h1:1", "h1:2"), "n2": Address("h2:1")}


@pytest.mark.parametrize(
    ("voters", "others", "expected"),
    [
        (["n1"], set(), True),
        (["n1", "n2"], set(), False),
        (["n1", "n2"], {"n2"}, True),
        (["n1", "n2", "n3"], {"n3"}, True),
        (["n1", "n2", "n3"], {"n4", "n5"}, False),
        (["n1", "n2", "n3", "n4"], {"n3"}, False),
        (["n2", "n3"], {"n2", "n3"}, False),
        ([], {"n2"}, False),
    ],
)
def test_majority_counts_voters_only(voters: list[str], others: set[str], expected: bool) -> None:
    """And none where this peer has no vote itself, as it cannot ask for any."""
    membership = Membership("n1", Configuration({p: Address("h:1") for p in voters}))
    assert membership.has_majority(others) is expected


def open_journal(disk: MemoryDisk, **settings: Any) -> Journal:
    defaults: dict[str, Any] = {
        "cluster_id": "c",
        "peer_id": "n1",
        "reserve_bytes": 0,
        "founding": THREE,
    }
    return Journal.open(DIRECTORY, disk=disk, **{**defaults, **settings})


def filled(disk: MemoryDisk) -> Journal:
    """Entries 1 to 6: a learner at 3, it votes at 5."""
    journal = open_journal(disk)
    journal.setCurrentTerm(1, "n1")
    for index in range(1, 7):
        data = {3: encode(FOUR), 5: encode(AFTER)}.get(index, b"\0command")
        journal.add(data, index, 1)
    journal.sync()
    return journal


def test_configuration_is_in_force_when_appended_and_not_when_cut() -> None:
    journal = filled(MemoryDisk())
    seen: list[int] = []
    membership = journal.membership
    membership.on_change = lambda: seen.append(membership.index)
    assert (membership.now, membership.index) == (AFTER, 5)
    journal.deleteEntriesFrom(3)
    assert (membership.now, membership.index) == (FOUR, 3)
    journal.deleteEntriesFrom(1)
    assert (membership.now, membership.index) == (THREE, 0)
    journal.add(encode(FOUR), 2, 1)
    assert (membership.now, membership.index) == (FOUR, 2)
    assert seen == [3, 0, 2]


@pytest.mark.parametrize(
    ("index", "expected"), [(1, THREE), (2, THREE), (3, FOUR), (4, FOUR), (5, AFTER), (6, AFTER)]
)
def test_what_was_in_force_at_an_index(index: int, expected: Configuration) -> None:
    assert filled(MemoryDisk()).membership.at(index) == expected


@pytest.mark.parametrize("power_loss_seed", [None, 1, 2, 3])
def test_restart_finds_the_configuration_in_the_journal(power_loss_seed: int | None) -> None:
    disk = MemoryDisk()
    filled(disk)
    again = open_journal(disk.restarted(power_loss_seed), founding=Configuration())
    assert (again.membership.now, again.membership.index) == (AFTER, 5)


def test_cut_that_is_durable_is_a_cut_after_a_restart() -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    journal.deleteEntriesFrom(4)
    journal.sync()
    assert open_journal(disk.restarted(1)).membership.now == FOUR


def test_trimming_keeps_what_is_in_force() -> None:
    journal = filled(MemoryDisk())
    journal.deleteEntriesTo(3)
    assert journal.first_index == 4
    assert (journal.membership.at(4), journal.membership.now) == (FOUR, AFTER)
    journal.deleteEntriesTo(2)
    assert journal.membership.now == AFTER


@pytest.mark.parametrize(
    ("index", "configuration", "expected"),
    [(4, FOUR, AFTER), (6, AFTER, AFTER), (2, THREE, AFTER), (6, None, AFTER), (4, None, AFTER)],
)
def test_snapshot_that_the_log_continues(
    index: int, configuration: Configuration | None, expected: Configuration
) -> None:
    disk = MemoryDisk()
    journal = filled(disk)
    previous, last = journal[index - 2], journal[index - 1]
    again = open_journal(disk.restarted())
    again.align(previous, last, configuration)
    assert again.membership.now == expected


def test_snapshot_that_replaces_the_log_brings_its_configuration() -> None:
    """Also when what was in force before stood in the log that is dropped."""
    disk = MemoryDisk()
    filled(disk)
    disk = disk.restarted()
    journal = open_journal(disk)
    journal.setCurrentTerm(2, None)
    done = without(AFTER, "n1")
    journal.align((b"\0p", 8, 2), (b"\0l", 9, 2), done)
    assert (journal.membership.now, journal.membership.index) == (done, 9)
    assert open_journal(disk.restarted()).first_index == 8


def test_founding_configuration_is_that_of_the_first_start() -> None:
    """A configuration file that was changed since then adds and removes nobody."""
    disk = MemoryDisk()
    open_journal(disk).close()
    again = open_journal(disk.restarted(), founding=AFTER)
    assert again.membership.now == THREE


def test_who_joins_counts_nobody_also_after_a_restart() -> None:
    disk = MemoryDisk()
    journal = open_journal(disk, joins=True)
    assert journal.membership.now.is_empty and not journal.membership.is_voter
    again = open_journal(disk.restarted(), joins=False)
    assert again.membership.now.is_empty


def test_directory_of_a_version_without_membership_takes_the_file() -> None:
    disk = MemoryDisk()
    filled(disk).close()
    del disk.names[DIRECTORY / "founding"]
    again = open_journal(disk.restarted(), joins=True)
    again.deleteEntriesFrom(1)
    assert again.membership.now == THREE


def test_damaged_founding_configuration_refuses() -> None:
    disk = MemoryDisk()
    open_journal(disk).close()
    disk.names[DIRECTORY / "founding"].data[6] ^= 1
    with pytest.raises(JournalDamaged, match="founding"):
        open_journal(disk.restarted())


def test_crash_at_any_operation_of_the_first_start_founds_nothing_twice() -> None:
    for crash_at in range(1, 200):
        disk = MemoryDisk()
        disk.crash_at = crash_at
        try:
            open_journal(disk, joins=True)
        except Crash:
            again = open_journal(disk.restarted(crash_at), joins=True)
            assert again.membership.now.is_empty
        else:
            return
    raise AssertionError("the first start does not end")


def test_survivor_goes_on_alone_and_the_others_never_come_back() -> None:
    alone = only(AFTER, "n2", "by force")
    assert (sorted(alone.voters), alone.removed) == (["n2"], ("n1", "n3", "n4"))
    assert alone.recovered == "by force"
    assert with_learner(alone, "n5", Address("n5:1")).recovered == ""

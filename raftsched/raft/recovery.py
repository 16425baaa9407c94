"""The survivor of a lost majority, made to go on alone: offline, by force, and never by itself.

Raft has no answer to the loss of a majority: what the lost ones had acknowledged among themselves
is gone, and no survivor can know of it.  Somebody decides that it is better to go on without.  Then
one survivor, and only one, gets a configuration of which it is the only voter, in a new term; all
others count as removed and are refused for ever, so that what they still have cannot come back and
contradict.

Rules
1. Nothing is changed before it is known what there is: `Survivor` reads as a start does, checksums
   and all.
2. The peer must be stopped; the journal's lock says whether it is.
"""

from __future__ import annotations

from raftsched.raft import endings
from raftsched.raft.config import LogConfig
from raftsched.raft.files import Disk, OsDisk, StorageError
from raftsched.raft.journal import Journal
from raftsched.raft.log import RemovedFromCluster, SafetyViolation
from raftsched.raft.membership import Configuration, encode, founding, only
from raftsched.raft.snapshot import SnapshotStore


class NothingToRecover(StorageError):
    """This directory is not one that a cluster could go on with."""


class Survivor:
    """The open directory of a stopped peer."""

    def __init__(self, config: LogConfig, disk: Disk | None = None) -> None:
        """Raises StorageError (NothingToRecover among them) or JournalFailed."""
        self._config = config
        disk = disk or OsDisk()
        directory = config.data_dir / "journal"
        try:
            names = disk.list_directory(directory)
        except OSError as error:
            raise NothingToRecover(f"{directory} cannot be read: {error.strerror}") from None
        if "identity" not in names:
            raise NothingToRecover(f"{directory} is not that of a peer that ever ran")
        try:
            endings.refuse(disk, config.data_dir)
        except RemovedFromCluster as error:
            raise NothingToRecover(
                f"{error}. It would not start: the cluster went on without it, so it is no "
                "survivor; look at the others, and if they lost their majority recover one of them"
            ) from None
        except SafetyViolation as error:
            raise NothingToRecover(
                f"{error.what}: that is why it stopped, and why it would not start. Recover "
                "another survivor; only if nothing else is left, copy all directories and delete "
                f"{config.data_dir / endings.UNSAFE}"
            ) from None
        self._journal = Journal.open(
            directory,
            cluster_id=config.cluster_id,
            peer_id=config.peer_id,
            segment_bytes=config.segment_bytes,
            reserve_bytes=0,
            disk=disk,
            founding=founding(config),
        )
        try:
            self.snapshot_index = self._align(disk)
            self._check()
        except BaseException:
            self.close()
            raise

    def _align(self, disk: Disk) -> int:
        store = SnapshotStore.open(
            self._config.data_dir / "snapshots", cluster_id=self._config.cluster_id, disk=disk
        )
        snapshot = store.usable(self._journal.first_index)
        if snapshot is None:
            self._journal.expect_whole()
            return 0
        meta = snapshot.meta
        self._journal.align(meta.previous, meta.last, meta.configuration)
        return meta.index

    def _check(self) -> None:
        me, now = self._config.peer_id, self.configuration
        if me not in now.members:
            what = "was removed from the cluster" if me in now.removed else "never heard of one"
            raise NothingToRecover(f"peer {me!r} {what}, so it has nothing to go on with")

    @property
    def configuration(self) -> Configuration:
        """The one in force here."""
        return self._journal.membership.now

    @property
    def last_index(self) -> int:
        """Index of the last entry."""
        return self._journal.last_index

    @property
    def last_term(self) -> int:
        """Term of the last entry."""
        return self._journal.last_term

    @property
    def term(self) -> int:
        """The latest term that this peer knows of."""
        return self._journal.getCurrentTerm()

    def last_command(self) -> bytes | None:
        """The data of the state machine's last entry, if it lies above the snapshot."""
        for data, index, _ in reversed(self._journal[:]):
            if index > self.snapshot_index and data[:1] == b"\0":
                return data[1:]
        return None

    def go_on_alone(self, what: str) -> None:
        """Make this peer the only member, durably; ``what`` is logged at its starts.

        Whatever is in its log counts as committed from then on, acknowledged or not.
        """
        journal, me = self._journal, self._config.peer_id
        term = journal.getCurrentTerm() + 1
        journal.setCurrentTerm(term, me)
        alone = only(self.configuration, me, what)
        journal.add(encode(alone), journal.last_index + 1, term)
        if not journal.sync():
            raise NothingToRecover("the disk is full; make room and try again")

    def close(self) -> None:
        """Leave the directory as a clean stop does."""
        self._journal.close()

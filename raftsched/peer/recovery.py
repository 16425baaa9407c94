"""What the one survivor of a lost majority has, for whoever decides whether to go on with it."""

from __future__ import annotations

from typing import NamedTuple

from raftsched.core import codec
from raftsched.peer import evidence
from raftsched.peer.config import PeerConfig
from raftsched.raft.config import LogConfig
from raftsched.raft.files import OsDisk
from raftsched.raft.files import StorageError as StorageError
from raftsched.raft.journal import JournalFailed as JournalFailed
from raftsched.raft.recovery import NothingToRecover, Survivor


class Found(NamedTuple):
    """What a stopped peer has."""

    last_index: int
    term: int
    #: When the leader stamped the last entry, in milliseconds since the epoch; None: not known, as
    #: it is under the snapshot.
    stamped_at: int | None
    snapshot_index: int
    voters: tuple[str, ...]
    #: All members but this peer: they are given up.
    others: tuple[str, ...]
    is_voter: bool
    #: Why this peer stopped as one whose state is not the majority's; empty if it did not.
    diverged: str


class Recovery:
    """An open directory; `close` it.  Raises what `raft.recovery.Survivor` does."""

    def __init__(self, config: PeerConfig, *, even_diverged: bool = False) -> None:
        """``even_diverged``: also if its state is known not to be the majority's."""
        self._peer_id = config.peer_id
        self._data_dir, self._disk = config.data_dir, OsDisk()
        self._diverged = evidence.reported(self._disk, config.data_dir)
        if self._diverged and not even_diverged:
            raise NothingToRecover(
                f"{self._diverged}. It would not start, and its state is known to be wrong: "
                "recover another survivor, also one with a lower index. "
                "Only if nothing else is left: --even-diverged"
            )
        self._survivor = Survivor(
            LogConfig(
                cluster_id=config.cluster_id,
                peer_id=config.peer_id,
                peers={peer_id: address.raft for peer_id, address in config.peers.items()},
                api={peer_id: address.api for peer_id, address in config.peers.items()},
                data_dir=config.data_dir / "raft",
            )
        )

    def found(self) -> Found:
        """What there is."""
        survivor = self._survivor
        command, configuration = survivor.last_command(), survivor.configuration
        return Found(
            last_index=survivor.last_index,
            term=survivor.term,
            stamped_at=None if command is None else codec.decode_entry(command).now,
            snapshot_index=survivor.snapshot_index,
            voters=tuple(sorted(configuration.voters)),
            others=tuple(sorted(p for p in configuration.members if p != self._peer_id)),
            is_voter=self._peer_id in configuration.voters,
            diverged=self._diverged,
        )

    def go_on_alone(self) -> None:
        """By force.  What the given-up members had beyond this peer's log is lost."""
        found = self.found()
        self._survivor.go_on_alone(
            f"{self._peer_id} went on alone from index {found.last_index} of term {found.term}, "
            f"without {', '.join(found.others) or 'anybody'}; what only those had is lost"
            + ("; ITS STATE DIFFERED FROM THE MAJORITY'S" if found.diverged else "")
        )
        if found.diverged:
            # Last: until then it is refused, and all of this can be done again.
            evidence.overrule(self._disk, self._data_dir)

    def close(self) -> None:
        """Let go of the directory."""
        self._survivor.close()

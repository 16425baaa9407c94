"""Members that come and go while a simulation runs.

New peers begin with an empty disk and ``joins``; whoever leads is asked to add, replace or remove
one.  A removed peer is expected to end itself, and is never started again.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from raftsched.raft.log import LogError, Role
from raftsched.raft.membership import Address, Configuration
from raftsched.testing.faults import Fault
from raftsched.testing.machine import Machine

#: Machines of one simulation, over all its time.
MACHINES_MAX = 9
#: A change is waited for so long.
CHANGE_SECONDS = 8.0


class Group:
    """Who is in the simulated cluster, and how that changes."""

    def __init__(
        self, machines: dict[str, Machine], founders: int, make: Callable[[str], Machine]
    ) -> None:
        """``make``: a machine with a peer that is to join."""
        self._machines = machines
        self._founders = founders
        self._make = make
        self.changes = 0

    def leader(self) -> Machine | None:
        """Whoever leads the highest term, as far as the peers themselves know."""
        leading = [
            (machine.peer.log.status().term, name)
            for name, machine in self._machines.items()
            if machine.is_serving
            and machine.peer is not None
            and machine.peer.log.status().role is Role.LEADER
        ]
        return self._machines[max(leading)[1]] if leading else None

    def configuration(self) -> Configuration | None:
        """The one in force at the leader; None while nobody leads."""
        machine = self.leader()
        if machine is None or machine.peer is None:
            return None
        return machine.peer.log.members()

    def electorates(self, index: int, term: int) -> list[list[str]]:
        """The voters of whom a majority has to have a committed entry, of one of these groups.

        Those of the configuration at its own index, or of any behind it up to the one in force:
        a leader counts by its newest, and each one's majorities meet the next one's.  None while
        nobody leads ``term``, the newest: who leads an older one does not know what was changed.
        """
        machine = self.leader()
        if machine is None or machine.peer is None or machine.peer.log.status().term < term:
            return []
        membership = machine.peer.log._membership
        later = [known for at, known in membership._known if at > index]
        return [sorted(known.voters) for known in (membership.at(index), *later)]

    def change(self, fault: Fault) -> bool:
        """Ask for a change: more peers while there are few, fewer while there are many."""
        machine, now = self.leader(), self.configuration()
        if machine is None or machine.loop is None or machine.peer is None or now is None:
            return False
        chance = random.Random(fault.choice)
        members = sorted(now.members)
        add: dict[str, Address] = {}
        remove: str | None = None
        if len(members) <= self._founders or chance.random() < 0.4:
            add = self._newcomer()
        if not add or chance.random() < 0.4:
            remove = chance.choice(members)
        if remove is not None and not add and len(members) < self._founders:
            return False
        log, loop = machine.peer.log, machine.loop

        async def ask() -> None:
            try:
                await log.change_membership(add, remove, CHANGE_SECONDS)
                self.changes += 1
            except LogError:
                return  # Refused, or overtaken: whoever leads goes on with what was begun.

        loop.call_soon(lambda: machine.keep(loop.start(ask())))
        return True

    def _newcomer(self) -> dict[str, Address]:
        """A new machine; none when there have been enough."""
        number = len(self._machines) + 1
        if number > MACHINES_MAX:
            return {}
        name = f"n{number}"
        machine = self._machines[name] = self._make(name)
        machine.start()
        address = machine.config.peers[name]
        return {name: Address(address.raft, address.api)}

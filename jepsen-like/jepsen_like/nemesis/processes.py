"""Peers and machines that die, stand still, or are stopped with good manners."""

from __future__ import annotations

import asyncio
import signal
import time

from jepsen_like.api import Api, Unreachable
from jepsen_like.nemesis.base import STOPPED, Fault, Seen
from jepsen_like.peers import TOKEN

#: Processes that are told to stand still do so within so long, on a busy machine too.
_STOP_SECONDS = 2.0
#: A runner is there within so long after its peer was started, on a busy machine too.
_RUNNER_SECONDS = 10.0


class Kill(Fault):
    """SIGKILL of peers; their runners and attempts go on."""

    nemesis = "kill"
    name = "kill-one"
    about = "SIGKILL of one peer"
    is_machine = False

    async def whom(self) -> list[str]:
        """The victims."""
        return [self.arena.one()]

    async def begin(self) -> Seen:
        self.targets = await self.whom()
        await asyncio.gather(
            *[self.arena.kill(peer, machine=self.is_machine) for peer in self.targets]
        )
        # Another fault may have ended one before.
        dead = [p for p in self.targets if await self.arena.peers.exit_of(p) is not None]
        return Seen(self.targets, dead == self.targets, f"dead: {', '.join(dead)}")

    async def end(self) -> Seen:
        await self.arena.start(self.targets)
        return Seen(self.targets, None)


class KillLeader(Kill):
    name = "kill-leader"
    moves_leader = True
    about = "SIGKILL of the leader"

    async def whom(self) -> list[str]:
        return [await self.arena.leader()]


class KillMinority(Kill):
    name = "kill-minority"
    about = "SIGKILL of as many peers as may fail, at once"

    async def whom(self) -> list[str]:
        return self.arena.minority()


class KillMajority(Kill):
    name = "kill-majority"
    about = "SIGKILL of one peer more than may fail, at once"

    async def whom(self) -> list[str]:
        return self.arena.majority()


class KillAll(Kill):
    name = "kill-all"
    moves_leader = True
    about = "SIGKILL of all peers at once"

    async def whom(self) -> list[str]:
        return list(self.arena.peers.ids)


class LeftDead(Kill):
    """What may fail fails as the faults end, for good: the others do all that is left."""

    name = "left-dead"
    about = "as many machines as may fail die and are not started again"
    is_machine = True

    async def whom(self) -> list[str]:
        return self.arena.minority()

    async def begin(self) -> Seen:
        seen = await super().begin()
        self.arena.dead.extend(seen.targets)
        return seen


class Crash(Kill):
    """All that runs on machines dies, attempts too."""

    nemesis = "crash"
    name = "crash-one"
    about = "all processes of one machine die at once"
    is_machine = True


class CrashLeader(Crash):
    name = "crash-leader"
    moves_leader = True
    about = "all processes of the leader's machine die at once"
    # Longer than a lease, so that its work moves.
    stands = (0.5, 9.0)

    async def whom(self) -> list[str]:
        return [await self.arena.leader()]


class CrashAll(Crash):
    name = "crash-all"
    moves_leader = True
    about = "all processes of all machines die at once"
    # Nothing is left that another one could break.
    is_alone = True

    async def whom(self) -> list[str]:
        return list(self.arena.peers.ids)


class KillRunner(Fault):
    """The runner of a node dies with its keeper and attempts; the peer goes on."""

    nemesis = "runner"
    name = "kill-runner"
    about = "SIGKILL of all but the peer on one machine"
    stands = (0.1, 0.5)

    async def begin(self) -> Seen:
        self.target = self.arena.one_running()
        deadline, pids = time.monotonic() + _RUNNER_SECONDS, list[int]()
        while not pids and time.monotonic() < deadline:
            # A machine that has just been started has none yet.
            pids = await self.arena.peers.signal(self.target, signal.SIGKILL, "others")
            await asyncio.sleep(0.02)
        if not pids and self.target not in self.arena.peers.running:
            return Seen([self.target], None, "it does not run")
        return Seen([self.target], len(pids) > 0, f"{len(pids)} processes")

    async def end(self) -> Seen:
        return Seen([self.target], None)


class Pause(Fault):
    """SIGSTOP and SIGCONT of a peer."""

    nemesis = "pause"
    name = "pause-one"
    about = "SIGSTOP of one peer for half a lease to two"
    who = "peer"

    async def whom(self) -> list[str]:
        """The victims."""
        return [self.arena.one()]

    async def begin(self) -> Seen:
        running = sorted(self.arena.peers.running)
        # Who was meant may have been killed by another fault.
        self.targets = [p for p in await self.whom() if p in running] or running[:1]
        if not self.targets:
            return Seen([], None, "nobody runs")
        deadline, stopped = time.monotonic() + _STOP_SECONDS, list[str]()
        while len(stopped) < len(self.targets) and time.monotonic() < deadline:
            # Again, as what was being started was not there to be stopped.
            for peer in self.targets:
                await self.arena.peers.signal(peer, signal.SIGSTOP, self.who)
            await asyncio.sleep(0.02)
            stopped = [p for p in self.targets if await self.arena.peers.is_stopped(p, self.who)]
        return Seen(self.targets, stopped == self.targets, f"stopped: {', '.join(stopped)}")

    async def end(self) -> Seen:
        for peer in self.targets:
            await self.arena.peers.signal(peer, signal.SIGCONT, self.who)
        return Seen(self.targets, None)

    def seconds(self) -> float:
        return self.chance.uniform(0.5, 2.0) * self.arena.lease_seconds


class PauseLeader(Pause):
    name = "pause-leader"
    moves_leader = True
    about = "SIGSTOP of the leader for half a lease to two"

    async def whom(self) -> list[str]:
        return [await self.arena.leader()]


class PauseMachine(Pause):
    name = "pause-machine"
    moves_leader = True
    about = "SIGSTOP of all that runs on the leader's machine: its attempts stand still, too"
    who = "all"

    async def whom(self) -> list[str]:
        return [await self.arena.leader()]


class PauseMachineLong(PauseMachine):
    """Longer than its leases and what follows them: its attempts wake up beside others."""

    name = "pause-machine-long"
    about = "SIGSTOP of all that runs on the leader's machine, until its attempts run elsewhere"

    def seconds(self) -> float:
        return self.chance.uniform(2.2, 2.8) * self.arena.lease_seconds


class Restart(Fault):
    """SIGTERM, and started again."""

    nemesis = "restart"
    name = "restart-one"
    about = "a planned stop of one peer"
    stands = (0.1, 3.0)

    async def whom(self) -> str:
        """The victim."""
        return self.arena.one()

    async def begin(self) -> Seen:
        self.target = await self.whom()
        if self.target not in self.arena.peers.running:
            # Another fault ended it.
            return Seen([self.target], None, "it does not run")
        code = await self.arena.stop(self.target)
        if code is None:
            return Seen([self.target], False, "it had to be killed")
        # With any other code it ended by itself, of which the logs' judge wants to know why.
        return Seen([self.target], True if code in STOPPED else None, f"exit code {code}")

    async def end(self) -> Seen:
        await self.arena.start([self.target])
        return Seen([self.target], None)


class RestartLeader(Restart):
    name = "restart-leader"
    moves_leader = True
    about = "a planned stop of the leader"

    async def whom(self) -> str:
        return await self.arena.leader()


class Transfer(Fault):
    """Leadership moves because somebody asks for it."""

    nemesis = "restart"
    name = "transfer"
    moves_leader = True
    about = "leadership is handed over on request"
    stands = (0.1, 1.0)

    async def begin(self) -> Seen:
        leader = await self.arena.leader()
        try:
            async with Api(self.arena.peers.api(leader), TOKEN) as api:
                answer = await api.ask("POST", "/v1/cluster/leader:transfer", {}, seconds=10.0)
        except Unreachable as error:
            return Seen([leader], False, str(error))
        # Without a leader, which another fault may have taken, there is nothing to hand over.
        was_done = None if answer.code == "no-leader" else answer.status == 200
        return Seen([leader], was_done, f"status {answer.status} {answer.code}")

    async def end(self) -> Seen:
        return Seen([], None)


FAULTS: tuple[type[Fault], ...] = (
    Kill, KillLeader, KillMinority, KillMajority, KillAll, Crash, CrashLeader, CrashAll, KillRunner,
    Pause, PauseLeader, PauseMachine, PauseMachineLong, Restart, RestartLeader, Transfer,
)  # fmt: skip

"""Findings about PySyncObj 0.3.17 that take a cluster and no chance: stock first, then ours."""

from __future__ import annotations

from collections.abc import Callable

from raftsched.testing import SimulatedCluster
from raftsched.testing.network import Network
from raftsched.testing.world import World
from tests.simulation.stock.library import in_the_world
from tests.simulation.stock.simulation import StockSimulation

NAMES = ("n1", "n2", "n3")


def stock() -> StockSimulation:
    """Three peers of the library that had time to elect one; to be used `in_the_world`."""
    simulation = StockSimulation("calm", 0)
    for machine in simulation.machines.values():
        machine.start()
    simulation.world.run(4.0)
    return simulation


def term(cluster: SimulatedCluster) -> int:
    return max(cluster.peer(name).log.status().term for name in NAMES)


def stock_term(simulation: StockSimulation) -> int:
    peers = [machine.stock for machine in simulation.machines.values()]
    return max(int(peer._getTerm()) for peer in peers if peer is not None)


def follower(is_leader: Callable[[str], bool]) -> str:
    return next(name for name in NAMES if not is_leader(name))


# S17: a peer that hears nobody, but is heard ------------------------------------------------------


def deafen(world: World, network: Network, name: str) -> None:
    """Nothing reaches it for two seconds."""
    others = [other for other in NAMES if other != name]
    for other in others:
        network.cut(other, name)
    world.run(world.now + 2.0)


def test_s17_stock_that_hears_nobody_deposes_the_leader() -> None:
    with in_the_world():
        simulation = stock()
        before = stock_term(simulation)
        deaf = follower(lambda name: simulation.nemesis.leads(simulation.machines[name]))
        deafen(simulation.world, simulation.network, deaf)
        assert stock_term(simulation) > before


def test_s17_peer_that_hears_nobody_disturbs_nobody() -> None:
    with SimulatedCluster() as cluster:
        before, leader = term(cluster), cluster.leader()
        deafen(cluster._world, cluster._network, follower(lambda name: name == leader))
        assert (term(cluster), cluster.leader()) == (before, leader)


# S20: a link that was a black hole ----------------------------------------------------------------


def black_hole(world: World, network: Network, is_whole: Callable[[], bool]) -> float:
    """n3 is cut off for 20 s; how long after that until it has all its links again."""
    ways = [(a, b) for a in NAMES for b in NAMES if "n3" in (a, b) and a != b]
    for here, there in ways:
        network.cut(here, there)
    world.run(world.now + 20.0)
    for here, there in ways:
        network.mend(here, there)
    began = world.now
    while not is_whole():
        world.run(world.now + 0.05)
        assert world.now < began + 60
    return world.now - began


def test_s20_stock_waits_for_a_dial_that_was_lost() -> None:
    with in_the_world():
        simulation = stock()
        peer = simulation.machines["n3"].stock
        assert peer is not None
        took = black_hole(
            simulation.world,
            simulation.network,
            lambda: all(peer.isNodeConnected(node) for node in peer.otherNodes),
        )
    assert took > 3.0


def test_s20_dial_has_a_limit_and_is_repeated() -> None:
    with SimulatedCluster() as cluster:

        def is_whole() -> bool:
            return len(cluster.peer("n3").log.status().connected) == 2

        assert black_hole(cluster._world, cluster._network, is_whole) < 2.0

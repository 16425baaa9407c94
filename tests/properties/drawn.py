"""What fields of random commands are drawn from: of few values, so that they meet."""

from __future__ import annotations

from hypothesis import strategies as st

from raftsched.core import strategies
from raftsched.core.handlers import forks
from raftsched.core.model import NewTask
from raftsched.core.policy import (
    ALL_NODES,
    Affinity,
    Backoff,
    Constraint,
    Delivery,
    Extra,
    Op,
    Policy,
    RetryNode,
)
from raftsched.core.products import Product
from raftsched.core.workflow import ANY_NUMBER, Dependency, Fork, On, Speculation

IDS = st.sampled_from(
    [f"t{i}" for i in range(12)]
    + ["t1.0", "t1.1", "t1.2", "t2.a", "t2.b", "t2.1", "t1.0~2", "t2.a~2"]
)
TEMPLATES = st.sampled_from(["w1", "w2", ""])
NODES = st.sampled_from(["n1", "n2", "n3"])
INCARNATIONS = st.sampled_from(["a", "b"])
TOKENS = st.integers(0, 30)
ENDS = st.sampled_from(
    ["succeeded", "failed", "timed_out", "cancelled", "rubbish", "lost", "running"]
)
INSTANTS = st.sampled_from([0, 0, 1_005, 2_000, 10_000])
IN_A = Constraint("zone", Op.EQUAL, ("a",))
POLICIES = st.none() | st.builds(
    Policy,
    backoff=st.sampled_from(list(Backoff)),
    backoff_base_ms=st.sampled_from([0, 15, 1_000]),
    retry_on_exit=st.sampled_from([(), (1,), (7,)]),
    queue_timeout_ms=st.sampled_from([0, 35, 5_000]),
    delivery=st.sampled_from(list(Delivery)),
    idempotent=st.booleans(),
    lease_ms=st.sampled_from([0, 3_000]),
    losses_max=st.integers(-1, 3),
    limits=st.sampled_from([(), ("m",), ("m", "s")]),
    retry_node=st.sampled_from(list(RetryNode)),
    resources=st.sampled_from([(), (), (("gpu", 1),)]),
    constraints=st.sampled_from([(), (), (IN_A,)]),
    affinity=st.sampled_from([(), (Affinity(IN_A, 50),)]),
)
STRATEGIES = st.sampled_from(sorted(strategies.STRATEGIES))
DEPENDENCIES = st.lists(st.builds(Dependency, IDS, st.sampled_from(list(On))), max_size=3).map(
    tuple
)
#: What a part is another try of.
KEEPS = st.sampled_from(["", "", "t1", "t1.0", "t1.1", "t2.a", "t2.b", "t3.a"])
PARTS = st.lists(
    st.builds(
        NewTask,
        st.sampled_from(["a", "b", "c", "a"]),
        st.just(b"z"),
        attempts_max=st.sampled_from([1, 1, 0]),
        extra=st.none()
        | st.builds(Extra, keeps=KEEPS)
        | st.builds(
            Extra,
            keeps=KEEPS,
            depends_on=st.lists(
                st.builds(Dependency, st.sampled_from(["a", "b"]), st.sampled_from(list(On))),
                max_size=2,
            ).map(tuple),
            delay_ms=st.sampled_from([0, 40]),
            broadcast=st.sampled_from([0, 0, ALL_NODES, 3]),
            fork=st.sampled_from([None, None, Fork(), Fork(is_open=True)])
            | st.builds(Fork, st.just(forks.encode([NewTask("x", b"z"), NewTask("y", b"z")]))),
        ),
    ),
    max_size=4,
    unique_by=lambda part: part.id,
)
FORKS = st.builds(
    Fork,
    PARTS.map(forks.encode) | st.just(b""),
    parallel_max=st.sampled_from([0, 0, 1, 2, -1]),
    failures_max=st.sampled_from([0, 1, ANY_NUMBER]),
    is_patient=st.booleans(),
    is_open=st.booleans(),
    has_begun=st.sampled_from([False, False, False, True]),
    speculation=st.sampled_from([None, Speculation(), Speculation(1_000, 0, 0), Speculation(1)]),
)
EXTRAS = st.none() | st.builds(
    Extra,
    not_before=INSTANTS,
    deadline=INSTANTS,
    delay_ms=INSTANTS,
    expires_ms=INSTANTS,
    unique_key=st.sampled_from(["", "u", "v"]),
    on_conflict=st.sampled_from(["reject", "return", "replace"]),
    after=st.sampled_from(["", "t1"]),
    broadcast=st.sampled_from([0, 0, ALL_NODES, 2, -2]),
    subtasks=st.sampled_from([0, 0, 0, 1]),
    depends_on=st.sampled_from([(), ()]) | DEPENDENCIES,
    needs=st.sampled_from([0, 0, 1]),
    fork=st.none() | FORKS,
    keeps=st.sampled_from(["", "", "t1", "t2.a"]),
    twin=st.sampled_from(["", "", "", "t1"]),
    twin_of=st.sampled_from(["", "", "", "t1"]),
    borrowed=st.sampled_from([None, None, None, Product("t1", "n1", 1, 1)]),
)

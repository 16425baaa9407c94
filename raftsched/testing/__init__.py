"""Tools for tests: a cluster in virtual time (`cluster`), and the simulations raftsched is held to.

``SimulatedCluster`` is for your own tests.  ``python -m raftsched.testing`` runs whole simulations
under faults; ``docs/simulation.md`` says what they check.
"""

from __future__ import annotations

from raftsched.executor.messages import StartAttempt
from raftsched.testing.cluster import SimulatedCluster
from raftsched.testing.runner import Run

__all__ = ["Run", "SimulatedCluster", "StartAttempt"]

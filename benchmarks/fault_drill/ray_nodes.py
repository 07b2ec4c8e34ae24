"""A Ray cluster of one's own, for a test or a drill: nodes on this machine that can be removed."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@dataclass(frozen=True)
class Nodes:
    """A head that trains nothing, and nodes of one core."""

    cluster: Cluster
    # Each has its own: a driver's own node is the one at its address, the head.
    _addresses: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    @property
    def address(self) -> str:
        """The head's, as `--ray` has it."""
        return str(self.cluster.address)

    @property
    def logs(self) -> Path:
        """What Ray's processes have written."""
        head: Any = self.cluster.head_node
        return Path(head.get_logs_dir_path())

    def add(self, cpus: int = 1, gpus: int = 0) -> Any:
        """One node more; its GPUs are Ray's to hand out, whether there are any or not."""
        address = f"127.0.0.{next(self._addresses)}"
        node = self.cluster.add_node(
            wait=False, num_cpus=cpus, num_gpus=gpus, node_ip_address=address
        )
        self.cluster._wait_for_node(node, timeout=300)
        return node

    def remove(self, rng: random.Random) -> None:
        """One node less, as when its machine is switched off."""
        nodes = sorted(self.cluster.worker_nodes, key=lambda node: str(node.unique_id))
        self.cluster.remove_node(rng.choice(nodes), allow_graceful=False)

    def lose_head(self) -> None:
        """The head's services are gone; nodes train on as long as they can."""
        head: Any = self.cluster.head_node
        head.kill_gcs_server(check_alive=False)


def why_none() -> str | None:
    """Why no cluster can be started here; None where one can."""
    return None if find_spec("ray") else "Ray is not installed: pip install 'archsearch[ray]'"


@contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """A running cluster of so many nodes beside its head; ended afterwards."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # On a busy machine Ray takes a worker that was killed for one that cannot be reached.
    os.environ["RAY_timeout_ms_task_wait_for_death_info"] = "60000"  # noqa: SIM112 (as Ray spells it)
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False}
    made = Nodes(Cluster(initialize_head=True, head_node_args=head))
    try:
        for _ in range(count):
            made.add()
        yield made
    finally:
        made.cluster.shutdown()  # type: ignore[no-untyped-call]

"""Joining a Ray cluster: how much of it a trial has, how many it takes, what runs there."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from archsearch.common.machine import cores
from archsearch.errors import ArchsearchError, StudyError
from archsearch.executors.messages import WorkerConfig

LOCAL = "local"
GO_ON = "what was saved before is as it was. Start Ray again, then run the same command"
_HEAD_EVERY_S = 5.0
_HEAD_FAILURES = 9
"""In a row: 45 s, for Ray itself ends the process after 60."""


@dataclass(frozen=True, slots=True)
class TrialResources:
    """The resources of the cluster that one trial gets.

    Attributes:
        gpus: a fraction lets several trials share one; None: one, where the cluster has any.
    """

    cpus: float = 1.0
    gpus: float | None = None


def concurrent_trials(nodes: list[dict[str, float]], cpus: float, gpus: float) -> int:
    """Return how many trials the cluster can train at a time.

    Raises:
        ArchsearchError: a trial has nothing of it.
    """
    if not cpus and not gpus:
        raise ArchsearchError("a trial needs a CPU or a GPU: --cpus-per-trial, --gpus-per-trial")
    found = 0
    for node in nodes:
        by_cpu = node.get("CPU", 0) / cpus if cpus else float("inf")
        by_gpu = node.get("GPU", 0) / gpus if gpus else float("inf")
        found += int(min(by_cpu, by_gpu, 1_024))
    return found


def gpus_per_trial(
    resources: TrialResources, config: WorkerConfig, nodes: list[dict[str, float]]
) -> float:
    """Return how many GPUs a trial gets: as requested, otherwise one if any node has GPUs."""
    if resources.gpus is not None:
        return resources.gpus
    cpu = config.device == "cpu"
    return 1.0 if not cpu and any(node.get("GPU") for node in nodes) else 0.0


def connect(address: str) -> Any:
    """Connect to the Ray cluster at `address`, and return the module.

    Raises:
        ArchsearchError: Ray is not installed, or there is no such cluster.
    """
    if not find_spec("ray"):
        raise StudyError("--ray needs Ray: pip install 'archsearch[ray]'")
    if address.startswith("ray://"):
        raise StudyError(
            "--ray ray://...: run this command in the cluster itself (on its head) with --ray auto"
        )
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # no call of ours after its end begins a cluster
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell its makers of every cluster
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == LOCAL:
        # Its ports are open to the network, whatever address it is told: only to who has this.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        alone = {"include_dashboard": False, "num_cpus": cores(), "_node_ip_address": "127.0.0.1"}
        quiet |= alone
    _reach(address)
    import ray

    # It tells of dead workers in pages, on standard output; no option of its own stops that.
    ray._private.worker._worker_logs_enabled = False
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **quiet)
    except Exception as error:
        lines = str(error).strip().splitlines()
        raise ArchsearchError(
            f"--ray {address}: no cluster can be joined there "
            f"({lines[0] if lines else type(error).__name__}); this machine must be one of its "
            "nodes (ray start --address=HEAD:6379), and where the cluster has a token, "
            "this account needs the same one, and RAY_AUTH_MODE=token"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, before)  # Ray's would end the driver with nothing saved
    return ray


def _reach(address: str) -> None:
    """Ray would try for minutes to join where nobody answers.

    Raises:
        ArchsearchError: nobody does.
    """
    _, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        _probe(address)
    except (OSError, OverflowError) as error:
        raise ArchsearchError(
            f"--ray {address}: nobody answers there ({error}); start a head with "
            f"ray start --head --port={port}"
        ) from error


def _probe(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


@dataclass(slots=True)
class HeadNode:
    """The cluster's head; a minute after it is gone Ray ends this process, with nothing saved.

    Attributes:
        address: host and port of Ray's own database of the cluster (GCS).
    """

    address: str
    _asked: float = field(default_factory=time.monotonic)
    _failures: int = 0

    def watch(self) -> None:
        """Ask now and then whether it is there.

        Raises:
            ArchsearchError: it has not been for longer than its restart would take.
        """
        now = time.monotonic()
        if now - self._asked < _HEAD_EVERY_S:
            return
        self._asked = now
        try:
            _probe(self.address)
            self._failures = 0
        except OSError as error:
            self._failures += 1
            if self._failures >= _HEAD_FAILURES:
                raise ArchsearchError(
                    f"the head of the cluster ({self.address}) is gone ({error}); {GO_ON}"
                ) from error


def actor_class(cpus: float, gpus: float) -> Any:
    """Return the class of Ray actors, two of whose methods answer while another one trains."""
    import ray

    from archsearch.executors.ray.actor import RayWorker

    # By hand and not by decorators: where Ray is not installed that module can still be imported.
    names = ("steps", "drop")
    watched = {n: ray.method(concurrency_group="watch")(getattr(RayWorker, n)) for n in names}
    made = type("RayWorker", (RayWorker,), {"__module__": RayWorker.__module__, **watched})
    remote: Any = ray.remote
    return remote(
        num_cpus=cpus, num_gpus=gpus, max_restarts=0, concurrency_groups={"watch": 1}
    )(made)  # fmt: skip

"""One Ray actor, seen from the driver: its job, its reports, how it ends."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from archsearch.common import atomic_files
from archsearch.common.guarded_files import open_regular
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors.messages import Ready
from archsearch.training.job import Job
from archsearch.training.records import Run
from archsearch.training.run_paths import RunPaths

if TYPE_CHECKING:
    from archsearch.executors.ray.actor import Parcel


@dataclass(frozen=True, slots=True)
class Ended:
    """A job's stream has no more parcels."""


@dataclass(frozen=True, slots=True)
class Died:
    """An actor is there no more.

    Attributes:
        how: in a user's words.
        with_its_node: so that nothing in it can be to blame.
    """

    how: str
    with_its_node: bool = False


@dataclass(slots=True)
class Slot:
    """An actor.

    Attributes:
        waits: for what comes next: that it is open, or the stream of its job's parcels.
        since: when it was asked for.
        run: where and how it trains; None: it is not open yet.
        begun: whether its job's stream has told anything.
        done: whether the stream has told how its job ended.
        lost: the device that failed under its job.
        pulse: the question how many steps it has made, while there is no answer.
        silent_s: awake seconds since its job's last sign of life.
    """

    actor: Any
    waits: Any
    since: float = field(default_factory=time.monotonic)
    run: Run | None = None
    job: Job | None = None
    dropped: bool = False
    begun: bool = False
    done: bool = False
    lost: DeviceLostError | None = None
    pulse: Any = None
    silent_s: float = 0.0
    _asked: float = 0.0
    _steps: int = -1

    def give(self, job: Job) -> None:
        """Have a job trained, from the last epoch that is in its folder.

        Raises:
            ArchsearchError: its checkpoint cannot be read.
        """
        path = RunPaths(job.folder).checkpoint
        try:
            with open_regular(path) as file:
                checkpoint = file.read()
        except FileNotFoundError:
            checkpoint = None
        except OSError as error:
            raise atomic_files.unreadable(path, error) from error
        self.job, self.dropped, self.begun, self.done, self.lost = job, False, False, False, None
        self.silent_s, self._asked = 0.0, time.monotonic()
        stream = self.actor.train.options(num_returns="streaming")
        self.waits = stream.remote(job, checkpoint)

    def drop(self) -> None:
        """Have its job left at the next step."""
        if self.job:
            self.dropped = True
            self.actor.drop.remote(self.job.key)

    def free(self) -> None:
        """Its job is no longer here."""
        self.job = self.waits = None

    def next_word(self) -> Ready | ArchsearchError | Parcel | Ended | Died:
        """What it waited for and has come."""
        import ray
        from ray.exceptions import RayError

        try:
            word = ray.get(self.waits if self.job is None else next(self.waits))
        except StopIteration:
            return Ended()
        except RayError as error:
            return _fate(error)
        if self.job is None:
            self.waits = None
        else:
            self.begun, self.silent_s = True, 0.0
        found: Ready | ArchsearchError | Parcel = word
        return found

    def watch(self, awake_s: float, every_s: float) -> None:
        """Count the seconds of silence of one in training; ask it for a sign of life.

        Args:
            awake_s: that have passed, but for those in which this machine slept.
            every_s: from one question to the next.
        """
        if self.job is None:
            return
        self.silent_s += awake_s
        now = time.monotonic()
        if self.pulse is None and now - self._asked > every_s:
            self.pulse, self._asked = self.actor.steps.remote(), now

    def take_steps(self) -> None:
        """Take the answer; the one of an actor that died is told by its job's stream."""
        import ray
        from ray.exceptions import RayError

        pulse, self.pulse = self.pulse, None
        with suppress(RayError):
            steps = ray.get(pulse)
            if steps != self._steps:
                self._steps, self.silent_s = steps, 0.0

    def end(self) -> None:
        """Have Ray end it, if it is still there."""
        import ray

        with suppress(Exception):
            ray.kill(self.actor)


def write_files(job: Job, found: dict[str, bytes]) -> None:
    """Write into the job's folder, the checkpoint first: what is told must be there to go on from.

    Raises:
        ArchsearchError: it cannot be written, or is nothing that a run leaves.
    """
    paths = RunPaths(job.folder)
    if strange := sorted(found.keys() - {path.name for path in paths.written_by_training}):
        raise ArchsearchError(f"a worker of {job.key} sent {strange[0][:100]!r}: no file of a run")
    for name in sorted(found, key=lambda name: (name != paths.checkpoint.name, name)):
        with atomic_files.replacing(job.folder / name) as temporary:
            temporary.write_bytes(found[name])


def _fate(error: Exception) -> Died:
    """How an actor ended, of Ray's paragraph about it.

    Raises:
        ConnectionError: it ended because this driver is none of the cluster's any more.
    """
    text = str(error)
    if "owner has died" in text:
        raise ConnectionError("it ended what it trained for this process")
    if "node has died" in text or "cancelled before it started" in text:
        return Died("was on a node that died", with_its_node=True)
    if "worker process has died" in text:
        return Died("died (killed, or out of memory?)")
    if "unavailable" in text:
        return Died("cannot be reached", with_its_node=True)
    lines = text.strip().splitlines() or [""]
    return Died(f"died ({type(error).__name__}: {lines[-1].strip()[:200]})")

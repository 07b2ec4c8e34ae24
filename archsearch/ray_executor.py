"""Training on a Ray cluster: an actor a slot, wherever Ray finds room; the study stays here."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from archsearch import __version__, files
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.jobs import EpochDone, Job, JobDone, JobFailed, Report
from archsearch.ray_cluster import Share, actors, gpus, joined, room
from archsearch.results import Run
from archsearch.worker import FromWorker, Loading, Lost, Place, Ready, Unusable, Warned
from archsearch.workers import MAX_ATTEMPTS, SLOW_START_S, stuck_after_s

if TYPE_CHECKING:
    from archsearch.ray_worker import Parcel

_TICK_S = 0.1
_PULSE_S = 10.0
_TELL_AGAIN_S = 600.0
_CHECKPOINT = "checkpoint.pt"


@dataclass(slots=True)
class _Slot:
    """One actor, as its driver has it.

    Attributes:
        waits: for what comes next: that it is open, or the stream of its job's parcels.
        begun: whether its job's stream has told anything.
        pulse: the question how many steps it has made, while there is no answer.
    """

    actor: Any
    waits: Any
    since: float
    ready: bool = False
    job: Job | None = None
    dropped: bool = False
    begun: bool = False
    how: str = ""
    lost: DeviceLostError | None = None
    pulse: Any = None
    asked: float = 0.0
    steps: int = -1
    moved: float = 0.0


@dataclass(slots=True)
class RayCluster:
    """The executor whose jobs run in Ray actors; the driver writes what they leave.

    A context manager: it joins the cluster (or starts one of this machine) on entering.
    A thread of its own takes what actors send and writes it, also while the driver waits for the
    study's database.

    Attributes:
        address: as `ray.init` has it; `local`: a cluster of this machine alone, while it lasts.
        count: of slots; None: as many as there is room for now. More wait for nodes to come.
        warn: is told what the user should know.
        capacity: how many slots there are.
    """

    address: str
    place: Place
    count: int | None
    share: Share
    warn: Callable[[str], None]
    stuck_after_s: float = field(default_factory=stuck_after_s)
    capacity: int = 0
    _gpus: float = 0.0
    _run: Run | None = None
    _actors: Any = None
    _data: Any = None
    _slots: list[_Slot] = field(default_factory=list)
    _backlog: deque[Job] = field(default_factory=deque)
    _inbox: queue.SimpleQueue[Job | str] = field(default_factory=queue.SimpleQueue)
    _outbox: queue.SimpleQueue[Report | Exception] = field(default_factory=queue.SimpleQueue)
    _opened: threading.Event = field(default_factory=threading.Event)
    _closing: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _deaths: dict[str, int] = field(default_factory=dict)
    _reported: dict[str, int] = field(default_factory=dict)
    _early_deaths: int = 0
    _stopped: set[str] = field(default_factory=set)
    _tell_after: float = 0.0

    def __enter__(self) -> RayCluster:
        """Join the cluster; return when a first slot is ready.

        Raises:
            ArchsearchError: there is no such cluster, data set, device or precision.
        """
        from archsearch.data import load
        from archsearch.ray_worker import packed

        ray = joined(self.address)
        try:
            self._data = ray.put(packed(load(self.place.dataset, self.place.data)))
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._gpus = gpus(self.share, self.place, nodes)
            self.capacity = self.count or room(nodes, self.share.cpus, self._gpus)
            self._actors = actors(self.share.cpus, self._gpus)
            self._slots = [self._slot() for _ in range(self.capacity)]
            self._thread = threading.Thread(target=self._work, daemon=True, name="ray")
            self._thread.start()
            self._await_first()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave the cluster; Ray ends what runs there for this driver."""
        import ray

        self._closing.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)
        ray.shutdown()

    def _await_first(self) -> None:
        while not self._opened.wait(_TICK_S):
            if not self._outbox.empty() and isinstance(error := self._outbox.get(), Exception):
                raise error

    def run_of(self, seed: int) -> Run:
        """Where and how jobs are trained; as the first slot has it."""
        if self._run is None:
            raise AssertionError("slots are opened by `with`")
        return replace(self._run, seed=seed)

    def submit(self, job: Job) -> None:
        """Give a job to the next slot that has none."""
        self._inbox.put(job)

    def stop(self, key: str) -> None:
        """Drop a job; its slot takes the next one at its next step."""
        self._stopped.add(key)
        self._inbox.put(key)

    def next_report(self) -> Report:
        """Wait for a report.

        Raises:
            ArchsearchError: a slot found what no other network or slot would mend.
        """
        while True:
            try:
                found = self._outbox.get(timeout=1.0)  # a Ctrl-C is seen between the waits
            except queue.Empty:
                continue
            if isinstance(found, Exception):
                raise found
            if found.key not in self._stopped:  # else it was on its way
                return found

    # The thread

    def _work(self) -> None:
        try:
            while not self._closing.is_set():
                self._take_orders()
                self._listen()
        except Exception as error:  # noqa: BLE001 (it is raised where it is told)
            self._outbox.put(error)

    def _take_orders(self) -> None:
        while not self._inbox.empty():
            order = self._inbox.get()
            if isinstance(order, Job):
                self._reported[order.key] = 0
                self._backlog.append(order)
            else:
                self._drop(order)
        for at in self._slots:
            if self._backlog and at.ready and at.job is None:
                self._give(at, self._backlog.popleft())

    def _give(self, at: _Slot, job: Job) -> None:
        path = job.folder / _CHECKPOINT
        checkpoint = path.read_bytes() if path.exists() else None
        at.job, at.dropped, at.begun, at.how, at.lost = job, False, False, "", None
        at.moved = at.asked = time.monotonic()
        stream = at.actor.train.options(num_returns="streaming")
        at.waits = stream.remote(job, checkpoint)

    def _drop(self, key: str) -> None:
        self._backlog = deque(job for job in self._backlog if job.key != key)
        for at in self._slots:
            if at.job and at.job.key == key:
                at.dropped = True
                at.actor.drop.remote(key)

    def _listen(self) -> None:
        """Take what has come, at most a tenth of a second's wait; see to who is silent."""
        import ray

        waits = {at.waits: at for at in self._slots if at.waits is not None}
        pulses = {at.pulse: at for at in self._slots if at.pulse is not None}
        every = [*waits, *pulses]
        if not every:
            self._closing.wait(_TICK_S / 10)
            return
        ready, _ = ray.wait(every, num_returns=1, timeout=_TICK_S, fetch_local=True)
        if ready:
            ready, _ = ray.wait(every, num_returns=len(every), timeout=0)
        for ref in ready:
            if at := pulses.get(ref):
                self._felt(at)
            elif (at := waits[ref]).waits is ref:
                self._receive(at)
        for at in self._slots:
            self._judge(at)
        self._tell_who_waits()

    def _receive(self, at: _Slot) -> None:
        """Take an actor's next word: that it is open, or its job's next parcel."""
        import ray
        from ray.exceptions import RayError

        try:
            if at.job is None:
                self._open(at, ray.get(at.waits))
            else:
                self._unpack(at, ray.get(next(at.waits)))
        except StopIteration:
            if at.job and not at.dropped and not at.how:
                self._bury(at, "ended without a word")  # pragma: no cover
            elif at.lost:
                self._bury(at, at.how)
            else:
                at.job = at.waits = None
        except RayError as error:
            self._bury(at, _fate(error))

    def _open(self, at: _Slot, found: Ready | Unusable) -> None:
        at.waits = None
        if isinstance(found, Unusable):
            raise ArchsearchError(found.message)
        at.ready, self._run, self._early_deaths = True, found.run, 0
        self._opened.set()

    def _unpack(self, at: _Slot, parcel: Parcel) -> None:
        if at.dropped or at.job is None:
            return
        at.begun, at.moved = True, time.monotonic()
        _write(at.job, parcel.files)
        self._tell(at, at.job, parcel.told)

    def _tell(self, at: _Slot, job: Job, told: FromWorker) -> None:
        match told:
            case Warned(message=text):
                self.warn(text)
            case Unusable(message=text):
                raise ArchsearchError(text)
            case Lost(device=device, why=why):
                at.how = f"lost {device} ({why})"
                at.lost = DeviceLostError(device, why)
            case EpochDone(key=key, epoch=epoch):
                if epoch.epoch > self._reported[key]:
                    self._reported[key] = epoch.epoch
                    self._outbox.put(told)
            case JobDone() | JobFailed():
                at.how = "done"
                self._outbox.put(told)
            case Loading() | Ready():
                pass

    # Who dies or stands still

    def _felt(self, at: _Slot) -> None:
        import ray
        from ray.exceptions import RayError

        pulse, at.pulse = at.pulse, None
        with suppress(RayError):  # of one that died: its job's stream tells
            steps = ray.get(pulse)
            if steps != at.steps:
                at.steps, at.moved = steps, time.monotonic()

    def _judge(self, at: _Slot) -> None:
        """Ask a slot in training for a sign of life; end one that gives none."""
        now = time.monotonic()
        if at.job is None:
            return
        if at.pulse is None and now - at.asked > _PULSE_S:
            at.pulse, at.asked = at.actor.steps.remote(), now
        if now - at.moved > self.stuck_after_s:
            self._bury(at, f"made no step in {self.stuck_after_s:.0f} s and was ended")

    def _tell_who_waits(self) -> None:
        now = time.monotonic()
        waiting = [at for at in self._slots if not at.ready and now - at.since > SLOW_START_S]
        if waiting and now > self._tell_after:
            self._tell_after = now + _TELL_AGAIN_S
            share = f"{self.share.cpus:g} CPUs and {self._gpus:g} GPUs"
            self.warn(
                f"{len(waiting)} of {self.capacity} slots still wait for room in the cluster "
                f"({share} each), or load"
            )

    def _bury(self, at: _Slot, how: str) -> None:
        """Have Ray start another actor; the job goes on in any slot, unless it cost too many.

        Raises:
            DeviceLostError: it is what ended an actor once too often.
            ArchsearchError: no actor can start.
        """
        import ray

        with suppress(Exception):
            ray.kill(at.actor)
        if not at.ready:
            self._early_deaths += 1
            if self._early_deaths >= MAX_ATTEMPTS:
                raise ArchsearchError(
                    f"{self._early_deaths} Ray actors in a row could not start, the last {how}; "
                    "is archsearch installed on every node, and is there memory?"
                )
        self._slots = [each for each in self._slots if each is not at] + [self._slot()]
        job = at.job
        if job is None or at.dropped:
            return
        deaths = self._deaths[job.key] = self._deaths.get(job.key, 0) + at.begun
        if deaths >= MAX_ATTEMPTS and at.lost:
            raise at.lost
        if deaths >= MAX_ATTEMPTS:
            reason = f"{deaths} workers died of it: the last {how}"
            self._outbox.put(JobFailed(job.key, reason))
            return
        self.warn(f"the worker of {job.key} {how}: another goes on from its last epoch")
        self._backlog.appendleft(job)

    def _slot(self) -> _Slot:
        threads = max(1, int(self.share.cpus))
        actor = self._actors.remote(self.place, threads, __version__)
        return _Slot(actor, actor.open.remote(self._data), time.monotonic())


def _fate(error: Exception) -> str:
    """How an actor ended, of Ray's paragraph about it."""
    text = str(error)
    if "node has died" in text:
        return "was on a node that died"
    if "worker process has died" in text:
        return "died (killed, or out of memory?)"
    if "unavailable" in text:
        return "cannot be reached"
    lines = text.strip().splitlines() or [""]
    return f"died ({type(error).__name__}: {lines[-1].strip()[:200]})"


def _write(job: Job, found: dict[str, bytes]) -> None:
    """Into the job's folder, the checkpoint first: what is told must be there to go on from."""
    for name in sorted(found, key=lambda name: (name != _CHECKPOINT, name)):
        with files.replacing(job.folder / name) as temporary:
            temporary.write_bytes(found[name])

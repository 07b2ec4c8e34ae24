"""Train on a Ray cluster, one actor per slot; the study stays on this machine."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from archsearch.common import interruption
from archsearch.common.version import __version__
from archsearch.errors import ArchsearchError, DeviceLostError
from archsearch.executors import messages as msg
from archsearch.executors.protocol import JobDone, JobFailed, JobReport, MoreRoom
from archsearch.executors.ray import cluster
from archsearch.executors.ray.slot import Died, Ended, Slot, write_files
from archsearch.executors.supervision import SLOW_START_S, Supervisor, stuck_after_s
from archsearch.training.job import Job
from archsearch.training.records import Run

_TICK_S = 0.1
_PULSE_S = 10.0
_TELL_AGAIN_S = 600.0
_Outgoing = JobReport | MoreRoom | BaseException
_ADVICE = "is archsearch installed on every node, and is there memory?"


@dataclass(slots=True)
class RayExecutor:
    """The executor whose jobs run in Ray actors; the driver writes what they leave.

    A context manager: it joins the cluster (or starts one of this machine) on entering.
    A thread of its own takes what actors send and writes it, also while the driver waits for the
    study's database.

    Attributes:
        address: as `ray.init` has it; `local`: a cluster of this machine alone, while it lasts.
        count: of slots; None: as many as there is room for now. More wait for nodes to come.
        warn: is told what the user should know.
        capacity: how many slots there are, open or not.
    """

    address: str
    config: msg.WorkerConfig
    count: int | None
    resources: cluster.TrialResources
    warn: Callable[[str], None]
    stuck_after_s: float = field(default_factory=stuck_after_s)
    capacity: int = 0
    _head: cluster.HeadNode = field(init=False)
    _gone: bool = False
    _gpus: float = 0.0
    _runs: dict[str | None, Run] = field(default_factory=dict)  # of jobs; None: the first slot's
    _actors: Any = None
    _data: Any = None
    _slots: list[Slot] = field(default_factory=list)
    _backlog: deque[Job] = field(default_factory=deque)
    _inbox: queue.SimpleQueue[Job | str] = field(default_factory=queue.SimpleQueue)
    _outbox: queue.SimpleQueue[_Outgoing] = field(default_factory=queue.SimpleQueue)
    _opened: threading.Event = field(default_factory=threading.Event)
    _closing: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _supervisor: Supervisor = field(init=False)
    _stopped: set[str] = field(default_factory=set)
    _tell_after: float = 0.0

    def __post_init__(self) -> None:
        self._supervisor = Supervisor("Ray actors", _ADVICE, self.warn, self._outbox.put)

    def __enter__(self) -> RayExecutor:
        """Join the cluster; return when a first slot is ready.

        Raises:
            ArchsearchError: there is no such cluster, data set, device or precision.
        """
        from archsearch.executors.ray.actor import packed
        from archsearch.training.images import load

        ray = cluster.connect(self.address)
        self._head = cluster.HeadNode(ray.get_runtime_context().gcs_address)
        try:
            self._data = ray.put(packed(load(self.config.dataset, self.config.data)))
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._gpus = cluster.gpus_per_trial(self.resources, self.config, nodes)
            self.capacity = self._asked_for(
                cluster.concurrent_trials(nodes, self.resources.cpus, self._gpus)
            )
            self._actors = cluster.actor_class(self.resources.cpus, self._gpus)
            self._slots = [self._slot() for _ in range(self.capacity)]
            self._thread = threading.Thread(target=self._work, daemon=True, name="ray")
            self._thread.start()
            self._await_first()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave the cluster; Ray ends what runs there for this driver.

        Where Ray has gone it is not called any more: it would end this process, with nothing told.
        """
        import ray

        self._closing.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)
        if not self._gone:
            ray.shutdown()

    def _asked_for(self, fit: int) -> int:
        if not (self.count or fit):
            raise ArchsearchError(
                f"no node of the cluster has {self._each()} for a trial; give --cpus-per-trial, "
                "--gpus-per-trial, or --workers N to wait for nodes that come"
            )
        if self.count and fit < self.count:
            self.warn(
                f"{self.count} at a time are asked for, and the cluster has room for {fit} "
                f"({self._each()} each): the others wait for nodes that come"
            )
        return self.count or fit

    def _each(self) -> str:
        return f"{self.resources.cpus:g} CPU and {self._gpus:g} GPU"

    def _await_first(self) -> None:
        while not self._opened.wait(_TICK_S):
            interruption.check()
            if not self._outbox.empty() and isinstance(error := self._outbox.get(), BaseException):
                raise error

    @property
    def ready(self) -> int:
        """How many slots are open: who waits for room in the cluster gets no job."""
        return max(1, sum(at.run is not None for at in self._slots))

    def run_of(self, seed: int, key: str | None = None) -> Run:
        """Where and how a job was trained last; without one, as the first slot has it."""
        if not self._runs:
            raise AssertionError("slots are opened by `with`")
        return self._runs.get(key, self._runs[None]).model_copy(update={"seed": seed})

    def epoch_share(self, key: str) -> float:
        """Return 0: the steps of a job on the cluster are not known here."""
        return 0.0

    def submit(self, job: Job) -> None:
        """Give a job to the next slot that has none."""
        self._inbox.put(job)

    def stop(self, key: str) -> None:
        """Drop a job; its slot takes the next one at its next step."""
        self._stopped.add(key)
        self._inbox.put(key)

    def next_report(self) -> JobReport | MoreRoom:
        """Wait for a report, or for another slot to open.

        Raises:
            ArchsearchError: no other network or slot would fix what a slot found.
        """
        while True:
            interruption.check()
            try:
                found = self._outbox.get(timeout=1.0)
            except queue.Empty:
                continue
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, MoreRoom) or found.key not in self._stopped:
                return found  # else it was on its way

    # The thread

    def _work(self) -> None:
        from ray.exceptions import RayError

        try:
            while not self._closing.is_set():
                self._take_orders()
                self._listen()
        except (RayError, ConnectionError) as error:
            self._gone = True
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)
            gone = f"Ray has gone from this machine ({why})"
            self._outbox.put(ArchsearchError(f"{gone}; {cluster.GO_ON}"))
            with suppress(OSError):  # at once, for Ray may end this process at any moment
                self.warn(f"{gone}: the search ends")
        except BaseException as error:  # noqa: BLE001 (raised by next_report, which would wait for ever)
            self._outbox.put(error)

    def _take_orders(self) -> None:
        while not self._inbox.empty():
            order = self._inbox.get()
            if isinstance(order, Job):
                self._supervisor.submitted(order)
                self._backlog.append(order)
            else:
                self._drop(order)
        for at in self._slots:
            if self._backlog and at.run and at.job is None:
                job = self._backlog.popleft()
                self._runs[job.key] = at.run
                at.give(job)

    def _drop(self, key: str) -> None:
        self._backlog = deque(job for job in self._backlog if job.key != key)
        for at in self._slots:
            if at.job and at.job.key == key:
                at.drop()

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
                at.take_steps()
            elif (at := waits[ref]).waits is ref:
                self._receive(at)
        awake_s = self._supervisor.awake_s()
        for at in self._slots:
            at.watch(awake_s, min(_PULSE_S, self.stuck_after_s / 3))
            if at.silent_s > self.stuck_after_s:
                how = f"made no step in {self.stuck_after_s:.0f} s and was ended"
                self._bury(at, Died(how))
        self._head.watch()
        self._tell_who_waits()

    def _receive(self, at: Slot) -> None:
        """Take an actor's next word: that it is open, or its job's next parcel."""
        match at.next_word():
            case Died() as fate:
                self._bury(at, fate)
            case Ended() if at.lost:
                self._bury(at, Died(f"lost {at.lost.device} ({at.lost.why})"))
            case Ended() if at.done or at.dropped:
                at.free()
            case Ended():
                self._bury(at, Died("ended without a word"))
            case ArchsearchError() as word:
                self._supervisor.take(word)
            case msg.Ready(run=run):
                at.run = run
                self._runs.setdefault(None, run)
                self._supervisor.one_started()
                self._opened.set()
                self._outbox.put(MoreRoom())
            case parcel if at.job and not at.dropped:
                write_files(at.job, parcel.files)
                self._tell(at, parcel.told)

    def _tell(self, at: Slot, told: msg.FromWorker) -> None:
        match told:
            case DeviceLostError():
                at.lost = told
            case msg.Loading() | msg.Ready():
                pass
            case _:
                at.done = at.done or isinstance(told, JobDone | JobFailed)
                self._supervisor.take(told)

    # Who dies or waits

    def _bury(self, at: Slot, fate: Died) -> None:
        """Have Ray start another actor; the job goes on in any slot, unless it cost too many.

        Raises:
            DeviceLostError: it is what ended an actor once too often.
            ArchsearchError: no actor can start.
        """
        at.end()
        if not (at.run or fate.with_its_node or any(each.run for each in self._slots)):
            self._supervisor.crashed_early(fate.how)
        self._slots = [each for each in self._slots if each is not at] + [self._slot()]
        if at.job is None or at.dropped or at.done:
            return
        blame = at.begun and not fate.with_its_node
        if self._supervisor.retries(at.job, fate.how, blame=blame, lost=at.lost):
            self._backlog.appendleft(at.job)

    def _tell_who_waits(self) -> None:
        now = time.monotonic()
        waiting = [at for at in self._slots if not at.run]
        slow = any(now - at.since > SLOW_START_S for at in waiting)
        if slow and now > self._tell_after:
            self._tell_after = now + _TELL_AGAIN_S
            self.warn(
                f"{len(waiting)} of {self.capacity} slots still wait for room in the cluster "
                f"({self._each()} each), or load"
            )

    def _slot(self) -> Slot:
        threads = max(1, int(self.resources.cpus))
        actor = self._actors.remote(self.config, threads, __version__)
        return Slot(actor, actor.open.remote(self._data))

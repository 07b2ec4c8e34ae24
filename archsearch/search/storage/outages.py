"""A study in PostgreSQL, whose server may go away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import NullPool
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError

from archsearch.common.machine import seconds_from
from archsearch.errors import StudyError
from archsearch.search.storage.driver_lock import DriverLock
from archsearch.search.storage.single_writer import SoleWriter
from archsearch.search.storage.url import without_secrets

PATIENCE_VARIABLE = "ARCHSEARCH_STORAGE_PATIENCE"
PATIENCE_S = 600.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_CONNECT_ARGS = {
    "connect_timeout": 10,
    # A server or a network that is gone without a word is noticed in half a minute.
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
T = TypeVar("T")


@dataclass
class Outlasting(BaseStorage):
    """Optuna's storage, each of whose operations waits while the server is away.

    An operation is one transaction. Where its connection was lost, nobody knows whether it was
    committed; each is done again so that twice is as once.

    Attributes:
        away: told why the server is away, and for how long it will be waited for.
        back: told that it is there again, and after how many seconds.
        patience_s: the longest wait.
    """

    url: str
    lock: DriverLock
    away: Callable[[str, float], None]
    back: Callable[[float], None]
    patience_s: float = field(default_factory=lambda: seconds_from(PATIENCE_VARIABLE, PATIENCE_S))

    def __post_init__(self) -> None:
        # Optuna makes tables through two connections at once; the one with the lock is alone.
        args = {**_CONNECT_ARGS, "application_name": self.lock.application}
        first = RDBStorage(self.url, {"poolclass": NullPool, "connect_args": args})
        first.engine.dispose()
        alone = {
            "pool_size": 1,
            "max_overflow": 0,
            "connect_args": args,
            "pool_events": [(self.lock.take, "connect")],
        }
        self._storage = RDBStorage(self.url, alone, True, skip_table_creation=True)
        self._inner = SoleWriter(self._storage, repeats=True)

    def close(self) -> None:
        """Let go of the study."""
        self._storage.engine.dispose()

    def give_up(self) -> None:
        """Wait no more: the search ends, whether the server answers or not."""
        self.patience_s = 0.0

    def _outlast(self, operation: Callable[[], T], again: Callable[[], T] | None = None) -> T:
        """Do an operation; once the server was away, do `again` instead until one comes through.

        Raises:
            StudyError: it was away for too long, or another driver took the study meanwhile.
        """
        began: float | None = None
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                result = operation()
            except (DBAPIError, StorageInternalError) as error:
                why = _why_away(error)
                if why is None:
                    raise
                why = without_secrets(why, self.url)
                now = time.monotonic()
                if began is None:
                    began = now
                    if self.patience_s:
                        self.away(why, self.patience_s)
                if now - began >= self.patience_s:
                    raise StudyError(
                        f"study {self.lock.name}: its database has been away for "
                        f"{now - began:.0f} s ({why}); what was saved before is as it was. Run the "
                        f"same command once it is back ({PATIENCE_VARIABLE}: seconds to wait)"
                    ) from None
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                operation = again or operation
            else:
                if began is not None:
                    self.back(time.monotonic() - began)
                return result

    # What may have been done already

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """`SoleWriter` sees to a first attempt that made a trial and could not say so."""
        return self._outlast(lambda: self._inner.create_new_trial(study_id, template_trial))

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Also true where the first attempt did it."""

        def attempt() -> bool:
            return self._inner.set_trial_state_values(trial_id, state, values)

        def again() -> bool:
            return self._inner.reread(trial_id).state == state or attempt()

        return self._outlast(attempt, again)

    def create_new_study(
        self, directions: Sequence[StudyDirection], study_name: str | None = None
    ) -> int:
        """Optuna looks up a name that is taken."""
        return self._outlast(lambda: self._inner.create_new_study(directions, study_name))

    # What twice is as once

    def delete_study(self, study_id: int) -> None:
        self._outlast(lambda: self._inner.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._outlast(lambda: self._inner.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._outlast(lambda: self._inner.set_study_system_attr(study_id, key, value))

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:  # fmt: skip
        args = (trial_id, param_name, param_value_internal, distribution)
        self._outlast(lambda: self._inner.set_trial_param(*args))

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        args = (trial_id, step, intermediate_value)
        self._outlast(lambda: self._inner.set_trial_intermediate_value(*args))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._outlast(lambda: self._inner.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._outlast(lambda: self._inner.set_trial_system_attr(trial_id, key, value))

    # What only reads

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._outlast(lambda: self._inner.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._outlast(lambda: self._inner.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._outlast(lambda: self._inner.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._outlast(lambda: self._inner.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._outlast(lambda: self._inner.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._outlast(self._inner.get_all_studies)

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._outlast(lambda: self._inner.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._outlast(lambda: self._inner.get_all_trials(study_id, deepcopy, states))


def _why_away(error: BaseException) -> str | None:
    """The server's last word, where an error says that it is away; None of other errors."""
    found: str | None = None
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DBAPIError) and (
            cause.connection_invalidated or isinstance(cause, OperationalError | InterfaceError)
        ):
            lines = str(cause.orig).strip().splitlines()
            found = lines[0] if lines else "it broke the connection"
        elif isinstance(cause, PendingRollbackError):
            # Optuna reads once more in the transaction that was lost with its connection.
            found = "its connection broke"
        cause = cause.__cause__
    return found

"""Typed access to the attributes of Optuna's trials and studies, as a database may have them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import optuna
from optuna.trial import FrozenTrial, Trial
from pydantic import TypeAdapter, ValidationError

from archsearch.errors import StudyError, one_line, shown

T = TypeVar("T")
Owner = FrozenTrial | Trial | optuna.Study


class DamagedStoreError(StudyError):
    """Report a stored value that archsearch did not write.

    Attributes:
        place: where it is stored ("trial 3, history").
        what: what is wrong with it.
    """

    def __init__(self, place: str, what: str) -> None:
        self.place = place
        self.what = what
        super().__init__(f"{place}: {what}")

    def __reduce__(self) -> tuple[type[DamagedStoreError], tuple[str, str]]:
        return DamagedStoreError, (self.place, self.what)


@dataclass(frozen=True)
class Attr(Generic[T]):
    """An attribute of a trial or a study.

    Attributes:
        key: the key it is stored under.
        kind: its type, as pydantic knows it.
        default: what stands for it if it is not stored.
    """

    key: str
    kind: Any
    default: T

    @cached_property
    def _adapter(self) -> TypeAdapter[T]:
        return TypeAdapter(self.kind)

    def of(self, owner: Owner) -> T:
        """Return what is stored.

        Raises:
            DamagedStoreError: it is not what archsearch stores there.
        """
        attrs = owner.user_attrs
        if self.key not in attrs:
            return self.default
        try:
            return self._adapter.validate_python(attrs[self.key])
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            within = ".".join(map(str, first["loc"]))
            place = ", ".join([*_place(owner), one_line(self.key)])
            what = f"{first['msg']}, got {shown(first['input'])}"
            raise DamagedStoreError(place, f"{within}: {what}" if within else what) from None

    def store(self, owner: Trial | optuna.Study, value: T) -> None:
        """Store a value."""
        owner.set_user_attr(self.key, self._adapter.dump_python(value))


def _place(owner: Owner) -> list[str]:
    number = getattr(owner, "number", None)
    return [] if number is None else [f"trial {number}"]

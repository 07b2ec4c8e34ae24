"""Files of a newer format say how to read them."""

from __future__ import annotations

import pytest

import archsearch as asr


def test_a_study_and_a_spec_of_a_newer_format_say_to_upgrade() -> None:
    told = r"must be 1 \(a newer version of archsearch wrote this; upgrade to read it\), got 2"
    with pytest.raises(asr.InputError, match=told):
        asr.load_study({"name": "x", "format": 2})
    with pytest.raises(asr.InputError, match=told):
        asr.load_spec({"name": "x", "format": 2, "blocks": [], "output": {"layers": []}})


@pytest.mark.parametrize("value", [0, "1", None, 1.5])
def test_what_is_no_format_is_not_called_newer(value: object) -> None:
    with pytest.raises(asr.InputError, match="format") as error:
        asr.load_study({"name": "x", "format": value})
    assert "newer" not in str(error.value)

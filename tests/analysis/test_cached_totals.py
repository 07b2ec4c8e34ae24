"""The fast verdict against the thorough one: the same, whatever was screened before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.analysis.analyze import analyze
from archsearch.analysis.cached_totals import MAX_TEXT, Screen
from archsearch.analysis.constraints import Constraints, Violation, judge
from archsearch.analysis.totals import Totals
from archsearch.common.parse import from_json
from archsearch.errors import InputError
from archsearch.spec.models import Spec
from tests.strategies import Json, examples, specs

CONV: Json = {"op": "conv", "out_channels": 10}
SEPARATORS = [(",", ":"), (", ", ": "), (" ,\n", ":\t")]
REMEMBERS = Screen(Constraints())
"""One for all examples, so that later ones meet what earlier ones left."""


def thorough(text: str) -> tuple[Totals, list[Violation]] | str:
    """Totals and violations, or what is wrong."""
    try:
        spec = from_json(Spec, text, "x")
        verdict = judge(analyze(spec), Constraints())
    except InputError as error:
        return str(error.named("x"))
    return verdict.analysis.totals, list(verdict.violations)


def screened(screen: Screen, text: str) -> tuple[Totals, list[Violation]] | str:
    try:
        found = screen(text, "x")
    except InputError as error:
        return str(error)
    return found.totals, found.violations


@pytest.mark.property
@examples(500)
@given(specs())
def test_any_spec(spec: Spec) -> None:
    text = json.dumps(spec.model_dump(mode="json"), separators=SEPARATORS[len(spec.blocks) % 3])
    expected = thorough(text)
    REMEMBERS._lists.clear()
    assert screened(REMEMBERS, text) == expected
    assert len(text) > MAX_TEXT or REMEMBERS._lists  # the fast way was taken
    assert screened(REMEMBERS, text) == expected  # from memory
    analysis = analyze(spec)
    # Run by run, from the image on, gives what the resolver found following the whole.
    assert analysis.totals.receptive_field_with_gap == analysis.network.logits.rf
    assert analysis.totals.receptive_field == (
        analysis.network.logits.gate or analysis.network.logits.rf
    )


def spec(*layers: Any, **more: Any) -> str:
    blocks = [{"name": "a", "layers": [CONV]}, {"name": "b", "layers": list(layers)}]
    head = {"layers": [{"op": "global_avg_pool"}]}
    return json.dumps({"name": "x", "blocks": blocks, "output": head, **more})


DEEP = CONV
for _ in range(30):
    DEEP = {"op": "residual", "body": [DEEP]}

BROKEN = [
    "",
    "{",
    "[]",
    "null",
    spec({**CONV, "out_channels": True}),
    spec({**CONV, "out_channels": 10.0}),
    spec({**CONV, "kernel_size": 0}),
    spec({**CONV, "padding": "full"}),
    spec({"op": "convolution"}),
    spec(7),
    spec(),
    spec(CONV, classes=11),
    spec(CONV, format=2),
    spec(CONV, extra=1),
    spec(CONV, name=""),
    spec(CONV, input={"channels": 3, "height": 0}),
    spec({"op": "flatten"}, CONV),
    spec({**CONV, "kernel_size": 40, "padding": 0}),
    spec(*[CONV] * 1_999),
    spec(DEEP),
    spec(CONV).replace('"name": "b"', '"name": "a"'),
    spec(CONV).replace('"global_avg_pool"', '"flatten"'),
    spec(CONV).replace('"name": "x"', '"name": "x\n"'),
    spec(CONV).replace('"name": "b"', '"x\\"layers":[1], "name": "b"'),
    spec(CONV).replace('"op": "conv"', '"op": "conv", "layers":[]'),
    spec(CONV) + "x",
    "[" * 100_000,
]


@pytest.mark.parametrize("own", ["[1]", "[-1]", "[99]", "[0]", "[]", "[true]", "[[1]]"])
@pytest.mark.parametrize("gap", ["", " ", "\n"])
def test_a_list_written_twice(gap: str, own: str) -> None:
    one = f'"layers"{gap}: {own}'
    for text in (
        spec(CONV).replace('"name": "b"', f'"name": "b", {one}'),
        spec(CONV).replace("}]}], ", f'}}], {one}, "name": "b"}}], '),
        spec(CONV).replace('"layers": [{"op": "glo', f'{one}, "layers": [{{"op": "glo'),
        spec(CONV).replace('pool"}]}', f'pool"}}], {one}}}'),
    ):
        assert json.loads(text)
        assert one in text
        for screen in (REMEMBERS, Screen(Constraints())):
            assert screened(screen, text) == thorough(text)


@pytest.mark.parametrize("text", BROKEN)
def test_what_is_broken_is_told_as_ever(text: str) -> None:
    for valid in (spec(CONV), spec({**CONV, "out_channels": 10})):
        assert isinstance(screened(REMEMBERS, valid), tuple)
    expected = thorough(text)
    assert isinstance(expected, str)
    assert screened(REMEMBERS, text) == expected
    assert screened(Screen(Constraints()), text) == expected


@pytest.mark.parametrize(
    "text",
    [
        spec(CONV, classes=10, name="later"),
        spec(CONV).replace('"name": "x"', '"name": "x", "name": "y"'),
        spec(CONV).replace('"name": "x"', '"name": "\\u00e9 \\"layers\\": [] é"'),
        spec(CONV).replace('"name": "b"', '"name": "\\"layers\\":[{}]"'),
        '{"output": {"layers": [{"op": "global_avg_pool"}]}, "name": "x", '
        f'"blocks": [{{"layers": [{json.dumps(CONV)}], "name": "b"}}]}}',
        spec(CONV).replace('"layers":', '"layers":[], "layers":'),
        spec({**CONV, "dropout": 0}),
        spec({**CONV, "kernel_size": [3, 5], "dilation": [2, 1]}),
        spec({"op": "parallel", "branches": [[], [CONV]], "merge": "add"}),
        spec({"op": "avg_pool", "kernel_size": 32}, CONV),
        "\n  " + spec(CONV).replace(", ", " ,\n\t").replace(": ", " :  "),
    ],
)
def test_ways_of_writing_make_no_difference(text: str) -> None:
    for screen in (Screen(Constraints()), REMEMBERS, REMEMBERS):
        result = screened(screen, text)
        assert result == thorough(text)
        assert isinstance(result, tuple), result
        name = from_json(Spec, text, "x").name
        assert screen(text, "x").name == name


def test_one_and_true_are_told_apart() -> None:
    screen = Screen(Constraints())
    one = spec({**CONV, "kernel_size": 1})
    assert isinstance(screened(screen, one), tuple)
    assert "must be an integer" in str(
        screened(screen, one.replace('"kernel_size": 1', '"kernel_size": true'))
    )


def test_the_same_block_on_another_map_is_another_thing() -> None:
    screen = Screen(Constraints())
    texts = [spec(CONV, input={"channels": 3, "height": n, "width": 32}) for n in (32, 16, 32)]
    assert [screened(screen, text) for text in texts] == [thorough(text) for text in texts]


def test_a_depthwise_and_a_pointwise_convolution_in_different_blocks_are_separable() -> None:
    depthwise = {**CONV, "groups": "depthwise"}
    pointwise = {**CONV, "kernel_size": 1}
    for between, found in (([], True), ([{"op": "norm"}], True), ([{"op": "max_pool"}], False)):
        blocks = [
            {"name": "a", "layers": [CONV, depthwise]},
            *[{"name": "m", "layers": between}] * bool(between),
            {"name": "b", "layers": [pointwise]},
        ]
        text = json.dumps(
            {"name": "x", "blocks": blocks, "output": {"layers": [{"op": "global_avg_pool"}]}}
        )
        result = screened(Screen(Constraints()), text)
        assert result == thorough(text)
        assert isinstance(result, tuple)
        assert result[0].depthwise_separable == found


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archsearch.analysis.cached_totals.MAX_REMEMBERED", 5)
    screen = Screen(Constraints())
    for width in range(10, 400, 10):
        assert isinstance(screened(screen, spec({**CONV, "out_channels": width}, CONV)), tuple)
        for memory in (screen._cut, screen._lists, screen._layers, screen._frames):
            assert 0 < len(memory) <= 5


@given(st.binary(max_size=200))
def test_noise_never_raises_anything_else(noise: bytes) -> None:
    assert isinstance(screened(REMEMBERS, noise.decode("utf-8", "replace")), str)

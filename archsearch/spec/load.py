"""A spec from wherever its user has it."""

from __future__ import annotations

from archsearch.common.parse import Given, from_given
from archsearch.spec.models import Spec


def load_spec(spec: Spec | Given) -> Spec:
    """Read a spec: a JSON file, or the same as a dict.

    Args:
        spec: a path ("-": standard input), plain data, or a spec, which is returned as it is.

    Raises:
        InputError: it has problems; with every one of them.
        ArchsearchError: the file cannot be read.

    Example:
        >>> import archsearch as asr
        >>> spec = asr.load_spec("studies/seeds/eva8-session6/spec.json")
        >>> spec.name, [block.name for block in spec.blocks]
        ('eva8-session6', ['conv1', 'conv2', 'conv3', 'conv4'])
    """
    return from_given(Spec, spec)

"""Load a spec from a file, standard input or a dict."""

from __future__ import annotations

from archsearch.common.parse import Given, from_given
from archsearch.spec.models import Spec


def load_spec(spec: Spec | Given) -> Spec:
    """Read a spec from a JSON file or a dict.

    Args:
        spec: a path ("-" for standard input), a dict, or a `Spec`, which is returned unchanged.

    Raises:
        InputError: the spec is invalid; the error lists all problems.
        ArchsearchError: the file cannot be read.

    Example:
        >>> import archsearch as asr
        >>> spec = asr.load_spec("studies/seeds/eva8-session6/spec.json")
        >>> spec.name, [block.name for block in spec.blocks]
        ('eva8-session6', ['conv1', 'conv2', 'conv3', 'conv4'])
    """
    return from_given(Spec, spec)

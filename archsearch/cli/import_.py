"""`archsearch import`."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from inspect import isfunction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archsearch.common.console import note, tell
from archsearch.errors import InputError, Problem, named_as, shown

if TYPE_CHECKING:
    from torch import nn

    from archsearch.spec.models import Spec


def import_(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:CLASS", help="An nn.Module, its class, or a function that makes one."
        ),
    ],
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="K=V", help="For CLASS: a Python literal, or else text."),
    ] = None,
    image: Annotated[
        str, typer.Option("--input", metavar="C,H,W", help="One image's shape.")
    ] = "3,32,32",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The spec's name; CLASS unless given.")
    ] = None,
) -> None:
    """Print the spec of an nn.Module; RUNS the code in FILE.

    Import only what you trust.
    The spec goes to standard output, what was noticed to standard error. Exit status: 0 done,
    2 the module cannot be had or a spec cannot express it.
    """
    file, _, class_name = target.rpartition(":")
    problems: list[Problem] = []
    if not file or not class_name.isidentifier():
        message = f"must be FILE.py:CLASS, such as models.py:Net, got {shown(target)}"
        problems.append(Problem("FILE.py:CLASS", "target", message))
    shape = _shape(image, problems)
    arguments = _arguments(arg or [], problems)
    if name == "":
        problems.append(Problem("--name", "name", "must not be empty"))
    if problems:
        raise InputError("archsearch import", problems)
    tell(f"importing {class_name} runs the code in {file}")
    from archsearch.convert.from_module import (
        import_module,  # before a neighbour can be called torch.py
    )

    with _prints_on_stderr(), _as_if_run(Path(file).resolve()):
        module = _module(file, class_name, arguments)
        with named_as(target):
            imported = import_module(module, shape, name or class_name)
    for message in (*imported.notes, _told_blocks(imported.spec)):
        note(message)
    written = _op_first(imported.spec.model_dump(mode="json", exclude_defaults=True))
    sys.stdout.write(json.dumps(written, indent=2) + "\n")


def _shape(text: str, problems: list[Problem]) -> tuple[int, int, int]:
    """(C, H, W) from "C,H,W"."""
    from archsearch.spec.models import MAX_CHANNELS, MAX_PIXELS, Input

    parts = text.split(",")
    try:
        channels, height, width = (int(part) for part in parts)
        Input(channels=channels, height=height, width=width)
    except (ValueError, InputError):
        message = (
            f"must be channels (at most {MAX_CHANNELS:,}), height and width (at most "
            f"{MAX_PIXELS:,}) such as 3,32,32, got {shown(text)}"
        )
        problems.append(Problem("--input", "input", message))
        return 3, 32, 32
    return channels, height, width


def _arguments(texts: Sequence[str], problems: list[Problem]) -> dict[str, Any]:
    """Keyword arguments from K=V."""
    arguments: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier() or key in arguments:
            message = f"must be name=value, each name once, got {shown(text)}"
            problems.append(Problem("--arg", "arg", message))
        arguments[key] = _literal(value)
    return arguments


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


@contextlib.contextmanager
def _prints_on_stderr() -> Iterator[None]:
    """Keep standard output for the spec, whether Python, C or a program started prints."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


@contextlib.contextmanager
def _as_if_run(file: Path) -> Iterator[None]:
    """Let a file import its neighbours and read its arguments (none), as when Python runs it."""
    folder, ours = str(file.parent), sys.argv
    sys.path.insert(0, folder)
    sys.argv = [str(file)]
    try:
        yield
    finally:
        sys.argv = ours
        if folder in sys.path:
            sys.path.remove(folder)


def _module(file: str, name: str, arguments: dict[str, Any]) -> nn.Module:
    """The module that `name` in `file` is or makes.

    Raises:
        InputError: the file fails, has no such name, or what it names makes no module.
    """
    from torch import nn

    source = _run(file)
    made = getattr(source, name, None)
    if made is None:
        raise _failure(file, "class", f"has no {name}; it has {_offers(source)}")
    if isinstance(made, nn.Module) and not arguments:
        return made
    if not callable(made) or isinstance(made, nn.Module):
        kind = type(made).__name__
        message = (
            f"{name} is of type {kind}; name a class or a function (or a module, without --arg)"
        )
        raise _failure(file, "class", message)
    given = ", ".join(f"{key}={shown(value)}" for key, value in arguments.items())
    with _told(file, f"{name}({given}) fails", "Give what it needs with --arg k=v."):
        made = made(**arguments)
    if not isinstance(made, nn.Module):
        kind = type(made).__name__
        message = f"{name} makes an object of type {kind}; it must make an nn.Module"
        raise _failure(file, "class", message)
    return made


def _run(file: str) -> ModuleType:
    """The file as a Python module, freshly run."""
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    path = Path(file).resolve()
    if not path.is_file():
        raise _failure(file, "file", "is not a file")
    own_name = path.stem if path.stem not in sys.modules else f"{path.stem} of archsearch import"
    with _told(file, "cannot be imported", "Run it with python to see more."):
        loader = SourceFileLoader(own_name, str(path))
        spec = spec_from_loader(own_name, loader)
        assert spec is not None  # noqa: S101 - of a loader that is there
        module = module_from_spec(spec)
        sys.modules[own_name] = module  # dataclasses look their module up
        loader.exec_module(module)
    return module


@contextlib.contextmanager
def _told(file: str, what: str, remedy: str) -> Iterator[None]:
    """Tell whatever the user's code raises as a problem of `file`."""
    from archsearch.convert.from_module.traced import brief, line_in

    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        line = line_in(str(Path(file).resolve()), error)
        at = f" (line {line})" if line else ""
        raise _failure(file, "import", f"{what}{at}: {brief(error)}. {remedy}") from error


def _failure(file: str, rule: str, message: str) -> InputError:
    return InputError(file, [Problem("", rule, message)])


def _offers(source: ModuleType) -> str:
    """Names of the module classes and the functions that a file defines itself."""
    from torch import nn

    names = [
        name
        for name, value in vars(source).items()
        if getattr(value, "__module__", None) == source.__name__
        and (isfunction(value) or (isinstance(value, type) and issubclass(value, nn.Module)))
    ]
    return ", ".join(names) or "no nn.Module and no function"


def _told_blocks(spec: Spec) -> str:
    names = ", ".join(block.name for block in spec.blocks)
    return (
        f"blocks: {names}; each part of the module that has parts is one: "
        "move layers between them as you like, the network stays the same"
    )


def _op_first(data: Any) -> Any:
    """JSON data with each layer's `op` first."""
    if isinstance(data, list):
        return [_op_first(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {key: _op_first(data[key]) for key in sorted(data, key=lambda key: key != "op")}

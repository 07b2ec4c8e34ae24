"""Which commands read which files, and what they may change; hostile arguments and terminals."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final, NamedTuple

from fuzz.base import CPU, DATA, RUN, STUDY
from fuzz.fork import Terminal
from fuzz.hostile import NUMBERS, STRINGS


class Line(NamedTuple):
    """A command line.

    Attributes:
        text: its arguments, separated by spaces; `@` stands for the attacked file.
        writes: what it may change, relative to the working directory.
        data: whether its output is meant for programs, so that lines may be long.
        often: how much more often than others it is drawn.
    """

    text: str
    writes: tuple[str, ...] = ()
    data: bool = False
    often: int = 1

    def args(self, file: str) -> tuple[str, ...]:
        """Return the arguments with the attacked file in its place."""
        return tuple(file if part == "@" else part for part in self.text.split())


_CPU = " ".join(CPU)
_TRAIN = f"train spec.json --recipe recipe.json {_CPU}"
_SEARCH = f"search study.toml --trials 5 --workers 0 {_CPU}"
_NEW = ("runs/new",)

_SPEC: Final = (
    Line("validate @", often=3),
    Line("validate --explain @"),
    Line("validate --format json @", data=True),
    Line("validate --format ndjson @", data=True),
    Line("validate @ spec.json --constraints limits.json"),
    Line("diagnose @"),
    Line("diagnose @ --recipe recipe.json --history log.csv --format json", data=True),
    Line("diagnose @ --fix mended", ("mended",)),
    Line("export @ --to pytorch", data=True),
    Line("export @ --to mermaid", data=True),
    Line("export @ --to svg --out net.svg", ("net.svg",)),
    Line(f"train @ --recipe recipe.json --dataset shapes --out runs/new {_CPU}", _NEW),
    Line(f"search demo --from @ --dry-run {_CPU}"),
)
_STUDY: Final = (
    Line(f"status {STUDY}", often=3),
    Line(f"doctor {STUDY}", (STUDY,), often=4),
    Line(f"leaderboard {STUDY}", often=2),
    Line(f"leaderboard {STUDY} --pareto --sort params"),
    Line(f"leaderboard {STUDY} --format csv", data=True),
    Line(f"leaderboard {STUDY} --format json", data=True),
    Line(f"leaderboard {STUDY} --format markdown", data=True),
    Line(f"leaderboard {STUDY} --where val_acc>1% --columns rank,params,val_acc,spec_hash"),
    Line(f"leaderboard {STUDY} --diff 1 2"),
    Line(f"report {STUDY}", (STUDY,), often=2),
    Line(f"report {STUDY} --out page.html", ("page.html",)),
    Line(_SEARCH, (STUDY,), often=3),
    Line(f"dashboard {STUDY} --port 0"),
)
_TRIAL: Final = (
    Line(f"doctor {STUDY}", (STUDY,), often=3),
    Line(_SEARCH, (STUDY,), often=2),
    Line(f"report {STUDY}", (STUDY,)),
    Line(f"status {STUDY}"),
    Line(f"leaderboard {STUDY} --diff 1 2"),
)
_RUN: Final = (
    Line(f"evaluate {RUN} --format json --device cpu", (f"{RUN}/evaluation",), data=True, often=3),
    Line(f"evaluate {RUN} --split holdout --device cpu --out looked", ("looked",)),
    Line(f"{_TRAIN} --dataset shapes --out {RUN}", (RUN,)),
)
_HALF: Final = (Line(f"{_TRAIN} --dataset shapes --out runs/half", ("runs/half",)),)
_CHECKPOINT: Final = (
    Line(f"export {RUN}/spec.json --to onnx --checkpoint @ --out net.onnx", ("net.onnx",)),
)
_IMAGES: Final = (
    Line(f"doctor --data {DATA}", often=3),
    Line(f"{_TRAIN} --data {DATA} --out runs/new", _NEW),
    Line(f"evaluate runs/cifar --data {DATA} --device cpu --format json",
         ("runs/cifar/evaluation",), data=True, often=2),
)  # fmt: skip

INPUTS: Final[Mapping[str, tuple[Line, ...]]] = {
    "spec.json": _SPEC,
    "specs.ndjson": (
        Line("validate --format ndjson @", data=True, often=3),
        Line("validate --format ndjson --brief @", data=True),
        Line("validate --format ndjson --brief --jobs 2 @", data=True),
    ),
    "recipe.json": (
        Line("diagnose spec.json --recipe @", often=3),
        Line("diagnose spec.json --recipe @ --history log.csv --fix mended", ("mended",)),
        Line(f"train spec.json --recipe @ --dataset shapes --out runs/new {_CPU}", _NEW),
    ),
    "study.toml": (
        Line("space @", often=3),
        Line("space @ --format json", data=True),
        Line(f"search @ --dry-run {_CPU}"),
        Line(f"search @ --trials 2 --name new --workers 0 {_CPU}", ("studies/new",)),
        Line(f"search @ --trials 5 --workers 0 {_CPU}", ("studies",)),
    ),
    "limits.json": (
        Line("validate spec.json --constraints @", often=3),
        Line("diagnose spec.json --constraints @"),
        Line("export spec.json --to svg --constraints @", data=True),
    ),
    "log.csv": (
        Line("diagnose spec.json --history @", often=2),
        Line("diagnose spec.json --recipe recipe.json --history @ --format json", data=True),
    ),
    "model.py": (Line("import @:Net", data=True), Line("validate @:Net")),
}
"""What a user writes."""

STORED: Final[Mapping[str, tuple[Line, ...]]] = {
    f"{STUDY}/study.toml": _STUDY,
    f"{STUDY}/study.db": _STUDY,
    f"{STUDY}/leaderboard.csv": _STUDY,
    f"{STUDY}/rejections.csv": _STUDY,
    f"{STUDY}/storage.txt": _STUDY,
    f"{STUDY}/report.html": (Line(f"report {STUDY}", (STUDY,)),),
    f"{STUDY}/.lock": (_STUDY[0], _STUDY[1], Line(_SEARCH, (STUDY,))),
    **{
        f"{STUDY}/trials/TRIAL/{name}": _TRIAL
        for name in ("spec.json", "recipe.json", "history.csv", "run.json", "checkpoint.pt")
    },
    f"{STUDY}/trials/TRIAL/model.py": _TRIAL,
    f"{STUDY}/trials/TRIAL/final-0/checkpoint.pt": _TRIAL,
    f"{STUDY}/trials/TRIAL/final-0/history.csv": _TRIAL,
    **{f"{RUN}/{name}": _RUN for name in ("spec.json", "recipe.json", "run.json", "result.json")},
    f"{RUN}/history.csv": _RUN,
    f"{RUN}/checkpoint.pt": (*_RUN, *_CHECKPOINT),
    f"{RUN}/evaluation/evaluation.json": _RUN,
    **{f"runs/half/{name}": _HALF for name in ("spec.json", "recipe.json", "run.json", ".lock")},
    "runs/half/checkpoint.pt": _HALF * 2,
    "runs/half/checkpoint.corrupt": _HALF,
    "runs/half/history.csv": _HALF,
}
"""What archsearch writes; TRIAL is a trial's folder."""

FOLDERS: Final[Mapping[str, tuple[Line, ...]]] = {
    f"{STUDY}/trials": _TRIAL,
    f"{STUDY}/trials/TRIAL": _TRIAL,
    f"{STUDY}/trials/TRIAL/final-0": _TRIAL,
    f"{RUN}/evaluation": _RUN,
}
IMAGES: Final = _IMAGES
DATABASE: Final = _STUDY

# Arguments

_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "validate spec.json": ("--format", "--constraints", "--max-params", "--min-rf"),
    "space study.toml": ("--format",),
    "diagnose spec.json": ("--recipe", "--history", "--constraints", "--epochs", "--format"),
    "import model.py:Net": ("--arg", "--input", "--name"),
    "export spec.json --to pytorch": ("--to", "--checkpoint", "--constraints"),
    f"leaderboard {STUDY}": ("--sort", "--where", "--top", "--columns", "--format", "--diff 1"),
    f"report {STUDY} --out page.html": (),
    f"status {STUDY}": ("--storage",),
    f"doctor {STUDY}": ("--storage", "--data"),
    "rules": ("--format",),
    "schema spec": ("--toml",),
    "rule": (),
    f"evaluate {RUN} --device cpu --out looked": ("--data", "--split", "--format", "--device"),
    f"search study.toml --workers 0 --trials 5 {_CPU}": (
        "--name", "--dataset", "--data", "--seed", "--sampler", "--objective",
        "--device", "--precision", "--storage", "--from", "--max-edits", "--cpus-per-trial",
        "--gpus-per-trial",
    ),
    f"train spec.json --recipe recipe.json --dataset shapes --out runs/new {_CPU}": (
        "--recipe", "--dataset", "--data", "--seed", "--device", "--precision",
    ),
    "": ("--version", "--help", "--install-completion nosuch", "--nope"),
}  # fmt: skip
_ARGUMENT_WRITES = {
    "report": ("page.html",),
    "doctor": (STUDY,),
    "evaluate": ("looked",),
    "search": ("studies",),
    "train": ("runs",),
}
_ARGUMENTS: Final = (
    *(text for text in STRINGS if "\0" not in text),
    *(str(number) for number in NUMBERS if number != 10**400),
    "9" * 5_000, "-", "--", "-x", "/", "--nope", "/dev/null", "/dev/zero", "/dev/full",
    "\udcff.json", "spec.json", "study.toml", "log.csv", "specs.ndjson", f"{STUDY}/study.db", RUN,
    STUDY, DATA, f"{RUN}/checkpoint.pt", "model.py", "model.py:", ":Net", "model.py:Nope",
    "model.py:nn.Linear", "params<=", "a=b", "val_acc>85%", "1,2,3", "3,-1,10**9", "nope==1",
    "knob_x=1", "rank,nope",
    "postgresql://u:secret@127.0.0.1:1/x", "postgresql+psycopg://u@127.0.0.1:1/x", "sqlite://",
    "mysql://x", "://", "../outside", "lr=1e999",
)  # fmt: skip


def hostile_line(rng: Random) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Return arguments, what they may change, and whether their output is for programs."""
    text = rng.choice(tuple(_OPTIONS))
    options, args = _OPTIONS[text], text.split()
    for _ in range(rng.choice((1, 1, 2))):
        argument = rng.choice(_ARGUMENTS)
        if options and rng.random() < 0.75:
            args += [*rng.choice(options).split(), argument]
        elif len(args) > 1 and rng.random() < 0.5:
            args[1] = argument
        else:
            args.append(argument)
    first = args[0] if args else ""
    return tuple(args), _ARGUMENT_WRITES.get(first, ()), first in ("schema", "export", "import")


# Terminals

_VARIABLES: Final[tuple[Mapping[str, str], ...]] = (
    {"COLUMNS": "20"}, {"COLUMNS": "0"}, {"COLUMNS": "x"}, {"COLUMNS": "500"},
    {"NO_COLOR": "1"}, {"FORCE_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": "\x1b"},
    {"HOME": "/nonexistent"}, {"TZ": "Nowhere/\x1b"}, {"ARCHSEARCH_DATA": "\x1b[2J"},
    {"ARCHSEARCH_STORAGE": ""}, {"ARCHSEARCH_STORAGE": "no\x1burl"}, {"PYTHONWARNINGS": "error"},
    {"ARCHSEARCH_STORAGE_PATIENCE": "x"}, {"ARCHSEARCH_STORAGE_PATIENCE": "-1"},
    {"XDG_CACHE_HOME": "/dev/null/x"}, {"LC_ALL": "tr_TR.UTF-8"}, {"LINES": "1"},
    {"OMP_NUM_THREADS": "x"},
)  # fmt: skip


def hostile_terminal(rng: Random) -> Terminal:
    """Return a terminal that somebody has: narrow, of another encoding, closed, full."""
    kind = rng.randrange(8)
    if kind <= 2:
        return Terminal(rng.choice(_VARIABLES))
    if kind <= 4:
        encoding = rng.choice(("ascii", "latin-1", "cp1252", "utf-16"))
        return Terminal({"PYTHONIOENCODING": encoding, "LC_ALL": "POSIX"}, encoding=encoding)
    if kind == 5:
        return Terminal(stdin=None, stdout=rng.choice((None, "")), stderr=rng.choice((None, "")))
    if kind == 6:
        return Terminal(stdout="/dev/full", stderr=rng.choice((None, None, "/dev/full")))
    return Terminal(stdin=rng.randbytes(100))

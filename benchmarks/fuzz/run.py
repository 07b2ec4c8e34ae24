"""Attack the whole tool: whatever it is given, it must end with a clear message.

Run: python -m fuzz   (in benchmarks/; 500 attacks, two to three minutes on an idle core)
     python -m fuzz --attacks 5000 --seed 1
     python -m fuzz --seed 0 --only 1234 --folder /tmp/fuzz   (one attack again, its files kept)

Each attack changes one thing in a copy of a small world (a study, training runs, data, a cache,
files of a user) and runs a command that meets it. The exit status must be 0, 1, 2 or 130; there may
be no traceback, no "bug in archsearch", no control character on the terminal and no endless line;
time and memory are bounded; and nothing may change but what the command is there to write.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from fuzz import base, checks, fork
from fuzz.attacks import Attack, draw
from fuzz.base import World
from fuzz.fork import Command, Outcome

_SAYS_IT_SERVES = b"http://"
_TRAIN_S = 5.0
"""A search or training that somebody made long gets Ctrl-C after so many seconds of CPU time."""


@dataclass(frozen=True)
class Failure:
    """An attack that succeeded."""

    number: int
    attack: Attack
    faults: tuple[str, ...]
    said: str


@dataclass(frozen=True)
class Attacked:
    """How one attack went."""

    number: int
    attack: Attack
    outcome: Outcome
    failure: Failure | None


class Fuzzer:
    """Runs attacks in one folder, each by its number."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self.world = World(folder / "attacked")
        self.base = World(folder / "base")

    def prepare(self) -> None:
        """Make the world that is attacked."""
        fork.warm_up()
        base.make_small_data()
        base.make(self.world)
        base.copy(self.world, self.base, with_data=True)
        if (count := fork.threads()) > 1:
            raise RuntimeError(f"a process of {count} threads cannot be forked")

    def attack(self, number: int) -> Attacked:
        """Run one attack."""
        rng = Random(f"{self.seed}/{number}")
        attack = draw(rng, self.base, self.world)
        command = self._command(attack)
        before = checks.state(self.world.root)
        outcome = fork.watch(fork.start(command), command, _interrupt(attack))
        faults = tuple(dict.fromkeys(self._faults(attack, command, outcome, before)))
        failure = Failure(number, attack, faults, _said(command)) if faults else None
        return Attacked(number, attack, outcome, failure)

    def _command(self, attack: Attack) -> Command:
        variables = base.environment(self.world) | dict(attack.terminal.environment)
        terminal = replace(attack.terminal, environment=variables)
        streams = self.world.root.parent
        before = None if attack.plots else base.without_plots
        return Command(
            attack.args, self.world.work, streams / "out", streams / "err", terminal, before
        )

    def _faults(
        self, attack: Attack, command: Command, outcome: Outcome, before: checks.State
    ) -> Iterator[str]:
        yield from checks.ending(outcome)
        yield from checks.printed(command, data=attack.data)
        after = checks.state(self.world.root)
        may = (*(f"{base.WORK}/{path}" for path in attack.writes), "home/.cache")
        yield from checks.escaped(before, after, may)
        yield from checks.written(self.world.root, before, after)
        if attack.same_figures and attack.args[0] == "evaluate" and attack.data:
            yield from checks.figures(command, self.base.root / base.FIGURES)


def _interrupt(attack: Attack) -> bytes | float | None:
    if "dashboard" in attack.args:
        return _SAYS_IT_SERVES
    return _TRAIN_S if attack.args[:1] in (("search",), ("train",)) else None


def _said(command: Command) -> str:
    text = command.err.read_bytes()[-2_000:].decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def summary(done: Sequence[Attacked], seconds: float) -> list[str]:
    """Return a table of what was attacked, and of each kind of fault how often it was found."""
    attacks = Counter(each.attack.kind for each in done)
    failed = Counter(each.attack.kind for each in done if each.failure)
    lines = [f"{'attacked':<22} {'attacks':>8} {'failures':>8}"]
    lines += [f"{kind:<22} {count:>8} {failed[kind]:>8}" for kind, count in attacks.most_common()]
    faults = Counter(fault for each in done if each.failure for fault in each.failure.faults)
    lines += ["", *(f"{count:>6}  {fault}" for fault, count in faults.most_common(40))]
    cpu_s = sum(each.outcome.cpu_s for each in done)
    peak = max((each.outcome.peak for each in done), default=0)
    lines.append(
        f"{len(done)} attacks, {sum(failed.values())} failures; {seconds:.0f} s, of which "
        f"{cpu_s:.0f} s of CPU in commands; at most {peak / 2**20:.0f} MiB each"
    )
    return lines


def _described(failure: Failure, seed: int) -> str:
    attack = failure.attack
    lines = [
        f"--- {failure.number}: {'; '.join(failure.faults)}",
        f"    {attack.kind}: {attack.what[:400]!a}",
        f"    archsearch {ascii(shlex.join(attack.args))[1:-1][:300]}",
    ]
    if attack.terminal.environment or attack.terminal.stdout is not None:
        lines.append(f"    {ascii(attack.terminal)[:300]}")
    lines += [f"    | {line[:200]}" for line in failure.said.strip().splitlines()[-4:]]
    return "\n".join([*lines, f"    python -m fuzz --seed {seed} --only {failure.number}"])


def main() -> int:
    """Attack; 1 if any attack succeeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--attacks", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first attack")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of a single attack")
    parser.add_argument("--folder", type=Path, help="a new one, to keep; a temporary one else")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    fuzzer = Fuzzer(folder.resolve(), given.seed)
    numbers = range(given.first, given.first + given.attacks)
    numbers = numbers if given.only is None else range(given.only, given.only + 1)
    fuzzer.prepare()
    began, done = time.monotonic(), []
    for number in numbers:
        done.append(fuzzer.attack(number))
        if failure := done[-1].failure:
            print(_described(failure, given.seed), flush=True)
        elif given.only is not None:
            print(done[-1])
    print("\n".join(summary(done, time.monotonic() - began)))
    if given.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if any(each.failure for each in done) else 0

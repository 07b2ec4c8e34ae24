"""`archsearch doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from archsearch.cli.options import DataOption, StorageOption
from archsearch.common.console import say


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A study folder; this machine else.")
    ] = None,
    data: DataOption = None,
    storage: StorageOption = None,
) -> None:
    """Check and repair a study folder, or check this machine.

    Exit status: 0 all is well (now), 1 something is left to do, 2 it cannot be checked.
    """
    if folder is None:
        raise typer.Exit(_machine(data))
    from archsearch.monitor.doctor import examine
    from archsearch.search.storage.url import database_url
    from archsearch.study.folder import StudyFolder

    findings = examine(StudyFolder(folder), database_url(storage))
    for finding in findings:
        told = {True: "mended", False: "broken", None: "note"}[finding.mended]
        say(f"{told}  {finding.place}: {finding.message}")
    mended = sum(finding.mended is True for finding in findings)
    left = sum(finding.mended is False for finding in findings)
    told = f"{mended} mended, {left} left to do" if mended or left else "all is well"
    say(f"{folder}: {told}")
    raise typer.Exit(1 if left else 0)


def _machine(data: Path | None) -> int:
    import platform
    import shutil

    import optuna
    import torch

    from archsearch.common.machine import cores, physical_memory
    from archsearch.common.version import __version__
    from archsearch.errors import ArchsearchError
    from archsearch.executors.processes.pool import default_workers
    from archsearch.training.device import choose, unusable_gpu
    from archsearch.training.images import load

    device = choose()
    memory = physical_memory()
    size = "unknown" if memory is None else f"{memory / 2**30:.1f} GiB"
    free = shutil.disk_usage(Path.cwd()).free
    lines = {
        "archsearch": __version__,
        "python": f"{platform.python_version()} on {platform.platform()}",
        "torch": f"{torch.__version__}, optuna {optuna.__version__}",
        "device": f"{device.name}, {device.precision}",
        "cores": f"{cores()}; a search starts {default_workers()} workers unless told",
        "memory": f"{size}; {free / 2**30:.1f} GiB free on this disk",
    }
    if why := unusable_gpu():
        lines["gpu"] = f"cannot be used: {why}"
    status = 0
    try:
        found = load("cifar10", data)
        lines["cifar10"] = f"{len(found.train):,} training and {len(found.test):,} test images"
    except ArchsearchError as error:
        lines["cifar10"], status = str(error), 1
    for name, told in lines.items():
        say(f"{name:<11} {told}")
    return status

"""`archsearch dashboard`."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from archsearch.cli import EXIT_INTERRUPTED
from archsearch.cli.options import FolderArgument, StorageOption
from archsearch.common.console import tell

_LOOK_EVERY_S = 0.2


def dashboard(
    folder: FolderArgument,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8080,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Listen there instead of 127.0.0.1: others can look."),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Show a study in optuna-dashboard, read-only.

    Works while the study is searched.
    Exit status: 130 when Ctrl-C ends it, 2 where there is nothing to show.
    """
    from importlib.util import find_spec

    from archsearch.common import interruption
    from archsearch.errors import ArchsearchError, StudyError
    from archsearch.monitor.status import study_in
    from archsearch.search.storage.open import check_storage
    from archsearch.search.storage.url import database_url
    from archsearch.study.folder import StudyFolder

    if not find_spec("optuna_dashboard"):
        raise ArchsearchError(
            "the dashboard needs optuna-dashboard: pip install 'archsearch[dashboard]'"
        )
    study = StudyFolder(folder)
    config = study_in(study)
    url = database_url(storage)
    check_storage(study, url)
    if url is None and not study.database.is_file():
        raise StudyError(
            f"{folder}: has no study.db: give --storage if the search had one, or see what it "
            f"found with archsearch leaderboard {folder}"
        )
    from archsearch.monitor.dashboard import LOOPBACK, open_dashboard

    with suppress(KeyboardInterrupt), interruption.saving(str):
        server, address = open_dashboard(study, config.name, url, host or LOOPBACK, port)
        if host and host != LOOPBACK:
            tell(f"warning: whoever reaches {host} can look at this study")
        tell(f"{address}  (read-only; Ctrl-C ends it)")
        server.timeout = _LOOK_EVERY_S
        with server:
            while True:
                server.handle_request()
                interruption.check()
    raise typer.Exit(EXIT_INTERRUPTED)

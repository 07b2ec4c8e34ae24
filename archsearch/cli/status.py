"""`archsearch status`."""

from __future__ import annotations

from archsearch.cli.options import FolderArgument, StorageOption


def status(folder: FolderArgument, storage: StorageOption = None) -> None:
    """Show how far a search is, from another terminal.

    Changes nothing.
    Exit status: 0, or 2 where this is no study folder.
    """
    from archsearch.common.console import show
    from archsearch.common.page import Line
    from archsearch.monitor.status import status as read
    from archsearch.search.improvement import gain_page
    from archsearch.search.storage.url import database_url
    from archsearch.study.folder import StudyFolder

    found = read(StudyFolder(folder), database_url(storage))
    told = f"{found.holder} is at work" if found.holder else "nobody is at work"
    head = Line(f"study {found.config.name} in {folder}: {told}")
    stopped = [Line("stopped; run the same `archsearch search` command to resume")]
    gain = gain_page(found.gain) if found.gain else []
    show([head, *found.state.page(), *(stopped if found.state.stopped else []), *gain])

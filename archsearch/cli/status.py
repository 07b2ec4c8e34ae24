"""`archsearch status`."""

from __future__ import annotations

from archsearch.cli.options import FolderArgument, StorageOption


def status(folder: FolderArgument, storage: StorageOption = None) -> None:
    """Look in on a search from another terminal: nothing is changed.

    Exit status: 0, or 2 where this is no study folder.
    """
    from rich.console import Console
    from rich.text import Text

    from archsearch.common.console import show
    from archsearch.monitor.status import status as read
    from archsearch.search.improvement import gain_page
    from archsearch.search.storage.url import database_url
    from archsearch.study.folder import StudyFolder

    found = read(StudyFolder(folder), database_url(storage))
    console = Console(highlight=False)
    told = f"{found.holder} is at work" if found.holder else "nobody is at work"
    console.print(Text(f"study {found.config.name} in {folder}: {told}"), soft_wrap=True)
    console.print(found.state.draw(), soft_wrap=True)
    if found.gain:
        show(gain_page(found.gain))

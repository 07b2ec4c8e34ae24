"""`archsearch`, and `python -m archsearch`."""

from archsearch.common import interruption


def main() -> None:
    """Handle signals, then load and run the command line."""
    interruption.listen()
    from archsearch.cli import main as run  # noqa: PLC0415 (Ctrl-C may come while it loads)

    run()


if __name__ == "__main__":  # worker processes import this module too
    main()

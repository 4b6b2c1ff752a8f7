"""The command ``certify``, and ``python -m certify``: its imports take seconds, in which Ctrl-C is no traceback."""

from maxup_smoothing.data.runtime import console


def main() -> None:
    """Entry point of the console script."""
    console.run(_command)


def _command() -> None:
    from maxup_smoothing.certify.commands import app

    app.obey()


if __name__ == "__main__":
    main()

"""The command ``maxup``: training, test accuracy and analysis.

maxup train CONFIG …        as `python -m train` in a checkout
maxup evaluate RUN          test accuracy of a classifier
maxup analysis COMMAND …    curves, tables, comparisons and reports
"""

import importlib
import sys

from maxup_smoothing.data.runtime import console

_COMMANDS = {"train": "train.__main__", "evaluate": "train.evaluate", "analysis": "analysis.__main__"}


def main() -> None:
    """Entry point of the console script."""
    console.run(_command)


def _command() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(__doc__.strip())
        return
    if name not in _COMMANDS:
        raise ValueError(f"unknown command {name!r}; there are {', '.join(_COMMANDS)}, and `certify` for certificates.")
    module = importlib.import_module(f"maxup_smoothing.{_COMMANDS[name]}")
    module.app(args=sys.argv[2:], prog_name=f"maxup {name}")


if __name__ == "__main__":
    main()

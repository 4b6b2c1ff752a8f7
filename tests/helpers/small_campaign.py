"""A campaign of small commands in place of the real ones."""

import argparse
from pathlib import Path

from benchmarks.campaign_record import Record
from benchmarks.campaign_runner import Budget, Outcome, Runner
from benchmarks.campaign_steps import Campaign, Report, Step

#: Adds a line to a file every 20 ms until there are so many; leaves after the one in hand on SIGTERM.
PIECES = """
import signal, sys, time
from pathlib import Path
path, total = Path(sys.argv[1]), int(sys.argv[2])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
if not path.exists():
    path.write_text("piece\\n")
while path.read_text().count("\\n") <= total:
    time.sleep(0.02)
    with path.open("a") as file:
        file.write("x\\n")
    if stop:
        print("left in good order")
        sys.exit(143)
print("all pieces")
"""


def say(name: str, *, after: tuple[str, ...] = (), estimate: float = 0.0) -> Step:
    code = f"open('{{out}}/order', 'a').write('{name}\\n'); print('said {name}')"
    return Step(name=name, command=("-c", code), estimate=estimate, after=after)


def fail(name: str) -> Step:
    return Step(name=name, command=("-c", "print('first'); raise SystemExit('no such thing')"), estimate=0)


def pieces(name: str, total: int) -> Step:
    path = f"{{out}}/{name}.txt"
    return Step(name=name, command=("-c", PIECES, path, str(total)), estimate=1, grows=path)


def sleep(name: str, seconds: float, estimate: float) -> Step:
    return Step(name=name, command=("-c", f"import time; time.sleep({seconds})"), estimate=estimate)


def budget(seconds: float) -> Budget:
    return Budget(seconds=seconds, stopping=1.0, reports=0.5, least=0.1)


def run(
    folder: Path, *steps: Step, seconds: float = 30, reports: tuple[Report, ...] = (), limits: Budget | None = None
) -> Outcome:
    """One call."""
    listed = Campaign(steps=steps, reports=reports)
    record = Record(folder)
    record.require(listed)
    conditions = {"device": "a device", "torch": "2.0"}
    return Runner(listed, folder, record, limits or budget(seconds), conditions, {"SAID": "yes"}).run()


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()


def options(folder: Path, **given: object) -> argparse.Namespace:
    usual = {"out": folder, "minutes": 2.0, "list": False, "only": None, "retry": False, "data_root": None}
    return argparse.Namespace(**{**usual, "quick": True, **given})

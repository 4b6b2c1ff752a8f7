"""Everything that one GPU can tell about this project, in calls of a few minutes each.

    python -m benchmarks.campaign --out runs/campaign            nine minutes of it; the same again goes on
    python -m benchmarks.campaign --out runs/campaign --list     what there is to do, and what is done
    python -m benchmarks.campaign --out runs/look --quick        the same on a CPU, small; its numbers say nothing

GPU tests, benchmarks, then networks that are trained, certified and compared, the most valuable first. The folder holds
campaign.json (what was done, where and when), logs/, benchmarks/ (JSON), runs/ (run folders) and results/ (reports).
The exit status is 75 while there is more to do, 0 when all is done, and 1 when all is done that can be.
"""

import argparse
import fnmatch
import math
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from benchmarks import campaign_steps
from benchmarks.campaign_record import FAILED, Record, held
from benchmarks.campaign_runner import Budget, Outcome, Runner
from benchmarks.campaign_steps import Campaign
from maxup_smoothing.data.runtime import console


def main() -> None:
    """Parse the arguments, go on with the campaign, and leave with a status that says whether there is more."""
    options = _arguments()
    campaign = campaign_steps.quick() if options.quick else campaign_steps.full()
    sys.exit(go_on(campaign, options))


def go_on(campaign: Campaign, options: argparse.Namespace) -> int:
    """Do what of a campaign the options ask for; the exit status.

    Raises:
        ValueError: If the options or what is in the folder do not fit.
        OSError: If something cannot be read or written.
    """
    folder = options.out.absolute()
    if options.list:
        record = Record(folder)
        record.require(campaign)
        print(overview(chosen(campaign, options.only), record))
        return 0
    budget = Budget(seconds=60 * options.minutes)
    if not budget.least <= budget.longest < math.inf:
        smallest = (budget.stopping + budget.reports + budget.least) / 60
        raise ValueError(f"--minutes must be at least {smallest:.1f}, got {options.minutes:g}.")
    with held(folder):
        record = Record(folder)
        record.require(campaign)
        campaign = chosen(campaign, options.only)
        if options.retry:
            record.forget([name for name in _names(campaign) if record.status(name) == FAILED])
        environment = {"DATA_ROOT": str(options.data_root.absolute())} if options.data_root else {}
        conditions = _conditions(options.quick)
        return _told(Runner(campaign, folder, record, budget, conditions, environment).run())


def chosen(campaign: Campaign, patterns: Sequence[str] | None) -> Campaign:
    """The steps of these names or shell patterns, those that they need, and the reports on any of them.

    Raises:
        ValueError: If a pattern fits no step.
    """
    if not patterns:
        return campaign
    names = [step.name for step in campaign.steps]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"--only {pattern} is none of the steps; --list shows them.")
    wanted = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    for step in reversed(campaign.steps):  # what a step needs stands before it
        if step.name in wanted:
            wanted.update(step.after)
    return Campaign(
        steps=tuple(step for step in campaign.steps if step.name in wanted),
        reports=tuple(report for report in campaign.reports if wanted.intersection(report.of)),
    )


def overview(campaign: Campaign, record: Record) -> str:
    """A line for each step: its status, what it took, and what it is thought to take."""
    lines = [f"{'step':48}{'status':>9}{'took':>9}{'estimate':>10}  device"]
    left = 0.0
    for step in campaign.steps:
        entry = record.entries.get(step.name)
        status, took, device = ("", "", "") if entry is None else (entry.status, f"{entry.seconds:.0f} s", entry.device)
        lines.append(f"{step.name:48}{status:>9}{took:>9}{step.estimate:>8.0f} s  {device}".rstrip())
        left += 0.0 if status in ("done", "failed") else step.estimate
    done = sum(record.status(step.name) == "done" for step in campaign.steps)
    return "\n".join([*lines, f"{done} of {len(campaign.steps)} steps done; about {left / 3600:.1f} hours to do"])


def _names(campaign: Campaign) -> list[str]:
    return [*(step.name for step in campaign.steps), *(report.name for report in campaign.reports)]


def _told(outcome: Outcome) -> int:
    for line in outcome.failures:
        print(f"error: {console.one_line(line)}", file=sys.stderr)
    if outcome.waiting:
        print(f"{len(outcome.waiting)} more to do, {outcome.waiting[0]} first; the same command goes on")
        return console.TRY_AGAIN
    return 1 if outcome.failures else 0


def _conditions(quick: bool) -> dict[str, str]:
    from benchmarks import report  # brings torch, whose import takes seconds that --list can do without

    found = report.conditions()
    if found["gpu"] is None and not quick:
        print("warning: torch sees no GPU, for which this list is meant; on a CPU pass --quick", file=sys.stderr)
    return {"device": found["gpu"] or found["cpu"], "torch": metadata.version("torch")}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where everything goes")
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call, in all (9)")
    parser.add_argument("--quick", action="store_true", help="a small campaign, also for a CPU")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these steps, or patterns such as '*resnet20*'")
    parser.add_argument("--list", action="store_true", help="show the steps, and run none")
    parser.add_argument("--retry", action="store_true", help="try again what has failed")
    root = os.environ.get("DATA_ROOT")
    parser.add_argument(
        "--data-root", type=Path, default=Path(root) if root else None, help="where data sets lie (DATA_ROOT)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    console.run(main)

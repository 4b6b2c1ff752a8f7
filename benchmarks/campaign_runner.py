"""Runs what of a campaign is left to do and fits into the time, and records it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from benchmarks.campaign_process import STOPPING, Ended, run_until
from benchmarks.campaign_record import CUT, DONE, FAILED, Entry, Record, shown
from benchmarks.campaign_steps import Campaign, Command, Report, Step
from maxup_smoothing.data.runtime.atomic import make_folder


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The time of one call.

    Attributes:
        seconds: In all.
        stopping: That a command has between SIGTERM and SIGKILL.
        reports: Kept for the reports at the end.
        least: Fewer than these are not worth loading a network for.
        start: By ``time.monotonic``.
    """

    seconds: float
    stopping: float = STOPPING
    reports: float = 30.0
    least: float = 30.0
    start: float = field(default_factory=time.monotonic)

    @property
    def longest(self) -> float:
        """Seconds that a step has which is begun at once."""
        return self.seconds - self.stopping - self.reports

    @property
    def steps_until(self) -> float:
        """When a step is stopped."""
        return self.start + self.longest

    @property
    def reports_until(self) -> float:
        """When a report is stopped."""
        return self.start + self.seconds - min(self.stopping, self.reports / 2)

    @property
    def left(self) -> float:
        """Seconds that a step would have now."""
        return self.steps_until - time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a call leaves: steps to be done by the next ones, and a line for each that will not be done."""

    waiting: Sequence[str]
    failures: Sequence[str]


class Runner:
    """A campaign in a folder.

    Args:
        campaign: What there is to do.
        folder: For results; absolute.
        record: What has been done there.
        budget: The time that there is.
        conditions: ``device`` and ``torch``, for the record.
        environment: Added to that of the commands.
    """

    def __init__(
        self,
        campaign: Campaign,
        folder: Path,
        record: Record,
        budget: Budget,
        conditions: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        self.campaign, self.folder, self.record, self.budget = campaign, folder, record, budget
        self._conditions, self._environment = conditions, environment
        for name in ("logs", "benchmarks", "results"):
            make_folder(folder / name)

    def run(self) -> Outcome:
        """Everything that fits, in order, and then the reports on what is finished."""
        for number, step in enumerate(self.campaign.steps, 1):
            if self._is_ready(step) and self._fits(step):
                left = _time(self.budget.left)
                print(f"[{number}/{len(self.campaign.steps)}] {step.name}: {left} left", flush=True)
                self._step(step)
        for report in self.campaign.reports:
            if (finished := self._due(report)) and time.monotonic() < self.budget.reports_until:
                self._report(report, finished)
        return self._outcome()

    def _is_ready(self, step: Step) -> bool:
        undone = self.record.status(step.name) not in (DONE, FAILED)
        return undone and all(self.record.status(name) == DONE for name in step.after)

    def _needs(self, step: Step) -> float:
        """Seconds without which a step is not begun."""
        if step.grows is not None:
            return self.budget.least
        entry = self.record.entries.get(step.name)
        # An attempt that was cut had too little time, whatever the estimate.
        return step.estimate if entry is None else max(step.estimate, 1.2 * entry.seconds)

    def _fits(self, step: Step) -> bool:
        return self._needs(step) <= self.budget.left

    def _step(self, step: Step) -> None:
        before = self._pieces(step)
        ended = self._run(step.name, step.command, self.budget.steps_until)
        old = self.record.entries.get(step.name)
        spent = 0.0 if old is None else old.seconds
        seconds = spent + ended.seconds if step.grows is not None else max(spent, ended.seconds)
        if ended.status is not None:
            self._put(step.name, step.command, ended, DONE if ended.status == 0 else FAILED, seconds)
            return
        # All that a call has, and no piece more: the next call would do the same.
        stuck = ended.seconds > 0.8 * self.budget.longest and (step.grows is None or self._pieces(step) == before)
        if stuck:
            lines = (*ended.lines, f"nothing was finished in {_time(ended.seconds)}; pass more --minutes, and --retry")
            ended = Ended(status=None, seconds=ended.seconds, lines=lines)
        self._put(step.name, step.command, ended, FAILED if stuck else CUT, seconds)

    def _report(self, report: Report, finished: tuple[str, ...]) -> None:
        command = report.command(finished)
        print(f"{report.name}, of {len(finished)} finished", flush=True)
        ended = self._run(report.name, command, self.budget.reports_until)
        status = CUT if ended.status is None else DONE if ended.status == 0 else FAILED
        self._put(report.name, command, ended, status, ended.seconds, finished)

    def _run(self, name: str, command: Command, until: float) -> Ended:
        log = log_of(self.folder, name)
        return run_until(command, self.folder, log, until, self._environment, self.budget.stopping)

    def _put(
        self, name: str, command: Command, ended: Ended, status: str, seconds: float, of: tuple[str, ...] = ()
    ) -> None:
        entry = Entry(
            command=shown(command),
            status=status,
            seconds=round(seconds, 2),
            device=self._conditions["device"],
            torch=self._conditions["torch"],
            when=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            said="\n".join(ended.lines[-5 if status == FAILED else -1 :]),
            of=of,
        )
        self.record.put(name, entry)
        last = ended.lines[-1] if ended.lines else ""
        print(f"    {status} after {_time(ended.seconds)}: {last}", flush=True)

    def _pieces(self, step: Step) -> int:
        """Finished pieces; the first line of the file is its header."""
        if step.grows is None:
            return 1
        path = Path(step.grows.replace("{out}", str(self.folder)))
        return max(1, path.read_bytes().count(b"\n")) if path.is_file() else 1

    def _due(self, report: Report) -> tuple[str, ...]:
        """What a report would be about, if that is not what it was last about."""
        finished = tuple(name for name in report.of if self.record.status(name) == DONE)
        if not finished or (report.whole and finished != report.of):
            return ()
        entry = self.record.entries.get(report.name)
        return () if entry is not None and entry.status != CUT and entry.of == finished else finished

    def _outcome(self) -> Outcome:
        waiting, failures = [], list[str]()
        lost: set[str] = set()
        for step in self.campaign.steps:
            status, needs = self.record.status(step.name), self._needs(step)
            if status == DONE:
                continue
            if status == FAILED:
                failures.append(self._failure(step.name))
            elif without := [name for name in step.after if name in lost]:
                failures.append(f"{step.name} was not run, for want of {', '.join(without)}")
            elif needs > self.budget.longest:
                minutes = int((needs + self.budget.seconds - self.budget.longest) / 60) + 1
                failures.append(f"{step.name} needs about {_time(needs)} in one go; pass --minutes {minutes}")
            else:
                waiting.append(step.name)
                continue
            lost.add(step.name)
        waiting += [report.name for report in self.campaign.reports if self._due(report)]
        failures += [self._failure(report.name) for report in self.campaign.reports if self._failed(report)]
        return Outcome(waiting=waiting, failures=failures)

    def _failed(self, report: Report) -> bool:
        return self.record.status(report.name) == FAILED and not self._due(report)

    def _failure(self, name: str) -> str:
        said = self.record.entries[name].said.splitlines()
        return f"{name} failed: {said[-1] if said else 'it said nothing'}; see {log_of(self.folder, name)}"


def log_of(folder: Path, name: str) -> Path:
    """The log of a step or report."""
    return folder / "logs" / f"{name.replace('/', '.')}.log"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))

"""The commands that check: ``certify selftest`` this build, ``certify verify`` a table."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maxup_smoothing.certify.commands import options
from maxup_smoothing.data.runtime import console

if TYPE_CHECKING:  # both bring torch
    from maxup_smoothing.certify.audit.redraw import Report
    from maxup_smoothing.certify.audit.selftest import Outcome

_SHOWN = 10  # rows and fields that are printed


def selftest(
    quick: Annotated[bool, typer.Option("--quick", help="Run a quarter of the trials, which takes seconds.")] = False,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the noise.", show_default="drawn from the operating system")
    ] = None,
) -> None:
    """Count this installation's false certificates where the true radius is known exactly.

    It makes thousands of small certificates by every procedure and bound, for classifiers whose probabilities under the
    noise are known fractions. It fails, with status 1, if false certificates are significantly more frequent than
    alpha, if votes do not fit the probabilities, or if the noise is not the documented one. It also fails if it does
    not find an error that was made on purpose.
    """
    from maxup_smoothing.certify.audit import selftest as checks
    from maxup_smoothing.certify.noise.exact import ExactNoise
    from maxup_smoothing.certify.noise.philox import known_answers

    seed = secrets.randbits(64) if seed is None else seed
    noise = ExactNoise(checks.SIGMA, seed)
    print(f"certify selftest, seed {seed}: alpha {checks.ALPHA:g}, sigma {checks.SIGMA:g}", flush=True)
    answers = known_answers()
    equal = checks.equal_versions()
    versions = ", ".join(f"{device} {'equal' if same else 'NOT EQUAL'}" for device, same in equal.items())
    print(f"Philox4x32-10: {answers} of 3 known answers; noise, to the bit, as defined: {versions}")
    todo = checks.plans(quick)
    with console.Meter("testing", "procedures", len(todo), None, "samples") as meter:
        outcomes = checks.try_out(todo, noise, meter.advance)
    print(_outcomes(outcomes))
    if answers == 3 and all(equal.values()) and all(outcome.passed for outcome in outcomes):
        print(
            "PASS: no procedure made significantly more false certificates than it promises, and an error made\n"
            "on purpose, the whole of alpha at each of 9 looks (peeking), was caught. An error smaller than an\n"
            "interval is wide would have gone unnoticed."
        )
        return
    print(
        "FAIL: certificates made by this build on this machine cannot be trusted. A correct build fails with\n"
        "probability below 1e-5; run it again with this seed for a report."
    )
    raise typer.Exit(1)


def verify(
    file: options.WithManifest,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="As for `certify run`.", show_default="the manifest's")
    ] = None,
    rows: Annotated[str, typer.Option(metavar="K|all", help="Number of rows to redraw, chosen at random.")] = "5",
    seed: Annotated[
        int | None, typer.Option(help="Seed of the choice of rows.", show_default="drawn from the operating system")
    ] = None,
    data: options.RecordedData = None,
    device: options.RecordedDevice = None,
    arch: options.RecordedArch = None,
    normalize: options.RecordedNormalize = None,
    weights: options.RecordedWeights = None,
    data_root: options.DataRoot = None,
) -> None:
    """Redraw rows of a table from its recorded seed, and compare them with the table.

    EXACT means that every vote, look, bound and radius is the same. CONSISTENT means that on another platform at most 1
    vote in 1000 of a row differs, and that the new votes prove nine tenths of its radius. DIFFERENT, with status 1, is
    anything else. Nothing is written.
    """
    from maxup_smoothing.certify.audit.redraw import DIFFERENT, verify_table
    from maxup_smoothing.certify.runs.reopen import Overrides

    if rows != "all" and not (rows.isdecimal() and int(rows) > 0):
        raise ValueError(f"--rows must be all or a positive integer, got {rows!r}.")
    seed = secrets.randbits(32) if seed is None else seed
    with console.Meter("redrawing", "rows", 0, None, "samples") as meter:
        report = verify_table(
            file,
            Overrides(
                model=model,
                data=data,
                data_root=data_root,
                device=device,
                arch=arch,
                normalize=normalize,
                weights=weights,
            ),
            rows=None if rows == "all" else int(rows),
            seed=seed,
            expect=meter.expect,
            advance=meter.advance,
        )
    print(_report(report, file, seed))
    if report.verdict == DIFFERENT:
        raise typer.Exit(1)


def _outcomes(outcomes: "list[Outcome]") -> str:
    from scipy import stats

    lines = [
        f"{'procedure':<11}{'bound':<17}{'classifier':<13}{'trials':>6}{'false':>7}{'rate':>8}  {'95 % interval':<16}"
        f"{'votes p':>8}  verdict"
    ]
    for outcome in outcomes:
        plan = outcome.plan
        interval = stats.binomtest(outcome.false, plan.trials).proportion_ci(method="exact")
        shown = f"[{interval.low:.4f}, {interval.high:.4f}]"
        votes = "-" if outcome.votes_p_value is None else f"{outcome.votes_p_value:.2g}"
        lines.append(
            f"{plan.name:<11}{plan.bound:<17}{plan.truth.name:<13}{plan.trials:>6}{outcome.false:>7}"
            f"{outcome.false / plan.trials:>8.4f}  {shown:<16}{votes:>8}  {outcome.verdict}"
        )
    return "\n".join(lines)


def _report(report: "Report", file: Path, seed: int) -> str:
    lines = [f"warning: another platform: {text}" for text in report.warnings]
    lines += [f"not what was certified: {text}" for text in report.errors]
    for found in report.differences[:_SHOWN]:
        lines.append(f"idx {found.idx}: {found.votes} votes differ")
        lines += [f"    {text}" for text in found.fields[:_SHOWN]]
    if len(report.differences) > _SHOWN:
        lines.append(f"… and {len(report.differences) - _SHOWN} more rows")
    if not report.errors:
        equal = len(report.redrawn) - len(report.differences)
        lines.append(
            f"{file}: {equal} of {len(report.redrawn)} redrawn rows are equal, of {report.rows} in the table "
            f"(chosen with seed {seed})"
        )
        lines.append(f"redrawn: idx {', '.join(map(str, report.redrawn[:40]))}{' …' * (len(report.redrawn) > 40)}")
    meaning = {
        "EXACT": "every vote, look, bound and radius of these rows came out again.",
        "CONSISTENT": "the few votes that differ are what rounding on another platform explains.",
        "DIFFERENT": "these are not the certificates of this model, data and seed.",
    }
    return "\n".join([*lines, f"{report.verdict}: {meaning[report.verdict]}"])

"""Settings: what no vote of so many samples can certify."""

from collections.abc import Iterator, Sequence

from maxup_smoothing.certify.preflight.finding import FACT, WARNING, Finding
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.certify.statistics.sample_size import unanimous_n

_LARGE_ALPHA = 0.01


def settings_findings(sampling: Sampling, radii: Sequence[float] | None) -> Iterator[Finding]:
    """The largest radius in reach against those asked for, and an alpha that is unusually large."""
    ceiling = floor_text(sampling.ceiling, 4)
    reach = f"n = {sampling.most}, alpha {sampling.alpha:g} and sigma {sampling.sigma:g} certify radii up to {ceiling}"
    above = sorted({radius for radius in radii or () if radius > sampling.ceiling})
    if above:
        needed = unanimous_n(above[-1], sampling)
        yield Finding(
            level=WARNING,
            check="radii",
            seen=f"{reach}, less than {', '.join(f'{radius:g}' for radius in above)}",
            meaning="there the certified accuracy is 0 whatever f is: that is no finding about f",
            fix=f"pass --n {needed} or more" if needed else "no n up to 1e9 reaches that: leave it out",
        )
    else:
        yield Finding(level=FACT, check="radii", seen=reach)
    if sampling.alpha > _LARGE_ALPHA:
        yield Finding(
            level=WARNING,
            check="alpha",
            seen=f"alpha is {sampling.alpha:g}",
            meaning=f"{sampling.alpha * 100:.3g} of 100 certificates may be false; tables are made at 0.001",
            fix="pass --alpha 0.001, unless that is what you want",
        )

"""What is found out about one network."""

from dataclasses import dataclass

from maxup_smoothing.analysis.theory.verdict import Verdict, Word


@dataclass(frozen=True, kw_only=True)
class Study:
    """The law tried on one network.

    Attributes:
        name: Of the network.
        images: Where the images are from, in words.
        count: How many.
        groups: Of m copies, at each image.
        sigma: Of training; None if unknown.
        nudge: Noise by which the images were moved beforehand.
        kinks: Operations whose gradient jumps.
        smooth: By which standard it was judged.
        corners: Images in which the loss has no gradient.
        reach: The sigma at which sigma |H|_F is a tenth of |g|, over all images: the law is not to be asked for more.
        word: PASS, FAIL or NO VERDICT, of all m together.
        verdicts: One for each m.
    """

    name: str
    images: str
    count: int
    groups: int
    sigma: float | None
    nudge: float
    kinks: tuple[str, ...]
    smooth: bool
    corners: int
    reach: float
    word: Word
    verdicts: tuple[Verdict, ...]

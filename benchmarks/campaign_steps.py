"""What a campaign does, as data: benchmarks and tests, runs to train and certify, and the reports on them.

A command is what follows `python`; ``{out}`` in it stands for the campaign's folder. The most valuable comes first, and
a comparison (one network, one sigma, all methods, trained and certified) is whole before the next one begins.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Command = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command that is run once.

    Attributes:
        name: Unique in its list.
        command: What follows `python`.
        estimate: Seconds that the whole is thought to take.
        grows: The file that has a line more for each finished piece, if the command may be stopped by SIGTERM and goes
            on when it is called again. None for a command that can only be begun again.
        after: Steps without which it cannot begin.
    """

    name: str
    command: Command
    estimate: float
    grows: str | None = None
    after: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    """A command that is run again whenever more of what it is about is finished.

    Attributes:
        name: Unique in its list, steps included.
        of: Names of steps.
        command: From the names of those that are finished to what follows `python`.
        whole: Only when all are finished.
    """

    name: str
    of: tuple[str, ...]
    command: Callable[[Sequence[str]], Command]
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """All that there is to do, in order."""

    steps: tuple[Step, ...]
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods at one setting: each is trained and certified, and a report holds them against the first three.

    Attributes:
        name: Of the folder.
        methods: Configuration and changes of each.
        certify: Arguments of `certify run`.
        seconds: Thought for training with the first method, and for a certification.
    """

    name: str
    methods: Mapping[str, Command]
    certify: Command
    seconds: tuple[float, float]

    def folder(self, method: str) -> str:
        """The run folder of a method."""
        return f"{{out}}/runs/{self.name}/{method}"

    def certified(self, method: str) -> str:
        """The name of the step that certifies a method."""
        return f"certify/{self.name}/{method}"

    def steps(self) -> list[Step]:
        """Training and certification of each method."""
        found = []
        for method, (config, *changes) in self.methods.items():
            folder, name = self.folder(method), f"{self.name}/{method}"
            sets = [part for change in changes for part in ("--set", change)]
            found += [
                Step(
                    name=f"train/{name}",
                    command=("-m", "maxup_smoothing.train", config, *sets, "--out", folder, "--resume"),
                    estimate=self.seconds[0] * _PASSES.get(method, 1),
                    grows=f"{folder}/train.csv",
                ),
                Step(
                    name=self.certified(method),
                    command=("-m", "maxup_smoothing.certify", "run", folder, *self.certify),
                    estimate=self.seconds[1],
                    grows=f"{folder}/radii.tsv",
                    after=(f"train/{name}",),
                ),
            ]
        return found

    def report(self) -> Report:
        """What the finished ones say."""
        method_of = {self.certified(method): method for method in self.methods}

        def command(finished: Sequence[str]) -> Command:
            methods = [method_of[name] for name in finished]
            controls = [part for method in methods if method in _CONTROLS for part in ("--control", method)]
            folders = [self.folder(method) for method in methods]
            return (
                "-m",
                "maxup_smoothing.analysis",
                "results",
                *folders,
                *controls,
                "--out",
                f"{{out}}/results/{self.name}.md",
            )

        return Report(name=f"results/{self.name}", of=tuple(method_of), command=command)


_CONTROLS = ("gaussian", "mean-of-4", "maxup-4")
#: Time of a training step in that of one with Gaussian noise; see the section on MaxUp in README.md.
_PASSES = {"mean-of-4": 4.0, "maxup-4": 2.4, "graded-8": 5.0}
_CERTIFY = ("--protocol", "skip20", "--n", "100000", "--seed", "0", "--dtype", "bfloat16")


def full() -> Campaign:
    """The campaign on one GPU; estimates are guesses for a large one."""
    steps = [
        Step(
            name="gpu-tests",
            command=("-m", "pytest", "tests", "-m", "gpu", "--junitxml", "{out}/benchmarks/gpu-tests.xml"),
            estimate=150,
        ),
        *(_bench("engine_bench", seconds, network) for network, seconds in _ENGINE.items()),
        _bench("noise_bench", 60),
        *(_bench("maxup_step", seconds, network) for network, seconds in _MAXUP.items()),
    ]
    cifar = [
        Comparison(
            name=f"cifar10-{arch}-{sigma:.2f}",
            methods=_cifar(f"arch={arch}", f"sigma={sigma}"),
            certify=_CERTIFY,
            seconds=seconds,
        )
        for arch, seconds in (("resnet20", (500.0, 180.0)), ("resnet110", (1500.0, 700.0)))
        for sigma in (0.5, 0.25)
    ]
    small = [
        Comparison(
            name=f"{dataset}-seed-{seed}",
            methods=_small(dataset.replace("-", "_"), f"seed={seed}"),
            certify=_CERTIFY,
            seconds=(250.0, 60.0),
        )
        for seed in range(3)
        for dataset in ("fashion-mnist", "mnist")
    ]
    return Campaign(
        steps=(*steps, *(step for comparison in (*cifar, *small) for step in comparison.steps())),
        reports=(
            *(comparison.report() for comparison in (*cifar, *small)),
            *(_seeds(dataset, a, b) for dataset in ("fashion-mnist", "mnist") for a, b in _PAIRS),
        ),
    )


def quick() -> Campaign:
    """The same in minutes on a CPU: embedded images, one epoch, few samples; its numbers say nothing."""
    fast = ("--quick",)
    sample = Comparison(
        name="fashion-sample",
        methods={
            "gaussian": ("fashion_sample_gaussian", "epochs=1"),
            "mean-of-4": ("fashion_sample_maxup", "epochs=1", "objective=mean_of_m"),
            "maxup-4": ("fashion_sample_maxup", "epochs=1"),
            "graded-8": ("fashion_sample_gaussian", "epochs=1", "objective=consistency", "m=2", *_GRADED),
        },
        certify=("--limit", "20", "--n", "1000", "--seed", "0"),
        seconds=(10.0, 10.0),
    )
    file = "tests/certify/noise/test_exact.py"
    tests = ("-m", "pytest", file, "-m", "gpu", "--junitxml", "{out}/benchmarks/gpu-tests.xml")
    return Campaign(
        steps=(
            Step(name="gpu-tests", command=tests, estimate=15),
            _bench("engine_bench", 60, "lenet", fast),
            _bench("noise_bench", 20, options=fast),
            _bench("maxup_step", 30, "lenet", fast),
            *sample.steps(),
        ),
        reports=(sample.report(),),
    )


_ENGINE = {"lenet": 120.0, "resnet20": 180.0, "resnet110": 360.0, "resnet50": 400.0}
_MAXUP = {"lenet": 60.0, "resnet20": 120.0, "resnet110": 360.0}
_GRADED = ("worst_of=8", "graded=true")
#: What the seeds are for: each method against the one before it.
_PAIRS = (("maxup-4", "mean-of-4"), ("maxup-4", "gaussian"), ("graded-8", "maxup-4"))


def _bench(script: str, estimate: float, network: str = "", options: Command = ()) -> Step:
    name = f"{script}/{network}" if network else script
    chosen = ("--networks", network) if network else ()
    json = ("--json", f"{{out}}/benchmarks/{name.replace('/', '-')}.json")
    return Step(name=name, command=("-m", f"benchmarks.{script}", *chosen, *options, *json), estimate=estimate)


def _cifar(*changes: str) -> Mapping[str, Command]:
    return {
        "gaussian": ("cifar10_gaussian", *changes),
        "mean-of-4": ("cifar10_mean_of_4", *changes),
        "maxup-4": ("cifar10_maxup", *changes),
        # The graded recipe of MNIST and Fashion-MNIST on CIFAR-10's own consistency recipe: its epochs and its weights.
        "graded-8": ("cifar10_consistency", *_GRADED, *changes),
    }


def _small(dataset: str, *changes: str) -> Mapping[str, Command]:
    return {
        "gaussian": (f"{dataset}_gaussian", "dtype=bfloat16", *changes),
        "mean-of-4": (f"{dataset}_mean_of_4", "dtype=bfloat16", *changes),
        "maxup-4": (f"{dataset}_maxup", "dtype=bfloat16", *changes),
        "graded-8": (f"{dataset}_graded", *changes),
    }


def _seeds(dataset: str, a: str, b: str) -> Report:
    """Two methods by all their seeds; the answer is in the report's log."""
    patterns = [f"{{out}}/runs/{dataset}-seed-*/{method}/radii.tsv" for method in (a, b)]
    return Report(
        name=f"seeds/{dataset}-{a}-against-{b}",
        of=tuple(f"certify/{dataset}-seed-{seed}/{method}" for method in (a, b) for seed in range(3)),
        command=lambda finished: ("-m", "maxup_smoothing.analysis", "compare", *patterns, "--labels", f"{a},{b}"),
        whole=True,
    )

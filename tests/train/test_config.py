"""Configurations: what is read, what is refused, and that the resolved file repeats the run."""

import dataclasses
from pathlib import Path

import pytest

from maxup_smoothing.train import objectives
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.config_file import CONFIGS, load, task
from maxup_smoothing.train.language.config import LanguageConfig

REQUIRED = 'dataset = "mnist"\narch = "lenet"\nobjective = "maxup"\nsigma = 0.5\nepochs = 2\nbatch_size = 8\nlr = 1\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(REQUIRED)
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.toml") if task(path.stem) is None))
def test_every_shipped_configuration_is_valid(name: str) -> None:
    sigmas = (0.25, 0.5, 1.0) if "noise" in load(name).perturbation else (0.0,)
    for sigma in sigmas:
        objectives.build(load(name, [f"sigma={sigma}"]))


def test_each_row_of_the_published_tables_has_its_configuration_and_its_weights() -> None:
    methods = ["gaussian", "mean_of_4", "maxup", "stability", "macer", "consistency", "smoothadv", "smoothmix", "catrs"]
    shipped = {path.stem for path in CONFIGS.glob("*.toml")}
    assert {f"{data}_{method}" for data in ("mnist", "fashion_mnist", "cifar10") for method in methods} <= shipped
    lam = {sigma: load("mnist_consistency", [f"sigma={sigma}"]).lam for sigma in (0.25, 0.5, 1.0)}
    assert lam == {0.25: 10, 0.5: 5, 1.0: 5}
    assert [load("cifar10_smoothadv", [f"sigma={s}"]).m for s in (0.25, 0.5, 1.0)] == [4, 8, 2]


@pytest.mark.parametrize("path", sorted((CONFIGS / "sets").glob("*.txt")), ids=lambda path: path.stem)
def test_sets_name_runs_that_can_begin(path: Path) -> None:
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len({name for name, *_ in rows}) == len(rows)
    for _, config, *changes in rows:
        assert set(changes[::2]) <= {"--set"}
        if task(config) is None:
            objectives.build(load(config, changes[1::2]))
        else:
            load(config, changes[1::2], kind=LanguageConfig)


def test_the_resolved_file_reads_back_to_the_same_configuration(file: Path, tmp_path: Path) -> None:
    config = load(str(file), ['augment=["crop", "flip"]', "mean=[0.1, 0.2, 0.3]", "m=8", 'dataset=a "quoted" name'])
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(config.to_toml())
    assert load(str(resolved)) == config
    assert config.mean == (0.1, 0.2, 0.3)


def test_set_changes_a_key_and_strings_need_no_quotes(file: Path) -> None:
    config = load(str(file), ["sigma=0.25", "schedule=cosine", "nesterov=true", "lr=1e-2"])
    assert (config.sigma, config.schedule, config.nesterov, config.lr) == (0.25, "cosine", True, 0.01)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sigmaa=1", "unknown key 'sigmaa'; did you mean 'sigma'"),
        ("batchsize=1", "unknown key 'batchsize'; did you mean 'batch_size'"),
        ("epochs=2.5", r"epochs must be of type int, got 2\.5"),
        ("nesterov=1", "nesterov must be of type bool, got 1"),
        ("mean=0.5", r"mean must be a list, got 0\.5"),
        ('augment=["crop", 3]', "augment must be of type str, got 3"),
        ("sigma=127.5", r"sigma is in \[0, 1\] pixel units, got 127\.5; did you mean 0\.5"),
        ("sigma=-1", "sigma must be at least 0, got -1"),
        ("sigma=nan", "sigma must be at least 0, got nan"),
        ("lr=inf", "lr must be positive and finite, got inf"),
        ("epochs=0", "epochs must be positive"),
        ("schedule=linear", "schedule must be one of step, cosine, onecycle, constant, got 'linear'"),
        ('augment=["cutout"]', "augment must be one of crop, flip, random_resized_crop, got 'cutout'"),
        ("m", "--set expects key=value, got 'm'"),
        ("m=0", "m must be positive"),
        ("momentum=1.0", r"momentum must be below 1, got 1\.0"),
        ("lam=inf", "lam must be finite, got inf"),
        ("start=2", "start = 2 is never reached in 2 epochs"),
        ("ema=1.0", r"ema must lie in \[0, 1\), got 1\.0"),
        ("label_smoothing=1.0", r"label_smoothing must lie in \[0, 1\), got 1\.0"),
        ("validate_every=5", "validate_every certifies held-out training images: set holdout"),
        ("validate_n=5000", "validate_n = 5000 has no effect: it is read with validate_every"),
        ("shortcut=pad", "shortcut = 'pad' has no effect: it is read by the residual networks"),
    ],
)
def test_bad_values_are_refused_with_the_fix(file: Path, change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(str(file), [change])


def test_missing_fields_are_named(file: Path) -> None:
    file.write_text('dataset = "mnist"\n')
    with pytest.raises(ValueError, match="missing arch, objective, sigma, epochs, batch_size, lr"):
        load(str(file))


def test_unknown_configurations_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="no configuration 'mnist_maxupp'; did you mean 'mnist_maxup'"):
        load("mnist_maxupp")


def test_a_file_that_is_not_toml_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe sigma")
    with pytest.raises(ValueError, match="is not valid TOML"):
        load(str(file))


def test_every_field_is_documented() -> None:
    assert TrainConfig.__doc__ is not None
    for field in dataclasses.fields(TrainConfig):
        assert f"        {field.name}: " in TrainConfig.__doc__


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["objective=maxxup"], "unknown objective 'maxxup'; did you mean 'maxup'"),
        (
            ["objective=gaussian", "m=4"],
            r"'gaussian' does not read m \(set to 4\); leave it out, or choose one that does: ",
        ),
        (["m=4", "m_start=5"], r"m_start must lie in \[0, m\] = \[0, 4\]"),
        (["reduction=topk", "top_k=3"], r"top_k must lie in \[1, m\] = \[1, 1\], got 3"),
        (["m=4", "sigma=0"], r"without noise \(sigma = 0\) all m = 4 copies are one; set m = 1"),
        (["objective=catrs", "m=1001"], "takes at most m = 1000 copies, got 1001"),
        (["objective=stability", "worst_of=1001", "graded=true"], "takes at most worst_of = 1000 candidates, got 1001"),
        (["objective=consistency"], "'consistency' compares copies: m must be at least 2, got 1"),
        (["objective=gradient_penalty"], "takes m of at least 2 and a positive sigma, got m = 1"),
        (["objective=gradient_penalty", "m=4", "compile=true"], "differentiates twice, which compile = true cannot"),
        (["m=4", "warmup=10"], "warmup = 10 has no effect: it is read with m_start"),
        (["m=4", "top_k=2"], "top_k = 2 has no effect: it is read with reduction = 'topk'"),
        (["m=4", "temperature=2"], "temperature = 2.0 has no effect"),
        (["m=4", "reduction=logsumexp", "selection=eval"], "selection = 'eval' has no effect"),
        (["objective=stability", "worst_of=2", "selection=joint"], "'joint' is of the objective maxup"),
        (["objective=stability", "selection=eval"], "has no effect: it is read with worst_of above 1"),
    ],
)
def test_objectives_refuse_settings_that_contradict(file: Path, changes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objectives.build(load(str(file), changes))


def test_a_file_changes_its_base_and_tables_hold_for_their_sigma(file: Path, tmp_path: Path) -> None:
    below = tmp_path / "below.toml"
    below.write_text(
        f'base = "{file}"\nobjective = "consistency"\nm = 2\nlam = 5\n[at_sigma."0.25"]\nlam = 10\neta = 1\n'
    )
    above = tmp_path / "above.toml"
    above.write_text(f'base = "{below}"\nlam = 7\nlr = 3\n[at_sigma."1.0"]\nlam = 1\n')

    def at(path: Path, *changes: str) -> tuple[float, float, float]:
        config = load(str(path), list(changes))
        return config.lam, config.eta, config.lr

    assert at(below) == (5, 0.5, 1)
    assert at(below, "sigma=0.25") == (10, 1, 1)
    assert at(below, "sigma=0.25", "lam=2") == (2, 1, 1), "--set has the last word"
    assert at(above, "sigma=0.25") == (7, 1, 3), "a file has it over all of its base"
    assert at(above, "sigma=1") == (1, 0.5, 3)
    beside = tmp_path / "beside.toml"
    beside.write_text('base = "below.toml"\n')
    assert at(beside) == (5, 0.5, 1), "a base is sought beside its file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "nowhere"', r"the base of .*run\.toml, no configuration 'nowhere'"),
        ("base = 3", "base must be the name or path of a configuration, got 3"),
        ('base = "{itself}"', "is its own base, by way of"),
        ("at_sigma = 3", r"at_sigma holds tables, such as \[at_sigma\."),
        ("[at_sigma.0.25]\nlam = 1", r"\[at_sigma\.0\.…\] needs quotes around its number"),
        ('[at_sigma."0.25"]\nlamm = 1', r"at_sigma 0\.25: unknown key 'lamm'; did you mean 'lam'"),
        ('[at_sigma."0.25"]\nsigma = 1', r"at_sigma 0\.25: unknown key 'sigma'"),
        ('[at_sigma."half"]\nlam = 1', r'the key of \[at_sigma\."half"\] is not a number'),
    ],
)
def test_bad_bases_and_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text.replace("{itself}", str(path)) + ("" if "base" in text else "\n"))
    if "half" in text:
        path.write_text(REQUIRED + text)
    with pytest.raises(ValueError, match=message):
        load(str(path))

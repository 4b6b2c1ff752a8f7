"""Configurations: what is read, what is refused, and that the resolved file repeats the run."""

import dataclasses
from pathlib import Path

import pytest

from train import objectives
from train.config import CONFIGS, TrainConfig, load

REQUIRED = 'dataset = "mnist"\narch = "lenet"\nobjective = "maxup"\nsigma = 0.5\nepochs = 2\nbatch_size = 8\nlr = 1\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(REQUIRED)
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.toml")))
def test_every_shipped_configuration_is_valid(name: str) -> None:
    objectives.build(load(name))


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
        ('augment=["cutout"]', "augment must be one of crop, flip, got 'cutout'"),
        ("m", "--set expects key=value, got 'm'"),
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
        (["objective=gaussian", "m=4"], "objective 'gaussian' draws one copy, got m = 4"),
        (["m=0"], "m, the number of copies, must be at least 1"),
    ],
)
def test_objectives_refuse_settings_that_contradict(file: Path, changes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objectives.build(load(str(file), changes))

"""MaxUp for image classification: copies made as ``perturbation`` says, mixed labels, and accuracy on test images."""

# Shapes: B images, M copies of each, K classes.

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_training as tiny
import torch
from scipy import stats
from torch import Tensor, nn
from typer.testing import CliRunner

from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint, evaluate, models, objectives
from maxup_smoothing.train.config_file import load
from maxup_smoothing.train.loop import Trainer
from maxup_smoothing.train.objectives.objective import Perturbed
from maxup_smoothing.train.perturbations import Cutout
from maxup_smoothing.train.perturbations.mixing import one_hot
from maxup_smoothing.train.seeds import generator

MIXED = {"perturbation": ("crop", "cutout", "mixup", "cutmix"), "cutout_size": 2, "cutmix_alpha": 0.6, "sigma": 0.0}
SMALL = ["objective=plain", "sigma=0", 'perturbation=["crop", "flip", "cutout"]', "cutout_size=8"]


def built(name: str, **changes: Any) -> Perturbed:
    objective = tiny.objective(name, **changes)
    assert isinstance(objective, Perturbed)
    return objective


def mixed_losses(model: nn.Module, objective: Perturbed, x: Tensor, y: Tensor, smoothing: float = 0.0) -> Tensor:
    """(B, M): the mixed cross-entropy of each copy, example by example."""
    copies = [objective.perturb(x, y, generator(x.device, tiny.STEP.seed, copy)) for copy in range(tiny.M)]
    rows = []
    for b in range(len(x)):
        row = []
        for images, targets in copies:
            p_K = tiny.softmax(model(images[b][None])[0])
            smoothed_K = [(1 - smoothing) * float(t) + smoothing / tiny.K for t in targets[b]]
            row.append(-sum((t * p.log() for t, p in zip(smoothed_K, p_K, strict=True)), torch.zeros(())))
        rows.append(torch.stack(row))
    return torch.stack(rows)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_maxup_is_the_largest_mixed_loss_of_each_image_against_a_double_loop(smoothing: float) -> None:
    model, objective = tiny.network(), built("maxup", m=tiny.M, label_smoothing=smoothing, **MIXED)
    x, classes = tiny.batch(model)
    y = one_hot(classes, tiny.K).double()
    table = mixed_losses(model, objective, x, y, smoothing)
    result = objective(model, x, y, tiny.STEP)
    tiny.assert_same(model, result.loss, table.amax(1).mean())
    torch.testing.assert_close(result.copies_BM, table.detach())
    for wrong in (tiny.regrouped(table).amax(1), table.amax(0), table.mean(1)):
        assert not torch.isclose(result.loss, wrong.mean(), rtol=1e-4), "a wrong copy axis would be noticed"


def test_the_worst_copy_brings_its_own_label() -> None:
    """With the labels of copy 0 for all copies the loss is another one."""
    model, objective = tiny.network(), built("maxup", m=tiny.M, **MIXED)
    x, classes = tiny.batch(model)
    y = one_hot(classes, tiny.K).double()
    copies = [objective.perturb(x, y, generator(x.device, tiny.STEP.seed, copy)) for copy in range(tiny.M)]
    first = torch.stack([objective.loss(model(images), copies[0][1]) for images, _ in copies], dim=1)
    assert not torch.isclose(objective(model, x, y, tiny.STEP).loss, first.amax(1).mean(), rtol=1e-4)


def test_the_mean_over_copies_and_plain_training_are_those_of_the_same_copies() -> None:
    model, x = tiny.network(), tiny.batch(tiny.network())[0]
    y = one_hot(tiny.batch(model)[1], tiny.K).double()
    mean, plain, single = (built(name, m=m, **MIXED) for name, m in (("mean_of_m", tiny.M), ("plain", 1), ("maxup", 1)))
    tiny.assert_same(model, mean(model, x, y, tiny.STEP).loss, mixed_losses(model, mean, x, y).mean())
    for one in (plain, single):
        tiny.assert_same(model, one(model, x, y, tiny.STEP).loss, mixed_losses(model, one, x, y)[:, 0].mean())


def test_a_mixed_cross_entropy_is_the_mean_of_those_of_both_labels() -> None:
    """It is linear in the target, smoothed or not."""
    logits, a, b = torch.randn(6, 3), torch.randint(3, (6,)), torch.randint(3, (6,))
    for smoothing in (0.0, 0.3):
        loss = tiny.objective("plain", sigma=0.5, label_smoothing=smoothing).loss
        mixed = 0.7 * one_hot(a, 3) + 0.3 * one_hot(b, 3)
        torch.testing.assert_close(loss(logits, mixed), 0.7 * loss(logits, a) + 0.3 * loss(logits, b))


def test_cutout_alone_keeps_classes_as_they_are() -> None:
    objective = built("maxup", m=tiny.M, perturbation=("cutout",), cutout_size=2, sigma=0.0, mean=(0.3,))
    assert objective.perturb == Cutout(2, (0.3,))
    assert not objective.mixes
    model = tiny.network()
    x, y = tiny.batch(model)
    copies = [objective.perturb(x, y, generator(x.device, tiny.STEP.seed, copy))[0] for copy in range(tiny.M)]
    table = torch.stack([torch.stack([objective.loss(model(c), y)[b] for c in copies]) for b in range(len(x))])
    tiny.assert_same(model, objective(model, x, y, tiny.STEP).loss, table.amax(1).mean())


def test_noise_is_what_perturbs_where_nothing_is_said() -> None:
    model = tiny.network()
    x, y = tiny.batch(model)
    said = tiny.objective("maxup", m=3, perturbation=("noise",))
    assert torch.equal(said(model, x, y, tiny.STEP).loss, tiny.objective("maxup", m=3)(model, x, y, tiny.STEP).loss)
    plain, gaussian = tiny.objective("plain"), tiny.objective("gaussian")
    assert torch.equal(plain(model, x, y, tiny.STEP).loss, gaussian(model, x, y, tiny.STEP).loss)
    both = built("maxup", perturbation=("flip", "noise"))
    flipped, _ = built("maxup", perturbation=("flip",), sigma=0.0).perturb(x, y, generator(x.device, 3))
    noise = both.perturb(x, y, generator(x.device, 3))[0] - flipped
    assert 0 < float(noise.std()) < 2 * tiny.SIGMA


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["perturbation=[]"], "perturbation is empty; give any of noise, crop, flip, cutout"),
        (['perturbation=["cutot"]'], "unknown perturbation 'cutot'; did you mean 'cutout'"),
        (["perturbation=cutout"], "perturbation must be a list, got 'cutout'"),
        (['perturbation=["noise", "crop"]', "sigma=0.5"], "noise comes last and once"),
        (['perturbation=["noise", "noise"]', "sigma=0.5"], "noise comes last and once"),
        (["sigma=0.5"], r"sigma = 0.5 has no effect: perturbation = \['crop', 'flip', 'cutout'\] has no 'noise'"),
        (["cutout_size=0"], "cutout_size must be positive and finite, got 0"),
        (["cutmix_alpha=-1"], "cutmix_alpha must be positive and finite, got -1"),
        (["mixup_alpha=nan"], "mixup_alpha must be positive and finite, got nan"),
        (["randaugment_n=0"], "randaugment_n must be positive"),
        (["randaugment_magnitude=31"], r"randaugment_magnitude must lie in \(0, 30\], got 31"),
        (["cutmix_alpha=2"], "cutmix_alpha = 2.0 has no effect: it is read with 'cutmix' in perturbation"),
        (["randaugment_n=3"], "randaugment_n = 3 has no effect: it is read with 'randaugment' in perturbation"),
        (["objective=consistency", "m=2"], "objective 'consistency' does not read perturbation"),
    ],
)
def test_perturbations_that_make_no_sense_are_refused_in_one_line(changes: list[str], message: str) -> None:
    keep = "cutout_size=16" if not any("cutout" in c for c in changes) else ""
    with pytest.raises(ValueError, match=message):
        objectives.build(load("cifar10_plain", [*([keep] if keep else []), *changes]))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    train, test = (registry.load("fashion-sample", split) for split in ("train", "test"))
    path = tmp_path / "images.npz"
    np.savez(
        path,
        x_train=train.images[:130, 0], y_train=train.labels[:130], x_test=test.images[:300, 0],
        y_test=test.labels[:300], classes=np.array(train.classes),
    )  # fmt: skip
    return path


def trainer(images: Path, *changes: str) -> Trainer:
    settings = [f"dataset={images}", "epochs=1", "batch_size=50", "probe=40", "lr=0.05", "arch=small", *changes]
    config = load("fashion_sample_gaussian", [*SMALL, *settings])
    dataset = registry.load(str(images), "train")
    torch.manual_seed(config.seed)
    model = models.build(config.arch, dataset.images.shape[1:], dataset.num_classes)
    x, y = torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)
    return Trainer(model, objectives.build(config), x, y, config, num_classes=dataset.num_classes)


@pytest.mark.parametrize("objective", [["objective=plain"], ["objective=maxup", "m=3"], ["objective=mean_of_m", "m=2"]])
@pytest.mark.parametrize("parts", ['["crop", "cutout", "cutmix"]', '["mixup"]', '["flip", "cutout"]'])
def test_a_batch_in_parts_is_mixed_as_the_whole(images: Path, objective: list[str], parts: str) -> None:
    """The network has no batch norm, so the step is the same but for rounding."""
    size = ["cutout_size=8"] if "cutout" in parts else ["cutout_size=16"]
    settings = [*objective, f"perturbation={parts}", *size, 'augment=["flip"]']
    whole, cut = trainer(images, *settings), trainer(images, *settings, "accumulate=3")
    lines = whole.epoch(), cut.epoch()
    assert lines[0].loss == pytest.approx(lines[1].loss, rel=1e-4)
    for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_classes_without_a_training_image_have_a_place_in_mixed_labels(images: Path) -> None:
    t = trainer(images, 'perturbation=["mixup"]', "cutout_size=16", "dtype=bfloat16")
    t.labels = t.labels.clamp(max=4)
    assert t.num_classes == 10
    t.epoch()


def test_without_noise_the_probe_measures_clean_accuracy(images: Path) -> None:
    t = trainer(images)
    t.epoch()
    x = t.probe_images.float() / 255
    right = (t.model.eval()(x).argmax(1) == t.probe_labels).float().mean()
    assert t.noisy_accuracy() == pytest.approx(float(right))


def saved(folder: Path, images: Path, shape: tuple[int, int, int] = (1, 28, 28)) -> nn.Module:
    architecture = checkpoint.Architecture(arch="small", image_shape=shape, num_classes=10, options={})
    model = architecture.build().eval()
    described = {"config": {"dataset": str(images), "sigma": 0.0}, "epoch": 3}
    checkpoint.save(folder / "checkpoint.safetensors", model, architecture, described)
    return model


def evaluated(*arguments: str) -> Any:
    return CliRunner().invoke(evaluate.app, list(arguments))


def test_test_accuracy_is_that_of_the_test_split_with_its_exact_interval(images: Path, tmp_path: Path) -> None:
    model = saved(tmp_path, images)
    test = registry.load(str(images), "test")
    x, y = torch.from_numpy(test.images).float() / 255, torch.from_numpy(test.labels)
    right = sum(int(model(image[None]).argmax()) == int(label) for image, label in zip(x, y, strict=True))
    result = evaluated(str(tmp_path), "--confidence", "0.9")
    assert result.exit_code == 0, result.output
    assert f"{right} of 300 right" in result.output
    written = json.loads((tmp_path / "test.json").read_text())
    assert (written["right"], written["images"], written["split"], written["epoch"]) == (right, 300, "test", 3)
    rows = [line.split("\t") for line in (tmp_path / "test_predictions.tsv").read_text().splitlines()]
    assert rows[0] == ["idx", "label", "predict", "correct"]
    assert [int(row[2]) for row in rows[1:]] == [int(model(image[None]).argmax()) for image in x]
    assert [row[:2] for row in rows[1:]] == [[str(idx), str(int(label))] for idx, label in enumerate(y)]
    assert sum(int(row[3]) for row in rows[1:]) == right
    # Clopper and Pearson: each end is where the tail beyond what was seen has 0.05.
    assert stats.binom.sf(right - 1, 300, written["lower"]) == pytest.approx(0.05)
    assert stats.binom.cdf(right, 300, written["upper"]) == pytest.approx(0.05)


def test_what_has_no_test_images_of_its_own_is_refused(images: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.npz"
    train = registry.load(str(images), "train")
    np.savez(whole, images=train.images[:, 0], labels=train.labels, classes=np.array(train.classes))
    saved(tmp_path, whole)
    assert "has no test split, only the images that" in str(evaluated(str(tmp_path)).exception)
    saved(tmp_path, images, (1, 32, 32))
    assert "takes images of shape (1, 32, 32)" in str(evaluated(str(tmp_path)).exception)
    assert "confidence must lie in (0, 1), got 1.0" in str(evaluated(str(tmp_path), "--confidence", "1").exception)
    assert "no checkpoint at" in str(evaluated(str(tmp_path / "nowhere")).exception)

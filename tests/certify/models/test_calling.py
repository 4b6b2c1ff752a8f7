"""What a user's code raises or changes: one line with the place, and the process as it was."""

import argparse
import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.data.runtime.memory import OutOfMemory
from maxup_smoothing.data.runtime.user_code import ModelError, undisturbed, user_code


def raised(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error",
    [AttributeError("no logits"), KeyError("logits"), ZeroDivisionError(), AssertionError("wrong"), RecursionError()],
)
def test_any_error_is_one_line_with_type_text_and_place(error: Exception) -> None:
    with pytest.raises(ModelError) as found, user_code("the model"):
        raised(error)
    text = str(found.value)
    assert text.startswith(f"the model: {type(error).__name__}")
    assert str(error) in text
    assert "test_calling.py:" in text
    assert "\n" not in text
    assert found.value.__cause__ is error


def test_leaving_is_an_error_that_names_who_left() -> None:
    with pytest.raises(ModelError, match=r"^leaves:load: SystemExit: cannot find the weights \(.*:\d+\)$"):  # noqa: SIM117
        with user_code("leaves:load"):
            sys.exit("cannot find the weights")


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        OutOfMemory("memory ran out"),
        SystemExit(143),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    ],
)
def test_signals_and_memory_pass_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as found, user_code("the model"):
        raised(error)
    assert found.value is error


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_is_an_error_where_nobody_tries_fewer_rows(error: Exception) -> None:
    with pytest.raises(ModelError, match=type(error).__name__), user_code("module:load", fewer=False):
        raised(error)


def test_what_this_package_says_of_a_model_stays_as_it_is() -> None:
    wrong = ArrayFunction(lambda x: x, 10)
    with pytest.raises(ValueError, match=r"^the function must return logits") as found, user_code("the model"):
        wrong(torch.zeros(1, 1, 2, 2))
    assert not isinstance(found.value, ModelError)


def test_the_place_is_the_users_and_not_that_of_torch() -> None:
    line = sys._getframe().f_lineno + 2
    with pytest.raises(ModelError, match=rf"RuntimeError: .*test_calling\.py:{line}\)"), user_code("m"):
        nn.Linear(3, 4)(torch.zeros(2, 5))


@pytest.mark.parametrize("text", ["pixels must lie in [0, 1]", "input out of range", "images between 0 and 1", ""])
def test_checks_of_the_range_of_pixels_are_told_of_noise(text: str) -> None:
    x = torch.tensor([-1.0])
    with pytest.raises(ModelError, match=r"noisy pixels leave.*must clamp"), user_code("the model"):
        assert x.min() >= 0, text


def test_other_errors_are_not_told_of_noise() -> None:
    for error in (RuntimeError("index out of range in self"), ValueError("10 classes expected"), KeyError("image")):
        with pytest.raises(ModelError) as found, user_code("the model"):
            raised(error)
        assert "noisy" not in str(found.value)


def test_folder_dtype_and_device_are_put_back_and_told(tmp_path: Path) -> None:
    before = Path.cwd()
    with undisturbed("moves:load") as notes:
        os.chdir(tmp_path)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
    assert Path.cwd() == before
    assert torch.get_default_dtype() == torch.float32
    assert torch.zeros(1).device.type == "cpu"
    assert len(notes) == 3
    assert f"moves:load changed the working directory to {tmp_path}" in notes[0]
    assert "float64" in notes[1]


def test_nothing_is_told_where_nothing_changed() -> None:
    with undisturbed("subject:load") as notes:
        assert sys.argv == sys.argv[:1]
        argparse.ArgumentParser().parse_args([])
    assert notes == []


def test_a_parser_of_the_command_line_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = sys.argv
    with pytest.raises(ModelError, match=r"parses: .* parses the command line"):  # noqa: SIM117
        with user_code("parses"), undisturbed("parses"):
            argparse.ArgumentParser().parse_args()
    assert capsys.readouterr().err == ""
    assert sys.argv is arguments

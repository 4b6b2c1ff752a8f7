"""Options and fixtures of all tests."""

import os
import signal
from collections.abc import Iterator

# The models are tiny, and threads that wait for a busy core cost more than they give. Before torch, so that the
# processes that tests start do the same.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell without job control starts what it puts in the background with SIGINT ignored, and so would all processes be
# that tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run tests that take minutes, and seeds 0 to 99")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``seed`` must hold for each of 0 to 99; the quick run tries one of them."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(100) if metafunc.config.getoption("--slow") else [0])


#: Files of few tests that take minutes: they come first, or one process would be left with them in the end.
_LONGEST_FIRST = (
    "faults/test_kill.py",
    "certify/distributed/test_deaths.py",
    "repository/test_notebooks.py",
    "train/test_distributed.py",
    "benchmarks/test_campaign_steps.py",
    "certify/serving/test_served_strangers.py",
    "certify/distributed/test_distributed.py",
    "repository/test_installed_wheel.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.removeprefix("tests/").startswith(_LONGEST_FIRST))
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))


@pytest.fixture(autouse=True)
def _same_global_generator() -> Iterator[None]:
    """Each test starts from one state of torch's global generator, whichever tests ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield

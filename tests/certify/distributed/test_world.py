"""The processes of torchrun: how they meet, claim images, count together and take their own GPU."""

import sys
import time
from typing import cast

import pytest
import shared_runs
import torch
import torch.distributed as dist
from shared_runs import Threads

from maxup_smoothing.certify.__main__ import main
from maxup_smoothing.certify.distributed import world as distributed
from maxup_smoothing.certify.distributed.world import Store, Tally, World
from maxup_smoothing.certify.runs.device import device

_here = shared_runs.here


def test_each_item_goes_to_one_process_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Threads(4, monkeypatch)(lambda world: list(world.claimed(range(1000))))
    assert sorted(item for items in taken for item in items) == list(range(1000))
    assert all(items == sorted(items) for items in taken)
    assert list(World().claimed([3, 1])) == [3, 1]


def test_a_meeting_waits_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_POLL", 0.001)
    come: list[int] = []

    def arrive(world: World) -> int:
        if world.rank == 2:
            time.sleep(0.1)
        come.append(world.rank)
        world.meet("here")
        return len(come)

    assert Threads(3, monkeypatch)(arrive) == [3, 3, 3]


def test_the_first_process_shows_what_all_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [0, 0]

    def show(samples: int, rows: int) -> None:
        shown[0] += samples
        shown[1] += rows

    def count(world: World) -> None:
        tally = Tally(world, show if world.first else None, every=0)
        for _ in range(50):
            tally.advance(10, 1)
        tally.advance(-10, 0)  # memory ran out: drawn again
        tally.tell()
        world.meet("done", tally.tell)

    assert Threads(3, monkeypatch)(count) == [None] * 3
    assert shown == [1470, 150]
    Tally(World(), show).advance(5, 5)
    assert shown == [1475, 155]


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    current: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert device("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device("auto") == device("cuda") == torch.device("cuda", 1)
    assert device("cpu") == torch.device("cpu")
    assert current == [1, 1], "pinned memory goes by the current device"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="which has 2 CUDA devices; pass --nproc-per-node their number"):
        device("auto")


def test_processes_agree_on_a_life_whatever_an_earlier_one_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_POLL", 0.001)

    def lives(world: World) -> list[str]:
        assert world.store is not None
        found = [distributed.agree(world.store, world.rank, world.size, 30)]
        if world.rank:
            world.store.set(f"{found[0]}/signed/{world.rank}", b"the word of a process that died")
        world.meet("died")
        return [*found, distributed.agree(world.store, world.rank, world.size, 30)]

    results = Threads(4, monkeypatch)(lives)
    assert all(names == results[0] for names in results)
    assert results[0][0] != results[0][1]


def test_a_process_that_never_comes_is_missed() -> None:
    store = cast(Store, dist.HashStore())  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="2 of the processes that torchrun should have started did not come"):
        distributed.agree(store, 0, 3, patience=0)
    with pytest.raises(ValueError, match="did not come"):
        distributed.agree(store, 1, 3, patience=0)


def test_other_commands_do_not_share_their_work(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    for rank, said in (
        ("0", "error: under torchrun only `certify run` and `certify predict` share their work"),
        ("1", ""),
    ):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr(sys, "argv", ["certify", "show", "out/radii.tsv"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        error = capfd.readouterr().err
        assert said in error
        assert bool(error) == bool(said)


@pytest.mark.parametrize("size", ["2", "several"])
def test_a_world_size_that_is_not_of_torchrun_is_nobodys_business(
    size: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", size)  # containers and schedulers leave such things behind
    monkeypatch.setattr(sys, "argv", ["certify", "show", "missing.tsv"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "error: [Errno 2] No such file or directory: 'missing.tsv'" in capfd.readouterr().err
    with distributed.join() as world:
        assert world == World()


def test_a_signal_when_nothing_is_left_to_begin_is_no_interruption() -> None:
    store = cast(Store, dist.HashStore())  # type: ignore[attr-defined]
    world = World(0, 2, store)
    assert [world.unclaimed(2), *world.claimed([7, 8]), world.unclaimed(2)] == [2, 7, 8, 0]


def test_without_torchrun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with distributed.join() as world:
        assert world == World()
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with distributed.join() as world:
        assert world == World()

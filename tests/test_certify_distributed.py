"""Several processes that share a run: the table of one process, whatever dies on the way."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.distributed as dist

import certify.cli
from certify import distributed, launch, parts, rounds
from certify.devices import device
from certify.distributed import Store, Tally, World
from certify.table import RadiusTable, read
from data import console, registry
from train import checkpoint
from train.checkpoint import Architecture

TESTS = Path(__file__).parent
MODEL = """
import os
from oracles import Pixel

def factory():
    return Pixel(classes=10).eval()

def of_its_own():
    return Pixel(threshold=0.5 + int(os.environ["RANK"]), classes=10).eval()
"""
MORTAL = """
import os, signal, time
from pathlib import Path
from certify import rounds
from certify.cli import main
from certify.table import RadiusTable

rank, attempt, append = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"]), RadiusTable.append
rounds._SAMPLES, rounds._BATCHES = 200, 1  # an image each

def appended(table, row):
    append(table, row)
    Path(f"row-{attempt}-{rank}").touch()
    while not Path(f"row-{attempt}-{1 - rank}").exists():
        time.sleep(0.01)
    if attempt < 5 and rank == attempt % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    elif attempt < 5:
        time.sleep(1)  # leave images to the next lives

RadiusTable.append = appended
main()
"""
COMMAND = ["run", "mymodel:factory", "--data", "images.npz", "--sigma", "0.5", "-n", "200", "--n0", "20", "--no-check"]
COMMAND += ["--batch-size", "64", "--device", "cpu", "--out", "out/radii.tsv"]
SEED = ["--seed", "1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a model and 24 real images, and rounds of a few of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(TESTS), str(TESTS.parent)]))
    for name in ("DATA_ROOT", "LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rounds, "_SAMPLES", 600)
    monkeypatch.setattr(rounds, "_BATCHES", 1)
    sys.modules.pop("mymodel", None)
    Path("mymodel.py").write_text(MODEL)
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:24, 0], labels=sample.labels[:24], classes=np.array(sample.classes))


def lines(path: str | Path = "out/radii.tsv") -> list[list[str]]:
    """A table's fields without the time."""
    rows = [line.split("\t") for line in Path(path).read_text().splitlines()]
    time_at = rows[0].index("time")
    return [row[:time_at] + row[time_at + 1 :] for row in rows]


def run(*arguments: str) -> int:
    """The exit status of a command in this process."""
    before, sys.argv = sys.argv, ["certify", *arguments]
    try:
        console.run(certify.cli.app)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def torchrun(*arguments: str, restarts: int = 0, processes: int = 2) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher += ["--max-restarts", str(restarts), "--monitor-interval", "0.05"]
    return [sys.executable, *launcher, "-m", "--", "certify", *arguments]  # else it would take --max for its own


def run_in_thread(*arguments: str) -> int:
    """As `run`, without what belongs to a process: its arguments and its exit."""
    certify.cli.app(list(arguments), standalone_mode=False)
    return 0


def catch(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except ValueError as error:
        return error


class Threads:
    """Processes as threads of this one: each has its own world, and they share a store."""

    def __init__(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._size, self._local = size, threading.local()
        monkeypatch.setattr(launch, "join", self._join)

    @contextmanager
    def _join(self) -> Iterator[World]:
        yield getattr(self._local, "world", World())  # the main thread is alone

    def __call__(self, work: Callable[[World], Any]) -> list[Any]:
        """What each thread returns, or the exception that ended it."""
        store = cast(Store, dist.HashStore())  # type: ignore[attr-defined]
        results: list[Any] = [None] * self._size

        def life(rank: int) -> None:
            self._local.world = World(rank, self._size, store)
            try:
                results[rank] = work(self._local.world)
            except BaseException as error:
                results[rank] = error

        threads = [threading.Thread(target=life, args=(rank,), daemon=True) for rank in range(self._size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return results


@pytest.fixture
def whole() -> list[list[str]]:
    """The table of a single process."""
    assert run(*COMMAND[:-1], "whole.tsv", *SEED) == 0
    return lines("whole.tsv")


def test_two_processes_write_the_table_of_one() -> None:
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    checkpoint.save(Path("lenet.safetensors"), architecture.build(), architecture, {"config": {}, "epoch": 1})
    lenet = ["lenet.safetensors" if part == "mymodel:factory" else part for part in COMMAND]
    assert run(*lenet[:-1], "whole.tsv", *SEED) == 0
    whole = lines("whole.tsv")
    command = torchrun(*lenet, *SEED, "--max", "24")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert lines() == whole
    assert sorted(os.listdir("out")) == ["radii.manifest.json", "radii.tsv"]
    one, two = (json.loads(Path(path).read_text()) for path in ("whole.manifest.json", "out/radii.manifest.json"))
    assert two.pop("notes")["processes"] == 2
    one.pop("notes")
    assert two == one
    assert result.stdout.count("ACR") == 1, "one process talks"
    assert result.stderr.count("certifying 24 of 24 images") == 1


def test_one_of_two_processes_is_killed_five_times(whole: list[list[str]]) -> None:
    Path("mortal.py").write_text(MORTAL)
    command = torchrun(*COMMAND, *SEED, restarts=5)
    command[command.index("certify")] = "mortal"
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert result.returncode == 0, result.stderr
    assert lines() == whole
    assert parts.found(Path("out/radii.tsv")) == []
    # What was on disk was not done again: each life began with what the one before had left, two rows less.
    left = [int(line.split()[1]) for line in result.stderr.splitlines() if line.startswith("certifying")]
    assert left[0] == 24
    assert len(left) == 6
    assert all(after <= before - 2 for before, after in itertools.pairwise(left))


@pytest.mark.parametrize("options", [["--procedure", "sequential", "--radii", "0.25,0.5"], ["--procedure", "anytime"]])
def test_three_processes_with_a_procedure_that_stops_early(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*options, *(["--radii", "0.1"] if options[1] == "anytime" else [])]
    assert run(*COMMAND[:-1], "whole.tsv", *SEED, *options) == 0
    together = Threads(3, monkeypatch)
    assert together(lambda world: run_in_thread(*COMMAND, *SEED, *options)) == [0, 0, 0]
    assert lines() == lines("whole.tsv")


def test_predictions_are_those_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["predict", *(part for part in COMMAND[1:-1] if part not in ("--n0", "20")), "one.tsv", *SEED]
    assert run(*command) == 0
    command[command.index("one.tsv")] = "two.tsv"
    assert Threads(2, monkeypatch)(lambda world: run_in_thread(*command)) == [0, 0]
    assert lines("two.tsv") == lines("one.tsv")


def test_what_is_left_open_the_first_process_chooses_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    open_command = [part for part in COMMAND if part not in ("--batch-size", "64")]
    assert Threads(3, monkeypatch)(lambda world: run_in_thread(*open_command)) == [0, 0, 0]  # no --seed either
    assert len(lines()) == 25
    chosen = json.loads(Path("out/radii.manifest.json").read_text())
    settings = ["--batch-size", str(chosen["classifier"]["batch_size"]), "--seed", str(chosen["noise"]["seed"])]
    assert run(*open_command[:-1], "whole.tsv", *settings) == 0
    assert lines() == lines("whole.tsv")


def test_a_process_with_another_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["mymodel:of_its_own" if part == "mymodel:factory" else part for part in COMMAND]
    result = subprocess.run(torchrun(*command, *SEED), capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "error: process 0 uses classifier.classes_on_probe=" in result.stderr
    assert "process 1 uses classifier.classes_on_probe=" in result.stderr
    assert not Path("out").exists(), "not an image was begun"


def test_a_mistake_ends_all_processes_with_one_line() -> None:
    command = [part if part != "mymodel:factory" else "mymodel:missing" for part in COMMAND]
    result = subprocess.run(torchrun(*command, *SEED), capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert result.stderr.count("error: ") == 1
    assert "exitcode: 2" in " ".join(result.stderr.split()) or "exitcode  : 2" in result.stderr
    assert "SIGKILL" not in result.stderr, "the others wait where signals reach them"
    assert "terminated" not in result.stderr, "one process talks"


def test_a_signal_to_torchrun_leaves_rows_that_the_next_run_takes(whole: list[list[str]]) -> None:
    Path("mortal.py").write_text(MORTAL.replace("attempt % 2", "2"))  # nobody dies; a second for each row
    command = torchrun(*COMMAND, *SEED)
    command[command.index("certify")] = "mortal"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while not (Path("row-0-0").exists() and Path("row-0-1").exists()) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=100)[1]
    assert process.returncode != 0
    assert "terminated; what was finished is on disk: " in said
    assert said.count("The same command goes on.") == 1, "one process talks"
    left = parts.found(Path("out/radii.tsv"))
    assert [file.name for file in left] == ["radii.rank-0.tsv", "radii.rank-1.tsv"]
    rows = sum(len(lines(file)) - 1 for file in left)
    assert 2 <= rows < 24
    assert run(*COMMAND, *SEED) == 0  # one process goes on with what two have left
    assert lines() == whole
    assert parts.found(Path("out/radii.tsv")) == []
    times = {line.split("\t")[0]: line for line in Path("out/radii.tsv").read_text().splitlines()[1:]}
    assert len(times) == 24


def machines(command: list[str]) -> list[tuple[str, str]]:
    """What two launchers that meet print."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--local-addr", "127.0.0.1"]
    launcher += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test", "--monitor-interval", "0.05"]
    whole = [sys.executable, "-m", "torch.distributed.run", *launcher, "--max-restarts", "2", "-m", *command]
    both = [subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [machine.communicate(timeout=200) for machine in both]
    assert [machine.returncode for machine in both] == [0, 0], said
    return said


def test_a_process_of_one_of_two_machines_is_killed(whole: list[list[str]]) -> None:
    once = MORTAL.replace("if attempt < 5 and rank == attempt % 2:", "if rank == 1 and not Path('dead').exists():")
    once = once.replace("        os.kill", "        Path('dead').touch(); os.kill").replace(
        "elif attempt < 5", "elif not Path('dead').exists()"
    )
    once = once.replace("row-{attempt}-", "row-")  # each machine counts its own restarts
    Path("mortal.py").write_text(once)
    said = machines(["mortal", *COMMAND, *SEED])
    assert Path("dead").exists()
    assert lines() == whole
    assert parts.found(Path("out/radii.tsv")) == []
    assert sum(out.count("ACR") for out, _ in said) == 1
    left = [int(line.split()[1]) for _, err in said for line in err.splitlines() if line.startswith("certifying")]
    assert len(left) == 2
    assert min(left) <= 22 < max(left) == 24, "the second life took the rows of the first"


def test_rows_of_an_earlier_run_are_not_done_again(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*COMMAND, *SEED, "--max", "10") == 0
    before = Path("out/radii.tsv").read_text().splitlines()
    capfd.readouterr()
    assert Threads(2, monkeypatch)(lambda world: run_in_thread(*COMMAND, *SEED)) == [0, 0]
    assert "certifying 14 of 24 images" in capfd.readouterr().err
    assert lines() == whole
    assert Path("out/radii.tsv").read_text().splitlines()[:11] == before
    notes = json.loads(Path("out/radii.manifest.json").read_text())["notes"]
    assert (notes["images"], notes["processes"]) == (24, 2)
    assert run("audit", "out/radii.tsv") == 0


def test_parts_of_other_settings_are_refused_and_overwritten_when_asked(
    whole: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*COMMAND[:-1], "out/radii.rank-1.tsv", "--seed", "2") == 0
    kept = Path("out/radii.rank-1.tsv").read_bytes()
    assert run(*COMMAND, *SEED) == 2
    assert (
        "noise.seed=2, this run uses noise.seed=1; write to another file or pass --overwrite" in capfd.readouterr().err
    )
    assert Path("out/radii.rank-1.tsv").read_bytes() == kept
    assert run(*COMMAND, *SEED, "--overwrite") == 0
    assert lines() == whole
    assert sorted(os.listdir("out")) == ["radii.manifest.json", "radii.tsv"]


def test_a_run_in_progress_is_not_overwritten(whole: list[list[str]], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND, *SEED, "--max", "1") == 0
    assert run(*COMMAND[:-1], "out/radii.rank-1.tsv", *SEED, "--max", "6") == 0
    manifest = json.loads(Path("out/radii.manifest.json").read_text())
    with RadiusTable.open("out/radii.tsv", manifest):
        assert run(*COMMAND, *SEED, "--overwrite") == 2
        assert run(*COMMAND, *SEED) == 2
    assert capfd.readouterr().err.count("out/radii.tsv is being written by another process") == 2
    assert [len(lines(path)) for path in ("out/radii.tsv", "out/radii.rank-1.tsv")] == [2, 7]
    with RadiusTable.open("out/radii.rank-1.tsv", manifest):  # a straggler
        assert run(*COMMAND, *SEED) == 2
    assert [len(lines(path)) for path in ("out/radii.tsv", "out/radii.rank-1.tsv")] == [2, 7]
    assert run(*COMMAND, *SEED) == 0
    assert lines() == whole


def test_a_table_whose_name_has_no_suffix(monkeypatch: pytest.MonkeyPatch, whole: list[list[str]]) -> None:
    command = [*COMMAND[:-1], "out/radii", *SEED]
    assert Threads(2, monkeypatch)(lambda world: run_in_thread(*command)) == [0, 0]
    assert lines("out/radii") == whole
    assert sorted(os.listdir("out")) == ["radii", "radii.manifest.json"]


def test_a_process_that_ran_out_of_memory_is_told_of_by_image(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*COMMAND[:-1], "out/radii.rank-0.tsv", *SEED, "--max", "6") == 0
    path = Path("out/radii.rank-0.manifest.json")
    manifest = json.loads(path.read_text())
    manifest["notes"]["micro_batch"] = [{"after_rows": 2, "rows": 32}, {"after_rows": 5, "rows": 16}]
    path.write_text(json.dumps(manifest))
    removed = parts._remove
    monkeypatch.setattr(parts, "_remove", lambda out, files: (_ for _ in ()).throw(OSError("power cut")))
    assert run(*COMMAND, *SEED) == 2
    monkeypatch.setattr(parts, "_remove", removed)
    assert run(*COMMAND, *SEED) == 0
    told = json.loads(Path("out/radii.manifest.json").read_text())["notes"]["micro_batch"]
    assert told[:2] == [{"rows": 32, "idx": "2:5:1"}, {"rows": 16, "idx": "5:6:1"}], "once, in spite of the crash"
    assert told[2:] == [{"after_rows": 6, "rows": 64}], "the rest was made with whole batches"
    capfd.readouterr()
    assert run("transfer", "out/radii.tsv", "--to-dtype", "bfloat16", "--out", "served.tsv") == 2
    assert "not all rows are of one f" in capfd.readouterr().err


def test_parts_that_contradict_each_other_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for number in (0, 1):
        assert run(*COMMAND[:-1], f"out/radii.rank-{number}.tsv", *SEED, "--max", "3") == 0
    path = Path("out/radii.rank-1.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    rows[2][rows[0].index("label")] = "9"  # a wrong label, which its own row does not contradict
    rows[2][rows[0].index("correct")] = "0"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    assert run(*COMMAND, *SEED) == 2
    assert "idx 1 of out/radii.rank-1.tsv is not what out/radii.tsv has" in capfd.readouterr().err
    assert len(parts.found(Path("out/radii.tsv"))) == 2


def test_a_crash_while_parts_are_gathered_loses_and_doubles_nothing(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, limit in ((0, "3"), (1, "9")):
        assert run(*COMMAND[:-1], f"out/radii.rank-{number}.tsv", *SEED, "--max", limit) == 0
    removed = parts._remove

    def crash(out: Path, files: Sequence[Path]) -> None:
        removed(out, files[:1])
        raise OSError("power cut")

    monkeypatch.setattr(parts, "_remove", crash)
    assert run(*COMMAND, *SEED) == 2
    assert [file.name for file in parts.found(Path("out/radii.tsv"))] == ["radii.rank-1.tsv"]
    monkeypatch.setattr(parts, "_remove", removed)
    assert run(*COMMAND, *SEED) == 0
    assert lines() == whole
    assert parts.found(Path("out/radii.tsv")) == []


def test_rows_on_another_machine_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(out: Path, rank: int) -> Path:
        return out.with_name(f"{out.stem}.rank-{rank}{out.suffix}") if rank == 0 else Path("other/radii.rank-1.tsv")

    gathered, opened = threading.Event(), RadiusTable.append

    def wait_for_the_other(table: RadiusTable, row: Any) -> None:
        if table.path.parent.name == "other":
            gathered.set()
        gathered.wait(30)  # the other one has a row, too
        opened(table, row)

    monkeypatch.setattr(RadiusTable, "append", wait_for_the_other)
    monkeypatch.setattr(parts, "path_of", elsewhere)
    first, _ = Threads(2, monkeypatch)(lambda world: catch(lambda: run_in_thread(*COMMAND)))
    assert "have no row in out/radii.tsv: other machines wrote theirs" in str(first)


def test_overwriting_at_each_restart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    results = Threads(2, monkeypatch)(lambda world: catch(lambda: run_in_thread(*COMMAND, "--overwrite")))
    assert all("--overwrite would begin anew whenever torchrun restarts" in str(error) for error in results)
    assert not Path("out").exists()


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
            certify.cli.main()
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
        certify.cli.main()
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


def test_the_table_is_a_radius_table(whole: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert Threads(2, monkeypatch)(lambda world: run_in_thread(*COMMAND, *SEED)) == [0, 0]
    assert run("verify", "out/radii.tsv", "--rows", "4") == 0
    assert run("audit", "out/radii.tsv") == 0
    assert read("out/radii.tsv")["idx"].tolist() == list(range(24))

"""The official files of the well-known datasets: where they are, what they must hash to, and fetching them once."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch
from rich.progress import Progress, TransferSpeedColumn

from maxup_smoothing.data.runtime import console

_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
_CIFAR = "https://www.cs.toronto.edu/~kriz"
_CHUNK = 1 << 16  # pooch's own 1 KiB costs more time in the progress bar than on the network


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file to download.

    Attributes:
        url: Where it is; its last part is the name it is kept under.
        sha256: What its bytes must hash to, in hex.
    """

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file name."""
        return self.url.rsplit("/", 1)[-1]


# What the hashes rest on: the hosts publish MD5 at most, so each SHA-256 is one on which several independent projects
# agree for the same file. It was not computed from a download of our own.
# - mnist: TensorFlow Datasets' url_checksums/mnist.txt, torchvision-ruby, Guild AI;
# - fashion-mnist: TensorFlow Datasets' url_checksums/fashion_mnist.txt (for these very URLs), Flux.jl;
# - cifar10, cifar100: TensorFlow Datasets' url_checksums/cifar10.txt and cifar100.txt, torchvision-ruby, GoMLX.
# After decoding, `official.check` compares the images and labels themselves with fingerprints that were computed.
FILES: dict[str, tuple[RemoteFile, ...]] = {
    "mnist": (
        RemoteFile(
            url=f"{_MNIST}/train-images-idx3-ubyte.gz",
            sha256="440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        RemoteFile(
            url=f"{_MNIST}/train-labels-idx1-ubyte.gz",
            sha256="3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        RemoteFile(
            url=f"{_MNIST}/t10k-images-idx3-ubyte.gz",
            sha256="8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        RemoteFile(
            url=f"{_MNIST}/t10k-labels-idx1-ubyte.gz",
            sha256="f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
    "fashion-mnist": (
        RemoteFile(
            url=f"{_FASHION}/train-images-idx3-ubyte.gz",
            sha256="3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        RemoteFile(
            url=f"{_FASHION}/train-labels-idx1-ubyte.gz",
            sha256="a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        RemoteFile(
            url=f"{_FASHION}/t10k-images-idx3-ubyte.gz",
            sha256="346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        RemoteFile(
            url=f"{_FASHION}/t10k-labels-idx1-ubyte.gz",
            sha256="67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    "cifar10": (
        RemoteFile(
            url=f"{_CIFAR}/cifar-10-binary.tar.gz",
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    "cifar100": (
        RemoteFile(
            url=f"{_CIFAR}/cifar-100-binary.tar.gz",
            sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
}


def fetch(dataset: str, cache: Path | None = None, files: Sequence[RemoteFile] | None = None) -> tuple[Path, ...]:
    """Download what is not in the cache yet; a file is taken from the cache only if its hash is right.

    A file gets its name only once it is whole and its hash is right. So an interrupted download leaves nothing that
    could be mistaken for it, and several processes may fetch at once.

    Args:
        dataset: A key of ``FILES``; any name if ``files`` is given. Files are kept in a folder of this name.
        cache: Folder to keep files in; None for the operating system's cache folder of this program.
        files: What to fetch; None for ``FILES[dataset]``.

    Returns:
        One path per file, in order, all in the folder ``cache/dataset``.

    Raises:
        ValueError: If ``dataset`` has no known files.
        OSError: If a file cannot be downloaded or stored, or has the wrong hash.
    """
    if files is None:
        if dataset not in FILES:
            raise ValueError(f"no download is known for {dataset!r}; known: {', '.join(FILES)}.")
        files = FILES[dataset]
    folder = (pooch.os_cache("maxup-smoothing") if cache is None else cache) / dataset
    pooch.get_logger().setLevel("WARNING")  # its announcements would tear the progress bar
    return tuple(_fetch_file(file, folder, dataset) for file in files)


def _fetch_file(file: RemoteFile, folder: Path, dataset: str) -> Path:
    with console.progress(TransferSpeedColumn()) as progress:
        bar = _Bar(progress, file)
        try:
            path = pooch.retrieve(
                file.url,
                known_hash=f"sha256:{file.sha256}",
                fname=file.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=_CHUNK),
            )
        except (OSError, ValueError) as error:
            raise OSError(
                f"could not download {dataset} from {file.url} into {folder}: {str(error).rstrip('.')}; "
                "try again, or get the official files yourself and pass their folder as --data-root."
            ) from error
    return Path(path)


class _Bar:
    """What pooch wants of a progress bar, on top of rich; it appears when the first bytes arrive."""

    def __init__(self, progress: Progress, file: RemoteFile) -> None:
        self.total = 0  # set by pooch before the first update, 0 if the server does not say
        self._progress = progress
        self._file = file
        self._task = progress.add_task(file.name, total=None, visible=False)

    def update(self, count: int) -> None:
        task = self._progress.tasks[0]
        if not task.visible:
            if not self._progress.console.is_terminal:
                print(f"downloading {self._file.url}", file=sys.stderr, flush=True)
            self._progress.update(self._task, total=self.total or None, visible=True)
        # The last chunk counts in full with pooch, so hold the bar at its end.
        self._progress.update(self._task, completed=min(task.completed + count, self.total or float("inf")))

    def reset(self) -> None:
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        self._progress.stop_task(self._task)

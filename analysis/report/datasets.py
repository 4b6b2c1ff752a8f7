"""The data sets that runs were certified on, looked for on this machine."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pooch

from maxup_smoothing.analysis.report.subjects import ReportRun
from maxup_smoothing.analysis.report.text import shown
from maxup_smoothing.data import class_map, official, registry
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.formats import cifar, folder, idx, npz


class Library:
    """The data sets that runs name, each read once, from under one folder, this program's cache or the package.

    Nothing is ever downloaded, and of a path in a manifest only the last part counts, so that a manifest from
    elsewhere cannot choose what is read on this machine.

    Args:
        root: Where the user keeps data sets; None for nowhere.

    Raises:
        FileNotFoundError: If ``root`` is not a folder.
    """

    def __init__(self, root: Path | None) -> None:
        if root is not None and not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder; the data root must be an existing folder.")
        self._root = root
        self._loaded: dict[tuple[str, str], Dataset | str] = {}

    def of(self, subject: ReportRun) -> Dataset | str:
        """The data that a run was certified on, or the reason why it is not to be had, as a sentence."""
        name, split, wanted = (subject.told("data", key) for key in ("name", "split", "fingerprint"))
        if not (isinstance(name, str) and isinstance(split, str)):
            return "The table has no manifest that tells its data."
        if not isinstance(wanted, str):
            return "The manifest tells no fingerprint of its data, so other images could not be told from them."
        found = self._loaded.get((name, split)) or self._load(name, split)
        self._loaded[name, split] = found
        if isinstance(found, str):
            return found
        if found.fingerprint != wanted:
            return f"The data {shown(name)} that is here has another fingerprint than that which was certified."
        if isinstance(mapping := subject.told("data", "class_map"), Mapping):
            try:
                found, _ = class_map.renumbered(found, class_map.checked(mapping, "the manifest"))
            except ValueError as error:
                return f"The class map of the manifest does not fit the data {shown(name)}: {error}"
        table = subject.run.table
        at = table["idx"].to_numpy()
        if (
            at.min() < 0
            or at.max() >= len(found.labels)
            or not np.array_equal(found.labels[at], table["label"].to_numpy())
        ):
            return f"Rows of the table do not fit the data {shown(name)}: they have other numbers or labels."
        return found

    def _load(self, name: str, split: str) -> Dataset | str:
        try:
            if name == "fashion-sample":
                return registry.load(name, split)
            for root in self._roots(name):
                if name in official.CLASSES:
                    if _is_there(root, name):  # then the registry has nothing to download
                        return registry.load(name, split, root)
                elif (last := _last_part(name)).endswith(".npz") and (root / last).is_file():
                    return npz.read(root / last, split)
                elif last.strip(".") and (root / last).is_dir():
                    return folder.read(root / last, split)
        except (ValueError, OSError) as error:
            return f"The data {shown(name)} could not be read: {error}"
        where = "is not in the data root" if self._root else "is not on this machine as far as was told"
        return (
            f"The data {shown(name)} {where}; give --data-root the folder that holds {_expected(name)}. Nothing is "
            "downloaded."
        )

    def _roots(self, name: str) -> list[Path]:
        roots = [] if self._root is None else [self._root]
        if name in official.CLASSES and (cache := Path(pooch.os_cache("maxup-smoothing")) / name).is_dir():
            roots.append(cache)
        return roots


def _expected(name: str) -> str:
    """What a data root has to hold directly for a data set of this name, as `Library` looks for it."""
    if name in official.CLASSES:
        files = f"{name.replace('-', '_')}.npz"
        if name in ("mnist", "fashion-mnist"):
            return f"{files}, or t10k-images-idx3-ubyte and the other IDX files (also in a folder {name} or with .gz)"
        return f"{files}, or the binary version of {name} (its archive or its unpacked folder)"
    last = shown(_last_part(name))
    return f"the file {last}" if last.endswith(".npz") else f"the folder {last}"


def _is_there(root: Path, name: str) -> bool:
    official_files = idx.find(root, name) if name in ("mnist", "fashion-mnist") else cifar.find(root, name)
    return (npz.find(root, name) or official_files) is not None


def _last_part(name: str) -> str:
    """The file name of a path as any system writes it."""
    return PureWindowsPath(PurePosixPath(name).name).name

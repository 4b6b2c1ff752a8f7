"""Word-level corpora: three text files, tokens separated by white space, an end-of-sentence token after each line.

Language models are compared by their perplexity on Penn Treebank and WikiText-2, which only means something if all
count the same tokens. Both are therefore read as Mikolov et al. (2010) and Merity et al. (2017) did: every line, empty
ones too, ends in one ``<eos>``, and the vocabulary is that of the training file. A corpus that goes by a known name is
compared with the known tokens.

Nothing is downloaded: Penn Treebank is under licence (LDC), and WikiText-2 has no official address any more. Put the
three files of each into a folder ``ptb`` or ``wikitext-2`` in the data root, or name a folder of your own.
"""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

EOS, UNKNOWN = "<eos>", "<unk>"
SPLITS = ("train", "valid", "test")

# SHA-256 of the tokens with a space between. They number 929,589, 73,760 and 82,430 of 10,000 types, and 2,088,628,
# 217,646 and 245,569 of 33,278.
TOKENS: Mapping[str, Mapping[str, str]] = {
    "ptb": {
        "train": "1312f07b5540034ea2f2f76d9261fd3d659b2cc644fb1fb4a2445d52c0c42eec",
        "valid": "3aa2368e8a91af24394c8f23a347150600fdf08a8a04bd7e7313ff15f7f6508c",
        "test": "fd2505cc168558c8fe0b8544e3b2e997c8a8ba8a32b193ab49a80e228ae9d8a6",
    },
    "wikitext-2": {
        "train": "44cf9c78d1150937ab6c1341689cbd0443784f2182766d24e559359a6b45d58f",
        "valid": "e163383e62f6a4d2fb0b7266edfc5938d2f99ab74a335dc2049e68560ac9e30b",
        "test": "61455d0fbed012535f9f6c2342e3f86f931c7e96ad7b888486acb21c6a19ff18",
    },
}

_FILES = ("{}.txt", "ptb.{}.txt", "wiki.{}.tokens")


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A text in numbers.

    Attributes:
        name: Of the corpus, or its folder as given.
        words: The vocabulary, in the order in which the training text has it first.
        train: int64, (N,): the number of each token; so ``valid`` and ``test``.
        fingerprint: SHA-256 of all tokens.
    """

    name: str
    words: tuple[str, ...]
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    fingerprint: str

    @property
    def eos(self) -> int:
        """Number of the end-of-sentence token, which every text has before its first word."""
        return self.words.index(EOS)


def load(name: str, root: Path | None = None) -> Corpus:
    """Read a corpus.

    Words of ``valid`` and ``test`` that the training text lacks are read as ``<unk>`` where it has that token.

    Args:
        name: ``ptb`` or ``wikitext-2``, sought under ``root``, or the path of a folder with ``train.txt``,
            ``valid.txt`` and ``test.txt``. A folder that is called like a known corpus is ``./name``.
        root: Where the user keeps data sets; None for nowhere.

    Raises:
        ValueError: If the name is unknown, or a file is not UTF-8 or has no tokens. Also if the tokens are not those of
            the corpus that it is named after, or if words are unknown and there is no ``<unk>``.
        FileNotFoundError: If a folder or file is missing.
    """
    if name in TOKENS:
        if root is None:
            raise FileNotFoundError(
                f"{name} is not downloaded; put its three text files into a folder {name} and give the folder around "
                "it as --data-root or DATA_ROOT, or give a folder of your own as the corpus."
            )
        folder = root / name
    else:
        folder = Path(name)
        if not folder.is_dir():
            near = difflib.get_close_matches(name, TOKENS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(
                f"unknown corpus {name!r}; {hint}Valid: {', '.join(TOKENS)}, or the path of a folder with train.txt, "
                "valid.txt and test.txt."
            )
    tokens = {split: _tokens(_file(folder, split)) for split in SPLITS}
    hashes = {split: hashlib.sha256(" ".join(tokens[split]).encode()).hexdigest() for split in SPLITS}
    for split, expected in TOKENS.get(name, {}).items():
        if hashes[split] != expected:
            raise ValueError(
                f"{_file(folder, split)}: not the tokens of {name} ({split}): {len(tokens[split])} tokens, fingerprint "
                f"{hashes[split][:16]}..., expected {expected[:16]}...; get the standard files, or, if it is a text of "
                f"your own, give its path as the corpus instead of the name {name}."
            )
    number = {word: index for index, word in enumerate(dict.fromkeys(tokens["train"]))}
    streams = {split: _numbers(tokens[split], number, _file(folder, split)) for split in SPLITS}
    fingerprint = hashlib.sha256("".join(hashes.values()).encode()).hexdigest()
    return Corpus(name=name, words=tuple(number), fingerprint=fingerprint, **streams)


def _file(folder: Path, split: str) -> Path:
    names = [pattern.format(split) for pattern in _FILES]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has no {split} text; it must hold {', '.join(names[:-1])} or {names[-1]}.")


def _tokens(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); convert it.") from error
    # Not splitlines: it also cuts at form feeds and the line separators of Unicode, where no <eos> belongs.
    lines = text.removesuffix("\n").split("\n") if text else []
    tokens = [token for line in lines for token in (*line.split(), EOS)]
    if len(tokens) == len(lines):
        raise ValueError(f"{path} has no words.")
    return tokens


def _numbers(tokens: list[str], number: dict[str, int], path: Path) -> NDArray[np.int64]:
    unknown = [token for token in dict.fromkeys(tokens) if token not in number]
    if unknown and UNKNOWN not in number:
        raise ValueError(
            f"{path} has {len(unknown)} words that the training text lacks, such as {unknown[0]!r}; write "
            f"{UNKNOWN} for rare words in all three files."
        )
    return np.array([number[token] if token in number else number[UNKNOWN] for token in tokens], dtype=np.int64)

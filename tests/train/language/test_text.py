"""Which tokens a corpus has, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from tiny_language import write

from maxup_smoothing.data import text

KNOWN = {"ptb": (929_589, 73_760, 82_430, 10_000), "wikitext-2": (2_088_628, 217_646, 245_569, 33_278)}


@pytest.mark.parametrize("name", KNOWN)
def test_known_corpora_have_the_standard_token_counts(name: str) -> None:
    root = Path(os.environ.get("DATA_ROOT", "")) if os.environ.get("DATA_ROOT") else None
    if root is None or not (root / name).is_dir():
        pytest.skip(f"DATA_ROOT has no folder {name}")
    corpus = text.load(name, root)
    assert (len(corpus.train), len(corpus.valid), len(corpus.test), len(corpus.words)) == KNOWN[name]


def test_every_line_ends_in_one_eos_and_words_are_numbered_as_they_come(tmp_path: Path) -> None:
    for split in text.SPLITS:
        (tmp_path / f"{split}.txt").write_text(" a b\n\nb\x0cc  a\u2028d\n", encoding="utf-8")
    corpus = text.load(str(tmp_path))
    assert corpus.words == ("a", "b", "<eos>", "c", "d")
    assert corpus.train.tolist() == [0, 1, 2, 2, 1, 3, 0, 4, 2]
    assert corpus.eos == 2
    assert np.array_equal(corpus.train, corpus.test)


def test_a_missing_newline_at_the_end_changes_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    before = text.load(str(folder))
    (folder / "train.txt").write_text((folder / "train.txt").read_text() + "the end")
    longer = text.load(str(folder))
    (folder / "train.txt").write_text((folder / "train.txt").read_text() + "\n")
    assert text.load(str(folder)).fingerprint == longer.fingerprint != before.fingerprint


def test_unknown_words_are_read_as_unk_where_there_is_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (folder / "test.txt").write_text("the zebra\n")
    corpus = text.load(str(folder))
    assert [corpus.words[number] for number in corpus.test] == ["the", "<unk>", "<eos>"]


def test_bad_corpora_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown corpus 'ptbb'; did you mean ptb\?"):
        text.load("ptbb")
    with pytest.raises(FileNotFoundError, match="ptb is not downloaded"):
        text.load("ptb")
    with pytest.raises(FileNotFoundError, match="has no train text"):
        text.load(str(tmp_path))
    folder = write(tmp_path / "ptb")
    with pytest.raises(ValueError, match=r"train.txt: not the tokens of ptb \(train\)"):
        text.load("ptb", tmp_path)
    (folder / "valid.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"valid.txt is not UTF-8 text \(byte 0\)"):
        text.load(str(folder))
    (folder / "valid.txt").write_text("\n\n")
    with pytest.raises(ValueError, match=r"valid.txt has no words"):
        text.load(str(folder))
    for split in text.SPLITS:
        (folder / f"{split}.txt").write_text("a\n" if split == "train" else "b\n")
    with pytest.raises(ValueError, match=r"has 1 words that the training text lacks, such as 'b'"):
        text.load(str(folder))

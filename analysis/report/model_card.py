"""A model card of one certified run, in Markdown, with the metadata that the Hugging Face hub reads.

The metadata is a YAML block. Its ``model-index`` has the task, the data set and the metrics, as the hub's evaluation
results want them. Everything that comes from files is written as a quoted string or in a code span, so that nothing in
it is taken for YAML, Markdown or HTML.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from maxup_smoothing.analysis.report.notices import notices
from maxup_smoothing.analysis.report.numbers import acr_text, chosen_radii, false_text
from maxup_smoothing.analysis.report.overview import caveats
from maxup_smoothing.analysis.report.subjects import UNKNOWN, ReportRun
from maxup_smoothing.analysis.report.text import plain_name, shown
from maxup_smoothing.certify.logs.settings import beyond_l2, norm_of
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, fraction_text, radius_text
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.evidence import guarantee, limitations
from maxup_smoothing.certify.tables.summary import certified_accuracy
from maxup_smoothing.data.official import CLASSES
from maxup_smoothing.data.runtime.atomic import file_sha256

#: A line by which a card is known as one of ours, which may be replaced.
MARK = "<!-- written by `python -m analysis report --model-card` -->"
_DIGITS = 4


def build_card(subject: ReportRun) -> str:
    """The card of a run.

    Args:
        subject: The run, see `analysis.report.subjects.load_subjects`.

    Raises:
        ValueError: If its radii cannot be l2 and it tells no other norm.
    """
    table = subject.run.table
    if (doubt := beyond_l2(table)) is not None:
        raise ValueError(f"{subject.name}: {doubt}")
    rows = certified_accuracy(table, chosen_radii([subject])).to_dict("records")
    found = [notice for notice in notices([subject]) if notice.level != "note"]
    parts = [
        f"---\n{yaml_text(_metadata(subject, rows))}---",
        MARK,
        f"# {_code(subject.name)}: certified robustness",
        f"{guarantee(table)} A certified accuracy is the share of all images whose predicted class is right and holds "
        "within the radius; abstentions and wrong predictions count against it.",
        "## What was certified",
        _listed(_facts(subject)),
        "## Certified accuracy",
        _accuracies(rows),
        _listed(_results(subject)),
        "## How to verify",
        "The numbers follow from the radius table alone; its manifest says of which network, images and noise it is. "
        "With `maxup-smoothing`:",
        _commands(subject),
        _listed(_hashes(subject)),
        "## What is not guaranteed",
        "\n".join(f"- {_escaped(text)}" for text in _cautions(subject)),
    ]
    if found:
        parts += ["## Faults and warnings", "\n".join(f"- {one.level}: {_code(one.text)}" for one in found)]
    return "\n\n".join(parts) + "\n"


def yaml_text(value: Mapping[str, Any]) -> str:
    """A mapping of mappings, lists, texts and numbers as YAML in block style; texts are quoted.

    Raises:
        ValueError: If a number is nan or an infinity.
    """
    return "".join(f"{line}\n" for line in _yaml(value))


def _yaml(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _entry(f"{name}:", one)
    else:
        for one in value:
            first, *rest = _yaml(one) if isinstance(one, Mapping | list) else [_scalar(one)]
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)


def _entry(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list) and value:
        yield name
        yield from (f"  {line}" for line in _yaml(value))
    else:
        yield f"{name} {_scalar(value)}"


def _scalar(value: Any) -> str:
    """A number, or a text in double quotes, with all escaped that is not ASCII, as every version of YAML reads it."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a model card holds finite numbers, got {value}.")
        text = repr(value)
        return text if "e" not in text or "." in text else text.replace("e", ".0e")  # 1e-05 is a text in YAML 1.1
    if not isinstance(value, str):
        return json.dumps(value)
    return "".join(
        character if character.isascii() else f"\\U{ord(character):08x}"
        for character in json.dumps(value, ensure_ascii=False)
    )


def _metadata(subject: ReportRun, rows: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    name = _data_name(subject)
    norm = norm_of(subject.run.table) or "l2"
    settings = {key: subject.recorded(key) for key in ("sigma", "n0", "n", "alpha", "procedure", "bound")}
    known = {key: value for key, value in settings.items() if isinstance(value, int | float | str)}
    metrics: list[dict[str, Any]] = []
    for row in rows:
        radius = float(row["radius"])
        metrics.append(
            {
                "type": "accuracy",
                "name": f"certified accuracy at {norm} radius {radius_text(radius)}",
                "value": float(fraction_text(row["certified"], row["images"], _DIGITS)),
                "args": {
                    "norm": norm,
                    "radius": radius,
                    "certified": int(row["certified"]),
                    "images": int(row["images"]),
                    "interval_95_low": float(floor_text(row["low"], _DIGITS)),
                    "interval_95_high": float(ceil_text(row["high"], _DIGITS)),
                    **known,
                },
            }
        )
    acr = float(floor_text(subject.run.summary.acr, _DIGITS))
    metrics.append(
        {"type": "average_certified_radius", "name": f"average certified {norm} radius", "value": acr, "args": known}
    )
    result = {
        "task": {"type": "image-classification", "name": "Certified image classification"},
        "dataset": {
            "type": name.replace("-", "_") if name in CLASSES else "custom",
            "name": name,
            **({"split": split} if isinstance(split := subject.told("data", "split"), str) else {}),
        },
        "metrics": metrics,
    }
    return {
        "library_name": "maxup-smoothing",
        "pipeline_tag": "image-classification",
        "tags": ["certified-robustness", "randomized-smoothing"],
        **({"datasets": [name.replace("-", "_")]} if name in CLASSES else {}),
        "metrics": ["accuracy"],
        "model-index": [{"name": plain_name(subject.name), "results": [result]}],
    }


def _data_name(subject: ReportRun) -> str:
    """The data set without the folder it lay in: a card is published."""
    told = subject.told("data", "name")
    return plain_name(PurePath(told).name)[:200] if isinstance(told, str) and PurePath(told).name else UNKNOWN


def _facts(subject: ReportRun) -> list[tuple[str, str]]:
    split, protocol = subject.told("data", "split"), subject.told("protocol", "name")
    return [
        ("data", _data_name(subject)),
        ("split and protocol", f"{shown(split or UNKNOWN, 60)}, {shown(protocol or UNKNOWN, 60)}"),
        ("images", f"{subject.run.summary.images:,}"),
        ("network", shown(subject.told("model", "arch") or UNKNOWN, 100)),
        ("arithmetic", shown(subject.told("classifier", "dtype") or UNKNOWN, 60)),
        ("noise sigma, in pixels scaled to [0, 1]", subject.setting("sigma")),
        ("samples that choose the class (n0)", subject.setting("n0")),
        ("samples that prove it (n)", subject.setting("n")),
        ("failure probability of each certificate (alpha)", subject.setting("alpha")),
        ("procedure and bound", f"{subject.setting('procedure')}, {subject.setting('bound')}"),
        ("norm of the radii", norm_of(subject.run.table) or UNKNOWN),
    ]


def _accuracies(rows: Sequence[Mapping[Any, Any]]) -> str:
    lines = [
        "| radius | certified | accuracy | 95 % interval | all such images, at least |",
        "|---:|---:|---:|---|---:|",
    ]
    for row in rows:
        bound = "unknown" if math.isnan(row["population"]) else floor_text(row["population"], _DIGITS)
        lines.append(
            f"| {radius_text(row['radius'])} | {row['certified']} of {row['images']} "
            f"| {fraction_text(row['certified'], row['images'], _DIGITS)} "
            f"| {floor_text(row['low'], _DIGITS)} to {ceil_text(row['high'], _DIGITS)} | {bound} |"
        )
    return "\n".join(lines)


def _results(subject: ReportRun) -> list[tuple[str, str]]:
    summary = subject.run.summary
    return [
        ("average certified radius, with 95 % interval; it grows with n and alpha", acr_text(subject)),
        ("wrong predictions, certified as another class", f"{summary.wrong} of {summary.images}"),
        ("abstentions", f"{summary.abstained} of {summary.images}"),
        ("false certificates", false_text(subject)),
        ("audit of the table", subject.audit.verdict),
    ]


def _commands(subject: ReportRun) -> str:
    """Commands by names of our own choosing: those of files would have to be quoted for every shell."""
    file = subject.path.name if re.fullmatch(r"[\w.-]+", subject.path.name, re.ASCII) else "radii.tsv"
    commands = {
        f"certify show {file}": "the numbers above",
        f"certify audit {file}": "whether the radii are possible",
        f"certify verify {file} --data DATA MODEL": "draws rows again from the recorded seed",
        f"certify show {file} --format json": "all rows, for other programs",
    }
    width = max(map(len, commands))
    return "\n".join(["```sh", *(f"{command:<{width}}  # {what}" for command, what in commands.items()), "```"])


def _hashes(subject: ReportRun) -> list[tuple[str, str]]:
    beside = manifests.manifest_path(subject.path)
    return [
        ("SHA-256 of the table", file_sha256(subject.path) if subject.path.is_file() else UNKNOWN),
        ("SHA-256 of its manifest", file_sha256(beside) if beside.is_file() else UNKNOWN),
        ("SHA-256 of the weights", shown(subject.told("classifier", "weights_sha256") or UNKNOWN)),
        ("fingerprint of the data", shown(subject.told("data", "fingerprint") or UNKNOWN)),
    ]


def _cautions(subject: ReportRun) -> list[str]:
    return [*limitations(subject.run.manifest), *caveats([subject], ["not read for a card"])]


def _listed(pairs: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- {name}: {_code(text)}" for name, text in pairs)


def _code(text: str) -> str:
    """A text in a code span, in which nothing is Markdown or HTML."""
    plain = plain_name(text).replace("`", "'").strip()
    return f"`{plain}`" if plain else "``` ```"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", plain_name(text))

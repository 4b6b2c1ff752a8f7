"""A radius table with one more column: the radius within which a class stays among the first k.

All other columns keep their meaning, ``radius`` too. A reader that does not know the column reads a radius table.
"""

from dataclasses import dataclass

from maxup_smoothing.certify.statistics.top_k import TOP_K, TopK, format_top_k
from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.certify.tables.fields import as_attributes
from maxup_smoothing.certify.tables.row import COLUMNS, Row, format_row, parse_fields


@dataclass(frozen=True, kw_only=True)
class TopKRow(Row):
    """A row with what it proves about the first k classes; see `certify.tables.restated.among_first`."""

    top_k: TopK


def _format(row: TopKRow) -> str:
    return f"{format_row(row)}\t{format_top_k(row.top_k)}"


def _parse(line: str) -> TopKRow:
    return TopKRow(**as_attributes(parse_fields(line, TopKTable.columns)))


class TopKTable(DurableTable[TopKRow]):
    """A radius table with the column ``top_k`` open for writing; see `certify.tables.durable`."""

    columns = (*COLUMNS, TOP_K)
    kind = "table of top-k radii"
    format = staticmethod(_format)
    parse = staticmethod(_parse)

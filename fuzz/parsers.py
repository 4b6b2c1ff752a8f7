"""All parsers by name."""

from collections.abc import Mapping

from fuzz import data_files, model_files, table_files
from fuzz.parser import Parser

PARSERS: Mapping[str, Parser] = {
    parser.name: parser for part in (data_files, table_files, model_files) for parser in part.PARSERS
}

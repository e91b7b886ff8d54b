"""Readers: a file of prompts as people have it, read as it was meant, or refused in one sentence.

Each reader returns a table with the column `prompt`, the NSFW columns that the file has, and `fault`: why a row cannot
be used, else "". Its index is the number of the line (of the row, in a file without lines), and is named so.
"""
import codecs
import csv
import io
import json
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowException, parquet

from npkit.errors import NpkitError
from npkit.numbers import read_number
from npkit.study.contents import user_path

NSFW_COLUMNS = ("prompt_nsfw", "image_nsfw")  # DiffusionDB's metadata.parquet; image_nsfw is 2.0 for blurred pictures
MISSING = {"", "-", "na", "n/a", "<na>", "nan", "none", "null"}  # written for a score that is not known, in any case
FLAGS = {"true": 1.0, "false": 0.0}
MAX_FAULTY_SHARE = 0.01  # a larger share of unusable rows says that the file is not what its suffix says
MAX_REASON = 260         # characters: a sentence, not the file
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",  # first: UTF-32's mark begins as UTF-16's
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
UNDECODED = re.compile("[\udc80-\udcff]")  # bytes that are no UTF-8, as "surrogateescape" keeps them
CONTROLS = re.compile("[\x00-\x08\x0e-\x1f]")  # no text of letters has them
LINE_END = re.compile(r"\r\n|\r|\n")  # not str.splitlines, which also ends lines at characters inside of prompts
KINDS = {bytes: "bytes", list: "a list", dict: "an object", bool: "true or false", int: "a number", float: "a number"}


# 1. Bytes to text ----------------------------------------------------------------------------------------------------
def decode(path: Path) -> tuple[str, str]:
    """Return a file's text and the name of its encoding: what its byte-order mark says, else UTF-8, else UTF-16.

    UTF-16 without a mark is recognised by its NUL bytes, where one byte order alone gives clean text. Latin-1,
    Windows-1252 and other encodings of one byte a letter cannot be told from each other and are not guessed: bytes
    that are no UTF-8 become lone surrogates, which `undecoded` finds.
    """
    content = path.read_bytes()
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return content.decode(encoding), encoding.upper()
    text = content.decode("utf-8-sig", "surrogateescape")
    if 50 * content.count(0) > len(content) or (0 in content and UNDECODED.search(text)):
        clean = [(other, encoding.upper()) for encoding in ("utf-16-le", "utf-16-be")
                 if (other := clean_text(content, encoding))]
        if len(clean) == 1:
            return clean[0]
        num_controls = 0 if UNDECODED.search(text) else len(CONTROLS.findall(text))  # half of Cyrillic in UTF-16
        if 3 * content.count(0) > len(content) or 10 * num_controls > len(text):
            raise ValueError("too many of its bytes are 0 or control characters, as in damaged UTF-16, or UTF-32, "
                             "without a byte-order mark: save the file as UTF-8")
    return text, "UTF-8"


def clean_text(content: bytes, encoding: str) -> str:
    """Return the decoded text if it has line ends and nothing that no text has (controls, unassigned), else "".

    Private-use characters pass: fonts of symbols have theirs there. Read in the wrong byte order, line feeds are none.
    """
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        return ""
    kinds = {unicodedata.category(char) for char in set(text) - set("\t\n\r")}
    return text if LINE_END.search(text) and not kinds & {"Cc", "Cn", "Cs"} else ""


def undecoded(text: str) -> str:
    """Return what is wrong with the bytes of a line and what to do about it, "" if nothing is."""
    byte = UNDECODED.search(text)
    if not byte:
        return ""
    advice = ("as it has control characters too, it is UTF-16 without a byte-order mark, or no text (a picture, an "
              "archive)" if CONTROLS.search(text) else
              "from the encoding it has (iconv -f WINDOWS-1252 -t UTF-8 if that is Western European)")
    return (f"is not UTF-8 (byte 0x{ord(byte.group()) - 0xdc00:02x} behind {brief(text[:byte.start()][-20:])}): save "
            f"the file as UTF-8; {advice}")


def brief(value: object, limit: int = 60) -> str:
    """Return the beginning of a value as Python writes it."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


# 2. Text, JSON Lines, parquet ----------------------------------------------------------------------------------------
def read_lines(path: Path) -> pd.DataFrame:
    """Return a text file's lines as prompts."""
    text, encoding = decode(path)
    lines = LINE_END.split(text)
    lines = lines if lines[-1] else lines[:-1]
    return table({"prompt": lines, "fault": map(undecoded, lines)}, "line", range(1, len(lines) + 1), encoding)


def read_json(path: Path) -> pd.DataFrame:
    """Return the objects of a JSON Lines file, or of a file that is one JSON array of objects."""
    text, encoding = decode(path)
    rows = parse(text) if text.lstrip().startswith("[") and not undecoded(text) else None
    if isinstance(rows, list) and all(isinstance(row, dict) for row in rows):
        return objects(list(map(unambiguous, rows)), "row", range(1, len(rows) + 1), encoding)
    lines = {number: line for number, line in enumerate(LINE_END.split(text), 1) if line.strip()}
    return objects([parse_line(line) for line in lines.values()], "line", lines, encoding)


class JSONObject(dict):
    """An object that knows which of its keys stand there twice: of those, json.loads would keep the last value."""

    def __init__(self, pairs: Sequence[tuple[str, object]]):
        super().__init__(pairs)
        self.twice = {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}


def parse(text: str) -> object:
    """Return the value of a JSON text, or the exception that says it is none."""
    try:  # tabs and NUL inside of strings are tidied later
        return json.loads(text.lstrip("\ufeff"), strict=False, object_pairs_hook=JSONObject)
    except (ValueError, RecursionError) as error:
        return error


def unambiguous(row: JSONObject) -> tuple[dict, str]:
    """Return an object and "", or an empty object and why nobody knows which prompt or score it has."""
    doubled = [name for name in ("prompt", *NSFW_COLUMNS) if name in row.twice]
    return ({}, f"has the key {doubled[0]!r} twice: keep one") if doubled else (row, "")


def parse_line(line: str) -> tuple[dict, str]:
    """Return a line's object and "", or an empty object and what is wrong."""
    row = parse(line)
    if isinstance(row, dict) and not undecoded(line):
        return unambiguous(row)
    kind = "no JSON" if isinstance(row, Exception) else 'no object such as {"prompt": "a cat, oil"}'
    return {}, undecoded(line) or f"is {kind}: {brief(line)}"


def objects(rows: Sequence[tuple[dict, str]], unit: str, index: Iterable[int], encoding: str) -> pd.DataFrame:
    """Return the columns we use of JSON objects, each with what is wrong with its line."""
    names = [name for name in NSFW_COLUMNS if any(name in row for row, _ in rows)]
    sound = [row for row, fault in rows if not fault]
    if sound and not any("prompt" in row for row in sound):
        raise no_prompts(sound[0])
    columns = {name: [row.get(name) for row, _ in rows] for name in ("prompt", *names)}
    return table(columns | {"fault": [fault for _, fault in rows]}, unit, index, encoding)


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the prompt and NSFW columns of a parquet file as Python's own values."""
    with parquet.ParquetFile(path) as file:
        names = wanted(file.schema_arrow.names)
        columns = {name: file.read(columns=[name])[name].to_pylist() for name in names}
    return table(columns, "row", range(1, len(columns["prompt"]) + 1), "parquet")


def table(columns: dict[str, Iterable], unit: str, index: Iterable[int], encoding: str) -> pd.DataFrame:
    """Return columns as a table whose index counts lines or rows; a file without any is empty."""
    frame = pd.DataFrame({"fault": ""} | {name: pd.Series(list(values), dtype=object)
                                          for name, values in columns.items()})
    if frame.empty:
        raise ValueError("it is empty: it must hold at least one prompt")
    frame.index = pd.Index(list(index), name=unit)
    frame.attrs["encoding"] = encoding
    return frame


def wanted(names: Sequence[str]) -> list[str]:
    """Return those of a table's columns that we read: `prompt` and the NSFW scores, each at most once."""
    found = [name for name in ("prompt", *NSFW_COLUMNS) if name in names]
    if "prompt" not in found:
        raise no_prompts(names)
    for name in found:
        if list(names).count(name) > 1:
            raise ValueError(f"it has {list(names).count(name)} columns {name!r}: keep one")
    return found


def no_prompts(names: Iterable[str]) -> ValueError:
    """Return the error of a table without prompts."""
    return ValueError(f"it has no column 'prompt'; columns found: {', '.join(map(str, names))[:150] or 'none'}")


# 3. CSV --------------------------------------------------------------------------------------------------------------
def read_csv(path: Path) -> pd.DataFrame:
    """Return the prompt and NSFW columns of a CSV file divided by commas, semicolons or tabs, as its header shows.

    Every row must have as many fields as the header: in any other row a prompt has lost its end, or columns have
    moved. Where `prompt` is the only column, a line with bare commas is one prompt.
    """
    text, encoding = decode(path)
    lines = io.StringIO(text.lstrip("\ufeff"), newline="").readlines()
    for number, line in enumerate(lines, 1):
        if fault := undecoded(line):
            raise ValueError(f"line {number} {fault}")
    delimiter, header = find_header(lines)
    names, rows = wanted(header), dict(csv_rows(lines, delimiter, header))
    columns = {name: [row[header.index(name)] for row in rows.values()] for name in names}
    if rows and all(prompt.startswith("'") for prompt in columns["prompt"]):
        raise ValueError(f"line {min(rows)}: the prompts are quoted by ', CSV quotes by \": as it stands, "
                         "each prompt would begin with '")
    return table(columns, "line", rows, encoding)


def find_header(lines: Sequence[str]) -> tuple[str, list[str]]:
    """Return the delimiter under which the first row has a column `prompt`, and the names of the columns."""
    csv.field_size_limit(2**31 - 1)  # a long prompt is dropped as such later, and costs no other
    start = next((number for number, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise ValueError("it is empty: it must hold at least one prompt")
    errors, headers = [], {}
    for delimiter in ",;\t":
        try:  # a quoted name may go on in the next line
            row = next(csv.reader(islice(lines, start, None), delimiter=delimiter, strict=True, skipinitialspace=True))
        except csv.Error as error:
            errors.append(no_csv(start + 1, error))
        else:
            headers[delimiter] = [" ".join(name.strip("\ufeff").split()) for name in row]
    found = [(delimiter, names) for delimiter, names in headers.items() if "prompt" in names]
    if errors and not found:
        raise errors[0]
    return found[0] if found else (",", headers[","])


def no_csv(number: int, error: csv.Error) -> ValueError:
    """Return the error of a row, begun at line `number`, whose quotes are not those of CSV."""
    return ValueError(f"line {number} is no CSV ({error}): a prompt with commas, quotes or line ends stands in double "
                      'quotes, a quote inside of it is written twice: "a ""big"" cat, oil"')


def csv_rows(lines: Sequence[str], delimiter: str, header: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each row behind the header: the line at which it begins, and its fields."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)  # `1, "a cat, oil"`
    start, num_rows = 1, 0
    try:
        for row in reader:
            own_lines = lines[start - 1:reader.line_num]
            is_blank = not any(map(str.strip, own_lines))  # blank lines are no rows
            if num_rows and not is_blank:
                yield start, whole_row(row, header, start, own_lines)
            num_rows += not is_blank
            start = reader.line_num + 1
    except csv.Error as error:
        raise no_csv(start, error) from None


def whole_row(row: list[str], header: Sequence[str], start: int, lines: Sequence[str]) -> list[str]:
    """Return a row of as many fields as the header; the whole line where that has one and no quote begins the line."""
    if len(row) == len(header):
        return row
    if len(header) == 1 and len(lines) == 1 and not lines[0].lstrip().startswith('"'):
        return [lines[0].rstrip("\r\n")]
    raise ValueError(f"line {start} has {len(row)} field{'s' * (len(row) != 1)}, the header has {len(header)} "
                     f"({', '.join(header)[:60]}): put each prompt in double quotes, so that no comma or line end "
                     "divides it, and end no row with a comma")


READERS = {".jsonl": read_json, ".csv": read_csv, ".parquet": read_parquet, ".txt": read_lines}


# 4. Any file ---------------------------------------------------------------------------------------------------------
def read_file(source: str) -> pd.DataFrame:
    """Return a corpus file's rows: `prompt` (text or None), `nsfw` (the worst score, NaN without one) and `fault`."""
    path = user_path(source)
    if not os.path.isfile(path):
        where = "is a folder, not a file" if os.path.isdir(path) else (
            "is no ordinary file" if os.path.exists(path) else "does not exist")
        raise NpkitError(f"corpus file {path} {where} (data.source; looked in {Path.cwd()})")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise NpkitError(f"corpus file {path}: the name of a corpus ends in {', '.join(READERS)}")
    try:
        return checked(reader(path))
    except (ValueError, OverflowError, OSError, ArrowException) as error:  # a date that Python cannot hold overflows
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise NpkitError(f"corpus file {path} cannot be read as {path.suffix}: {reason}") from error


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose prompts are texts and whose scores are numbers; raise where too many cannot be used."""
    unit, num_rows = frame.index.name, len(frame)
    told = [fault or not_text(prompt) for fault, prompt in zip(frame["fault"], frame["prompt"])]
    faults = [f"{unit} {number} {fault}" if fault else "" for number, fault in zip(frame.index, told)]
    faulty = list(filter(None, faults))
    if len(faulty) > MAX_FAULTY_SHARE * num_rows:
        raise ValueError(faulty[0] + (f" ({len(faulty)} of {num_rows} {unit}s cannot be used)" if faulty[1:] else ""))
    columns = [scores(frame[name]) for name in NSFW_COLUMNS if name in frame]
    worst = pd.concat(columns, axis=1).max(axis=1) if columns else np.nan
    prompts = [prompt if isinstance(prompt, str) and not fault else None
               for prompt, fault in zip(frame["prompt"], faults)]
    return frame[[]].assign(prompt=pd.Series(prompts, frame.index, dtype=object), nsfw=worst, fault=faults)


def is_missing(value: object) -> bool:
    """Say whether a value is None or not a number (NaN)."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def not_text(prompt: object) -> str:
    """Return what is wrong with a prompt that is no text; "" for a text, and where there is none."""
    if isinstance(prompt, str) or is_missing(prompt):
        return ""
    kind = next((name for kind, name in KINDS.items() if isinstance(prompt, kind)), type(prompt).__name__)
    if isinstance(prompt, list) and prompt and all(isinstance(turn, dict) for turn in prompt):
        kind = "a list of chat turns"
    return f"has a prompt that is {kind}, not text: {brief(prompt)}"


def scores(column: pd.Series) -> pd.Series:
    """Return NSFW scores as numbers, NaN where one is missing; raise at the first value that is no score."""
    numbers = column.map(score).astype(float)
    wrong = column[numbers < 0]
    if len(wrong):
        raise ValueError(f"{column.index.name} {wrong.index[0]} has {column.name} {brief(wrong.iloc[0])}, which is no "
                         "score: write a number from 0 to 1 such as 0.25 (2 marks a blurred picture), or nothing")
    return numbers


def score(value: object) -> float:
    """Return one NSFW score, NaN where it is missing, and -1 for what is no score."""
    written = str(value).strip().lower()
    if is_missing(value) or written in MISSING:
        return np.nan
    try:
        number = FLAGS[written] if written in FLAGS else read_number(written)
    except ValueError:
        return -1.0
    return number if 0 <= number <= 2 else -1.0

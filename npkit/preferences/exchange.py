"""Exchange: votes as CSV and parquet, out and in again, so that a class can put its files together.

A spreadsheet runs a cell that begins with `=` as a formula. So a CSV has an apostrophe before such a text, which
reading takes away again; a parquet file needs none.
"""
import os
from pathlib import Path

import pandas as pd

from npkit.errors import NpkitError
from npkit.preferences.pairs import Pair
from npkit.preferences.votes import PAIR_FIELDS, VERSION, VOTE_FIELDS, VoteFile, check_vote, open_votes, votes_in
from npkit.study.artifacts import write_whole

COLUMNS = ["format", *VOTE_FIELDS, *PAIR_FIELDS]
NUMBERS = {"format", "seconds", "seed"}  # the other columns are texts
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'")  # full-width ones too
SUFFIXES = (".csv", ".parquet")


def export(votes: pd.DataFrame, path: Path | str) -> Path:
    """Write a table of votes (`VoteFile.table`) as .csv or .parquet, by the name's ending, whole or not at all."""
    path = Path(path)
    check_suffix(path)
    rows = votes.assign(format=VERSION)[COLUMNS]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        safe = rows.assign(**{name: rows[name].map(guarded) for name in COLUMNS if name not in NUMBERS})
        write_whole(path, safe.to_csv(index=False, lineterminator="\n"))
    else:
        draft = path.with_name(f".{path.name}.draft")
        rows.to_parquet(draft, index=False)
        os.replace(draft, path)
    return path


def read_table(path: Path | str) -> pd.DataFrame:
    """Return the votes of a .csv or .parquet file as a table, each of them possible and none of them twice.

    Raises where the file is of another version or kind, with the number of the first row that is wrong.
    """
    path = Path(path)
    check_suffix(path)
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, na_filter=False) if path.suffix == ".csv" else (
            pd.read_parquet(path))
    except FileNotFoundError:
        raise NpkitError(f"there is no file of votes at {path}") from None
    except (OSError, ValueError) as error:  # pandas' and pyarrow's errors of a file that is no table
        raise NpkitError(f"{path} cannot be read as a table of votes: {str(error).partition(chr(10))[0]}") from None
    check_columns(path, rows)
    if path.suffix == ".csv":
        rows = rows.assign(**{name: rows[name].map(unguarded) for name in COLUMNS if name not in NUMBERS})
    rows = with_numbers(path, rows)
    check_rows(path, rows)
    return rows[[*VOTE_FIELDS, *PAIR_FIELDS]]


def merge(path: Path | str, file: VoteFile) -> int:
    """Add the votes of a .csv or .parquet file to a file of votes, all or none; return how many were new."""
    return file.merge(read_table(path))


def votes_from(path: Path | str) -> pd.DataFrame:
    """Return the votes of any file of votes: .csv, .parquet, or what the panel has written (SQLite)."""
    path = Path(path)
    if path.suffix in SUFFIXES:
        return read_table(path)
    return VoteFile(path).table()


def pairs_of(votes: pd.DataFrame) -> list[Pair]:
    """Return the pairs of a table of votes, each once."""
    return [Pair(*row) for row in votes[PAIR_FIELDS].drop_duplicates().itertuples(index=False)]


def file_of(votes: pd.DataFrame, path: Path | str) -> VoteFile:
    """Return a file of votes at `path` that holds the pairs and votes of a table."""
    file = open_votes(path, pairs_of(votes))
    file.merge(votes)
    return file


# 1. What a file may hold ---------------------------------------------------------------------------------------------
def check_suffix(path: Path) -> None:
    """Raise where a name says neither CSV nor parquet."""
    if path.suffix not in SUFFIXES:
        raise NpkitError(f"votes are exported and imported as {' or '.join(SUFFIXES)}, got {path.name!r}")


def check_columns(path: Path, rows: pd.DataFrame) -> None:
    """Raise where a table is of another version, or has other columns."""
    formats = {str(found) for found in rows["format"]} if "format" in rows else {"none"}
    if formats - {str(VERSION)}:
        raise NpkitError(f"{path} holds votes of format {', '.join(sorted(formats - {str(VERSION)}))}, and this npkit "
                         f"reads format {VERSION}: export them with the npkit that wrote them")
    missing, other = set(COLUMNS) - set(rows), set(rows) - set(COLUMNS)
    if missing or other:
        raise NpkitError(f"{path} is no table of votes: it "
                         + " and ".join(filter(None, [f"lacks {', '.join(sorted(missing))}" if missing else "",
                                                      f"has {', '.join(sorted(map(str, other)))} too many" if other
                                                      else ""])))


def with_numbers(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with their numbers as numbers; raise where one is none."""
    seconds, seeds = (pd.to_numeric(rows[name], errors="coerce") for name in ("seconds", "seed"))
    for name, numbers in (("seconds", seconds), ("seed", seeds.where(seeds % 1 == 0))):
        if numbers.isna().any():
            row = int(numbers.isna().to_numpy().argmax())
            raise NpkitError(f"{path}, row {row + 1}: {name} is {rows[name].iloc[row]!r}, which is no number that it "
                             "may be")
    return rows.assign(seconds=seconds.astype(float), seed=seeds.astype("int64"))


def check_rows(path: Path, rows: pd.DataFrame) -> None:
    """Raise at the first row that is no possible vote, is a second one, or names a pair that it does not hold."""
    seen = set()
    pairs = [Pair(*row) for row in rows[PAIR_FIELDS].itertuples(index=False)]
    for number, (vote, pair) in enumerate(zip(votes_in(rows), pairs, strict=True), start=1):
        try:
            check_vote(vote, pair)
        except NpkitError as error:
            raise NpkitError(f"{path}, row {number}: {error}") from None
        if vote.pair != pair.name:
            raise NpkitError(f"{path}, row {number}: pair {vote.pair!r} is not the one that the row describes "
                             f"({pair.name}): was a prompt or a variant changed?")
        if (key := (vote.rater, vote.pair, vote.question)) in seen:
            raise NpkitError(f"{path}, row {number}: a second vote of {vote.rater!r} on {vote.question!r} about pair "
                             f"{vote.pair}")
        seen.add(key)


# 2. Formulas ---------------------------------------------------------------------------------------------------------
def guarded(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def unguarded(text: str) -> str:
    """Return the text that `guarded` was given."""
    return text.removeprefix("'")

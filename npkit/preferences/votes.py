"""Votes: a file that keeps what raters chose, a vote a transaction, so that no kill loses more than one.

SQLite with a rollback journal: the file is whole at any moment, several processes may vote into it, and one file is
all there is to copy. (Its other way, WAL, keeps votes in a second file beside it, which is easily left behind.)
"""
import math
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from datetime import datetime
from pathlib import Path

import pandas as pd

from npkit.errors import NpkitError
from npkit.preferences.pairs import QUESTIONS, Pair

VERSION = 1  # of the file's format; raise it when a column changes
APPLICATION = 0x6E706B76  # "npkv": SQLite's field for whose file it is
HEADER, MAGIC = 100, b"SQLite format 3\0"  # bytes of SQLite's header, and how it begins
BUSY_SECONDS = 60  # how long one process waits until another has written
CHOICES = ("left", "right", "tie")
MAX_NAME = 80  # characters of a rater's name
MAX_SECONDS = 7 * 24 * 3600.0  # nobody looks at two pictures for longer
TABLES = """
CREATE TABLE pairs (pair TEXT PRIMARY KEY, prefix TEXT NOT NULL, seed INTEGER NOT NULL, first TEXT NOT NULL,
    second TEXT NOT NULL, first_prompt TEXT NOT NULL, second_prompt TEXT NOT NULL);
CREATE TABLE votes (rater TEXT NOT NULL, pair TEXT NOT NULL REFERENCES pairs, question TEXT NOT NULL,
    left TEXT NOT NULL, choice TEXT NOT NULL CHECK (choice IN ('left', 'right', 'tie')),
    seconds REAL NOT NULL CHECK (seconds >= 0), versions TEXT NOT NULL, time TEXT NOT NULL,
    PRIMARY KEY (rater, pair, question))"""


@dataclass(frozen=True)
class Vote:
    """What one rater chose: of which pair, asked what, which variant stood on the left, and how long it took."""
    rater: str
    pair: str  # its name
    question: str  # a key of QUESTIONS
    left: str  # the variant whose picture stood on the left
    choice: str  # left, right or tie
    seconds: float  # from the pictures' appearance to the choice
    versions: str  # what painted the pictures and asked
    time: str  # ISO 8601, with the offset to UTC


VOTE_FIELDS, PAIR_FIELDS = ([field.name for field in fields(kind)] for kind in (Vote, Pair))


# 1. What a vote may be -----------------------------------------------------------------------------------------------
def tidy_rater(name: str) -> str:
    """Return a rater's name with single spaces, composed; raise where it is empty, too long or not to be printed."""
    tidied = " ".join(unicodedata.normalize("NFC", str(name)).split())
    if not tidied or len(tidied) > MAX_NAME or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in tidied):
        raise NpkitError(f"a rater's name has 1 to {MAX_NAME} characters that can be printed, got "
                         f"{len(tidied)}: {tidied[:MAX_NAME]!r}")
    return tidied


def check_vote(vote: Vote, pair: Pair | None) -> None:
    """Raise where a vote is impossible: a pair that is not asked about, or a value that no question leads to."""
    if pair is None:
        raise NpkitError(f"there is no pair {vote.pair!r} among those that this file asks about")
    if vote.rater != tidy_rater(vote.rater):
        raise NpkitError(f"a rater's name has no spaces at its ends and no two in a row, got {vote.rater!r}")
    allowed = {"question": tuple(QUESTIONS), "choice": CHOICES, "left": pair.variants}
    for name, values in allowed.items():
        if getattr(vote, name) not in values:
            raise NpkitError(f"the {name} of a vote on pair {pair.name} is one of {', '.join(values)}, got "
                             f"{getattr(vote, name)!r}")
    if not (isinstance(vote.seconds, int | float) and math.isfinite(vote.seconds)
            and 0 <= vote.seconds <= MAX_SECONDS):
        raise NpkitError(f"a vote takes between 0 and {MAX_SECONDS:,.0f} seconds, got {vote.seconds!r}")
    check_time(vote.time)


def check_time(text: str) -> None:
    """Raise where a time is not ISO 8601 with its offset to UTC: without one nobody knows when it was."""
    try:
        offset = datetime.fromisoformat(text).utcoffset()
    except (TypeError, ValueError):
        offset = None
    if offset is None:
        raise NpkitError(f"the time of a vote is written like 2026-11-29T10:30:00+00:00, got {text!r}")


# 2. The file ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class VoteFile:
    """A file of pairs and votes; every call opens it, does one thing, whole or not at all, and closes it."""
    path: Path

    def pairs(self) -> dict[str, Pair]:
        """Return the pairs that are asked about, by name."""
        with self.reading() as connection:
            return _pairs(connection)

    def add(self, vote: Vote) -> None:
        """Keep one vote: when this returns it is on the disk."""
        self.add_all([vote])

    def add_all(self, votes: Iterable[Vote]) -> None:
        """Keep several votes, all or none; a second vote of a rater on the same question is refused."""
        with self.writing() as connection:
            pairs = _pairs(connection)
            for vote in votes:
                check_vote(vote, pairs.get(vote.pair))
                if _known(connection, vote):
                    raise NpkitError(f"{vote.rater!r} has already answered {vote.question!r} about pair {vote.pair}: a "
                                     "rater has one vote a question")
                _insert(connection, "votes", astuple(vote))

    def answered(self, rater: str) -> set[tuple[str, str]]:
        """Return the (name of a pair, question) that a rater has answered."""
        with self.reading() as connection:
            return set(connection.execute("SELECT pair, question FROM votes WHERE rater = ?", (rater,)))

    def table(self) -> pd.DataFrame:
        """Return all votes, a row each in the order of their coming, with what their pairs are."""
        with self.reading() as connection:
            rows = connection.execute(f"SELECT {', '.join(f'votes.{name}' for name in VOTE_FIELDS)}, "
                                      f"{', '.join(f'pairs.{name}' for name in PAIR_FIELDS)} "
                                      "FROM votes JOIN pairs USING (pair) ORDER BY votes.rowid").fetchall()
        return pd.DataFrame(rows, columns=[*VOTE_FIELDS, *PAIR_FIELDS])

    def merge(self, votes: pd.DataFrame) -> int:
        """Add the votes of a table (`exchange.read_table`), all or none; return how many were new.

        A vote that is here already, the same in every column, is passed over. Raises where a rater has voted
        otherwise here, or where a pair is not asked about here.
        """
        added = 0
        with self.writing() as connection:
            pairs = _pairs(connection)
            for vote in votes_in(votes):
                check_vote(vote, pairs.get(vote.pair))
                known = _known(connection, vote)
                if known and known != vote:
                    raise NpkitError(f"{vote.rater!r} has voted otherwise here on {vote.question!r} about pair "
                                     f"{vote.pair}: a rater has one vote a question, and nothing was added")
                if not known:
                    _insert(connection, "votes", astuple(vote))
                    added += 1
        return added

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Open the file to read."""
        check_version(self.path, must_exist=True)
        with explained(self.path, "read"), closing(_connect(self.path)) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction, which takes its turn after those of other processes."""
        check_version(self.path, must_exist=True)
        with (explained(self.path, "written"), closing(_connect(self.path)) as connection, transaction(connection)):
            yield connection


def open_votes(path: Path | str, pairs: Sequence[Pair] = ()) -> VoteFile:
    """Return the file of votes at `path`, made where there is none; `pairs` are asked about from now on, too."""
    path = Path(path)
    check_version(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with explained(path, "opened"), closing(_connect(path)) as connection, transaction(connection):
        if not connection.execute("PRAGMA user_version").fetchone()[0]:  # inside the transaction: made once
            for statement in TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.executemany(f"INSERT OR IGNORE INTO pairs VALUES ({', '.join('?' * (1 + len(PAIR_FIELDS)))})",
                               [(pair.name, *astuple(pair)) for pair in pairs])
    return VoteFile(path)


def check_version(path: Path, must_exist: bool = False) -> None:
    """Raise where a file is none of ours or of another version; its bytes are looked at, and nothing is changed."""
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER)
    except FileNotFoundError:
        if must_exist:
            raise NpkitError(f"there is no file of votes at {path}") from None
        return
    except OSError as error:
        raise NpkitError(f"the votes file {path} cannot be read: {error.strerror or error}") from None
    if not header:  # made this moment by another process, or empty
        return
    found, owner = (int.from_bytes(header[start:start + 4], "big") for start in (60, 68))
    if not header.startswith(MAGIC) or len(header) < HEADER or owner != APPLICATION:
        raise NpkitError(f"{path} is no votes file of npkit; it was not changed")
    if found != VERSION:
        raise NpkitError(f"{path} is a votes file of version {found}, and this npkit reads version {VERSION}: export "
                         "it with the npkit that wrote it; it was not changed")


def votes_in(table: pd.DataFrame) -> Iterator[Vote]:
    """Yield the votes of a table."""
    for row in table[VOTE_FIELDS].itertuples(index=False):
        yield Vote(*row)


def table_of(votes: Iterable[Vote], pairs: Iterable[Pair]) -> pd.DataFrame:
    """Return votes that are in no file as the table that `VoteFile.table` returns of a file."""
    by_name = {pair.name: asdict(pair) for pair in pairs}
    return pd.DataFrame([asdict(vote) | by_name[vote.pair] for vote in votes], columns=[*VOTE_FIELDS, *PAIR_FIELDS])


# 3. SQLite -----------------------------------------------------------------------------------------------------------
def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)  # transactions are begun by hand
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the file's one place for a writer; what the block did stays whole, or is undone where it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path, action: str) -> Iterator[None]:
    """Turn an error of SQLite into one sentence."""
    try:
        yield
    except sqlite3.Error as error:
        raise NpkitError(f"the votes file {path} cannot be {action} ({error}); the votes in it are kept. Is the disk "
                         "full, another process writing for long, or the folder not yours?") from error


def _pairs(connection: sqlite3.Connection) -> dict[str, Pair]:
    rows = connection.execute(f"SELECT pair, {', '.join(PAIR_FIELDS)} FROM pairs ORDER BY rowid")
    return {name: Pair(*facts) for name, *facts in rows}


def _known(connection: sqlite3.Connection, vote: Vote) -> Vote | None:
    """Return the vote that this rater has given to this question, if there is one."""
    asked = f"SELECT {', '.join(VOTE_FIELDS)} FROM votes WHERE rater = ? AND pair = ? AND question = ?"
    row = connection.execute(asked, (vote.rater, vote.pair, vote.question)).fetchone()
    return Vote(*row) if row else None


def _insert(connection: sqlite3.Connection, table: str, row: Sequence) -> None:
    connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


"""Reward cache: the scores of painted prompts on disk, one file for every study, safe for processes side by side."""
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from npkit.errors import NpkitError
from npkit.study.artifacts import home

BUSY_SECONDS = 60  # how long one process waits until another has written
FULL = {"SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_SHMSIZE"}  # of a full disk or a size limit


class CacheSize(NamedTuple):
    """How much a cache holds: scores by judge, and the bytes of its file with SQLite's logs beside it."""
    num_scores: dict[str, int]
    num_bytes: int


class ScoreCache:
    """Scores on disk (SQLite), safe against a kill: what was put in is there when the program starts again.

    Several processes may read and write one file. A put that fails (a full disk, say) raises, and leaves the file
    readable as it was before.
    """

    def __init__(self, path: Path | str = ":memory:"):
        self.path = path
        with self.explained("opened"):
            self.connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
            with suppress(sqlite3.OperationalError):  # busy, or a network file system: slower without, and as safe
                self.connection.execute("PRAGMA journal_mode = WAL")  # readers need not wait for the writer
            self.connection.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, judge TEXT, score REAL) "
                                    "WITHOUT ROWID")

    def get(self, key: str) -> float | None:
        """Return the score stored under `key`, None where there is none."""
        with self.explained("read"):
            row = self.connection.execute("SELECT score FROM scores WHERE key = ?", (key,)).fetchone()
        return row and row[0]

    def put(self, judge: str, scores: Iterable[tuple[str, float]]) -> None:
        """Store a judge's (key, score) pairs, all or none; the judge's name is stored for `size` only."""
        rows = [(key, judge, score) for key, score in scores]
        with self.explained("written"), self.connection:
            self.connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)

    def size(self) -> CacheSize:
        """Return how many scores of each judge there are, most first, and what they take on disk."""
        with self.explained("read"):
            counts = self.connection.execute("SELECT judge, COUNT(*) FROM scores GROUP BY judge ORDER BY 2 DESC, 1")
            files = [Path(f"{self.path}{suffix}") for suffix in ("", "-wal", "-shm")]
            return CacheSize(dict(counts), sum(file.stat().st_size for file in files if file.exists()))

    def clear(self) -> int:
        """Remove every score, give the space back and return how many there were; other processes may go on."""
        with self.explained("cleared"):
            with self.connection:
                removed = self.connection.execute("DELETE FROM scores").rowcount
            self.connection.execute("VACUUM")  # a DELETE leaves the file as long as it was
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return removed

    def __len__(self) -> int:
        return sum(self.size().num_scores.values())

    @contextmanager
    def explained(self, action: str) -> Iterator[None]:
        """Turn an error of SQLite into one sentence that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            advice = ("the disk is full: free some space, or remove this file while no study runs" if name in FULL else
                      "remove the file if it is no score cache" if name == "SQLITE_NOTADB" else
                      "is another process writing for long, or the folder not yours?")
            raise NpkitError(f"the score cache {self.path} cannot be {action} ({error}); what it held is kept; "
                             f"{advice}") from error


def cache_path() -> Path:
    """Return the file that PPO, evaluation and ablations of every profile and seed share."""
    return home() / "artifacts" / "scores.sqlite"


def shared_cache() -> ScoreCache:
    """Return the cache at `cache_path`, which every study shares: no picture is painted and judged twice."""
    cache_path().parent.mkdir(parents=True, exist_ok=True)
    return ScoreCache(cache_path())


def size_report(cache: ScoreCache) -> str:
    """Return a cache's place, the scores of each judge and the bytes, as `npkit cache` prints them."""
    num_scores, num_bytes = cache.size()
    rows = [*num_scores.items(), ("all judges", sum(num_scores.values()))]
    lines = [f"{judge:<12}{count:>12,} scores" for judge, count in rows]
    return "\n".join([f"score cache {cache.path}", *lines, f"{'on disk':<12}{num_bytes:>12,} bytes"])

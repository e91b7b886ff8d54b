"""Engine: the runs of an ablation, one row each in one parquet file; what is there is not run again.

A row is kept under a key made of everything that decides it: arm, seed, settings, code, models and the artifacts it
reads. A changed program finds its rows missing, and the old ones stay in the file until they are made anew.
"""
import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
import pyarrow.parquet
from filelock import FileLock, Timeout

from npkit.ablations.arms import Ablation, Arm
from npkit.errors import NpkitError
from npkit.scoring.images import identity, is_hub_id
from npkit.study.artifacts import Run, git_commit, hide_progress_bars, home, open_run
from npkit.study.code import code_of, short_hash
from npkit.study.contents import fingerprint

FORMAT = 1  # of the parquet file; raise it when the meaning of a column changes
KNOWN = ("arm", "seed", "key", "seconds", "made", "commit", "settings")  # columns that every row has
FURTHER = ("ensemble", "rewriters", "transfer_to")  # settings that name models, which are told by their content
LOCK_SECONDS = 5


@dataclass(frozen=True)
class Trial:
    """One run of an ablation: an arm with a training seed, under the settings that hold for all of its arms."""
    ablation: Ablation
    arm: Arm
    seed: int
    profile: str
    common: Mapping[str, object]

    def run(self, stage: str, own: bool = True, **more: object) -> Run:
        """Return the run of a stage under this arm's settings, or with `own` False under those of all arms."""
        settings = {**self.common, **(self.arm.settings if own else {}), **more}
        return open_run(stage, self.profile, self.seed, settings)

    @cached_property
    def key(self) -> str:
        """Short SHA-256 of everything that decides this trial's row."""
        config = self.run("evaluation").config
        sections = {name: asdict(getattr(config, name)) for name in ("ablation", "neurologic", "evaluation")}
        parts = [FORMAT, self.arm.name, self.seed, dict(self.arm.options), sections,
                 [self.run("ppo", own).key for own in (True, False)], code_of(self.ablation.measure).digest,
                 [identity(name) if is_hub_id(name) else fingerprint(name)
                  for setting in FURTHER for name in split_names(getattr(config.ablation, setting))]]
        return short_hash(json.dumps(parts, sort_keys=True, default=str))


def trials_of(ablation: Ablation, profile: str, seeds: Sequence[int], settings: Mapping[str, object]) -> list[Trial]:
    """Return the trials of an ablation, seed by seed, so that every seed that is done has all arms."""
    clash = sorted(set(settings) & {name for arm in ablation.arms for name in arm.settings})
    if clash:
        raise NpkitError(f"{clash[0]} is what the ablation {ablation.name} changes from arm to arm: leave it out of "
                         "--set")
    config = open_run("ppo", profile, 0, settings).config.ablation
    named = split_names(getattr(config, ablation.named_by)) if ablation.named_by else []
    arms = [*ablation.arms, *map(Arm, named)]
    if len({arm.name for arm in arms}) < len(arms):
        raise NpkitError(f"ablation.{ablation.named_by} names what is an arm already, or one thing twice: "
                         f"{', '.join(named)}; the arms are {', '.join(arm.name for arm in ablation.arms)}")
    return [Trial(ablation, arm, seed, profile, dict(settings)) for seed in seeds for arm in arms]


def split_names(text: str) -> list[str]:
    """Return the names of a setting that has several, separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


# 1. The file ---------------------------------------------------------------------------------------------------------
def path_of(ablation: Ablation, profile: str) -> Path:
    """Return where the rows of an ablation are, or will be."""
    return home() / "artifacts" / profile / "ablations" / f"{ablation.name}.parquet"


def read_rows(path: Path) -> pd.DataFrame:
    """Return all rows of a file, none where there is no file; one that this program did not write raises."""
    if not path.exists():
        return pd.DataFrame(columns=list(KNOWN))
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise NpkitError(f"{path} cannot be read as parquet ({type(error).__name__}): move it away, and the runs are "
                         "made anew") from None
    version = (table.schema.metadata or {}).get(b"npkit_ablation_format", b"none").decode()
    if version != str(FORMAT) or not set(KNOWN) <= set(table.column_names):
        raise NpkitError(f"{path} is of another version (format {version}, this program writes {FORMAT}): move it "
                         "away, or use the program that wrote it; nothing was changed")
    return table.to_pandas()


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Write the file beside its place and rename it: it is whole or the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pandas(rows, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"npkit_ablation_format": b"%d" % FORMAT})
    draft = path.with_name(f".{path.name}.draft")
    try:
        pyarrow.parquet.write_table(table, draft)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise NpkitError(f"{path} cannot be written ({error.strerror or error}); the rows before are kept") from error


def rows_of(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return the rows of those trials that are done, in their order; rows of a changed program do not count."""
    first = trials[0]
    rows = read_rows(path_of(first.ablation, first.profile)).drop_duplicates("key", keep="last").set_index("key")
    done = [trial.key for trial in trials if trial.key in rows.index]
    return rows.loc[done].reset_index()


# 2. What is missing --------------------------------------------------------------------------------------------------
def split(trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
    """Return the trials that are done and those that are missing."""
    keys = set(rows_of(trials)["key"])
    return [each for each in trials if each.key in keys], [each for each in trials if each.key not in keys]


def estimate(trials: Sequence[Trial], missing: Sequence[Trial]) -> float:
    """Return the minutes that the missing runs should take: by the arm's own rows where there are any."""
    if not missing:
        return 0.0
    ablation = trials[0].ablation
    rows = read_rows(path_of(ablation, trials[0].profile))
    seconds = rows.groupby("arm")["seconds"].median()
    return sum(seconds.get(trial.arm.name, ablation.seconds) for trial in missing) / 60


def announcement(trials: Sequence[Trial]) -> str:
    """Return what is there, what is missing and how long that should take, in one line."""
    done, missing = split(trials)
    seeds = len({trial.seed for trial in trials})
    size = f"{len(trials) // seeds} arms x {seeds} seed{'s' if seeds > 1 else ''}"
    text = f"{trials[0].ablation.name}: {size}, {len(done)} of {len(trials)} runs done"
    return f"{text}, about {estimate(trials, missing):.0f} minutes to go" if missing else text


# 3. Run them ---------------------------------------------------------------------------------------------------------
def run_missing(trials: Sequence[Trial], say: Callable[[str], None]) -> list[str]:
    """Run what is missing, one row after another; return a sentence for each run that could not be made.

    A run that fails costs itself: those before it are kept, those after it are made.
    """
    hide_progress_bars()
    path, failures = path_of(trials[0].ablation, trials[0].profile), []
    if not split(trials)[1]:
        return failures  # nothing is written, and the folder need not be ours
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NpkitError(f"{path.parent} cannot be made ({error.strerror}): set NPKIT_HOME to a folder of yours"
                         ) from None
    with only_one(path):
        missing = split(trials)[1]
        for number, trial in enumerate(missing, start=1):
            title = f"{number} of {len(missing)}  {trial.arm.name}, seed {trial.seed}"
            try:
                row = timed_row(trial)
            except NpkitError as error:
                failures.append(f"{trial.arm.name}, seed {trial.seed}: {error}")
                say(f"{title}  failed: {error}")
                continue
            write_rows(path, added(read_rows(path), row))
            say(f"{title}  {row['seconds']:.0f} s")
    return failures


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock of an ablation's file, or say that another process does."""
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise NpkitError(f"another process is at work on {path}: wait for it") from None


def timed_row(trial: Trial) -> dict[str, object]:
    """Return the row of a trial: what was measured, and what it rests on."""
    module, _, function = trial.ablation.measure.partition(":")
    start = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):  # trainings print their progress; standard output is the table's
        found = getattr(importlib.import_module(module), function)(trial)
    return {"arm": trial.arm.name, "seed": trial.seed, "key": trial.key,
            "seconds": round(time.monotonic() - start, 1), "made": time.strftime("%Y-%m-%d %H:%M"),
            "commit": git_commit(), "settings": json.dumps({**trial.common, **trial.arm.settings}), **found}


def added(rows: pd.DataFrame, row: Mapping[str, object]) -> pd.DataFrame:
    """Return the rows with one more; the one of the same arm, seed and settings by an older program gives way."""
    new, what = pd.DataFrame([row]), ["arm", "seed", "settings"]
    kept = rows[(rows[what] != new.iloc[0][what]).any(axis=1)]
    return pd.concat([kept, new], ignore_index=True) if len(kept) else new



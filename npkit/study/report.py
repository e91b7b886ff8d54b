"""Report: one self-contained page a study: findings, tables, figures, examples, settings, versions and commands."""
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npkit.errors import NpkitError
from npkit.study.artifacts import NOTEBOOKS, STAGES, Run, home, open_run, write_whole

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Record:
    """A finding that the report shows beside the lessons', such as that of an ablation."""
    title: str
    question: str
    answer: str  # plain sentences, computed from the table
    table: "DataFrame | None" = None
    figure: bytes | None = None  # a PNG
    caption: str = ""
    command: str = ""  # that makes it again


def find_folder(name: str) -> Path:
    """Return the run folder a user names by its path or by its name in `runs/`."""
    for folder in (Path(name), home() / "runs" / name):
        if os.path.isfile(folder / "run.json"):
            return folder.resolve()
    known = sorted(path.parent.name for path in (home() / "runs").glob("*/run.json"))
    raise NpkitError(f"no run {name!r}; known in {home() / 'runs'}: {', '.join(known) or 'none'}")


def runs_of(folder: Path) -> list[Run]:
    """Return the runs of every stage with the settings of a run folder."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        choice = facts["profile"], facts["seed"], dict(facts["settings"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise NpkitError(f"{folder / 'run.json'} is damaged ({type(error).__name__}): npkit run writes it anew"
                         ) from error
    return [open_run(stage, *choice) for stage in STAGES]


def result_table(run: Run) -> str:
    """Return the text of the result table of the study that `run` belongs to; "" before notebook 06."""
    artifact = Run("evaluation", run.config, run.seed, run.settings).artifact
    if artifact is None:
        return ""
    from npkit.findings.evaluation import text_table
    return text_table(artifact.table("table"))


def write_report(folder: Path, ablations: Sequence[Record] = ()) -> Path:
    """Write `index.html` and the HTML of every executed notebook into a run folder; return the path of the index.

    The index holds all of the report; the lessons' pages beside it are what a student reads.
    """
    from npkit.study.reporting import pages, sections
    runs = runs_of(folder)
    for copy in executed_copies(folder):
        page = copy.with_suffix(".html")
        if not page.exists() or page.stat().st_mtime < copy.stat().st_mtime:
            write_whole(page, pages.notebook_html(copy))
    if has_glossary := (NOTEBOOKS / "GLOSSARY.md").exists():
        write_whole(folder / "GLOSSARY.html", pages.glossary_html())
    index = folder / "index.html"
    template = pages.templates().get_template("index.html.j2")
    write_whole(index, template.render(**sections.study(runs, folder), has_glossary=has_glossary,
                                       lessons=[sections.lesson_section(run, folder) for run in runs],
                                       ablations=[sections.ablation_section(record) for record in ablations]))
    return index


def executed_copies(folder: Path) -> list[Path]:
    """Return the executed notebooks of a run folder, in the order of the study."""
    copies = (folder / f"{stage.notebook}.ipynb" for stage in STAGES.values())
    return [copy for copy in copies if copy.exists()]


def headline(run: Run, count: int = 3) -> str:
    """Return the first metrics of a stage's artifact in one line; of a missing one what changed since the last."""
    if run.artifact is None:
        changed = run.changed()
        more = f" and {len(changed) - count} more" if len(changed) > count else ""
        return f"changed since the last: {', '.join(changed[:count])}{more}" if changed else ""
    return "; ".join(f"{name} {value:,.6g}" for name, value in list(run.artifact.metrics.items())[:count])


def age(run: Run) -> str:
    """Return how long ago a stage's artifact was made, or "missing"."""
    if run.artifact is None:
        return "missing"
    minutes = (time.time() - (run.folder / "manifest.json").stat().st_mtime) / 60
    return f"{minutes:.0f} min ago" if minutes < 120 else f"{minutes / 60:.0f} h ago" if minutes < 2880 else (
        f"{minutes / 1440:.0f} days ago")

"""Sections: what the report says of each stage and of the study, as the templates take it."""
import html
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pandas as pd

from npkit.study.artifacts import NOTEBOOKS, STAGES, Run, home, versions
from npkit.study.reporting.answers import QUESTIONS, answer
from npkit.study.reporting.examples import examples_of, tables_of
from npkit.study.reporting.pages import captions, data_uri, lesson

if TYPE_CHECKING:
    from npkit.study.report import Record

Found = TypeVar("Found")
NUMBER = r"[+-]?\d[\d.,]*(?:e[+-]?\d+)?%?"
INTERVAL_CELL = re.compile(rf"<td>({NUMBER}) \[({NUMBER}), ({NUMBER})\]</td>")
NUMBER_CELL = re.compile(rf"<td>({NUMBER}|-)</td>")
MINUS = "\N{MINUS SIGN}"


class Table(NamedTuple):
    """A table as HTML."""
    html: str


class Picture(NamedTuple):
    """A figure: its address, which holds the picture itself, and its words."""
    source: str
    caption: str


# 1. Typesetting ------------------------------------------------------------------------------------------------------
def typeset(frame: pd.DataFrame, caption: str = "", index: bool = True) -> Table:
    """Return a table of texts and numbers as HTML: numbers on the right, intervals smaller, those around 0 pale."""
    shown = frame.map(lambda cell: f"{cell:,.6g}" if isinstance(cell, float) and not pd.isna(cell) else cell)
    with pd.option_context("display.max_colwidth", None):
        text = shown.to_html(border=0, index=index, na_rep="\N{EN DASH}", classes=None)
    has_signs = "<td>+" in text  # a table of differences
    text = INTERVAL_CELL.sub(lambda found: interval(*found.groups(), has_signs), text)
    text = NUMBER_CELL.sub(lambda found: f'<td class="n">{minus(found[1])}</td>', text)
    text = text.replace(' style="text-align: right;"', "")
    return Table((f'<p class="caption">{html.escape(caption)}</p>\n' if caption else "") + text)


def interval(mean: str, low: str, high: str, is_difference: bool) -> str:
    """Return the cell of a number with its interval; a difference whose sign the interval leaves open is pale."""
    ends = [float(end.replace(",", "").strip("%")) for end in (low, high)]
    is_open = is_difference and mean[0] in "+-" and ends[0] <= 0 <= ends[1]
    return (f'<td class="n{" open" if is_open else ""}"><span class="v">{minus(mean)}</span> '
            f'<span class="ci">[{minus(low)}, {minus(high)}]</span></td>')


def minus(number: str) -> str:
    """Return a number with the typographer's minus."""
    return number.replace("-", MINUS)


def read_from(run: Run, function: Callable[[Run], Found], nothing: Found) -> Found:
    """Return what a function reads in a stage's artifact, `nothing` where that or one of its files is missing."""
    try:
        return function(run) if run.artifact else nothing
    except FileNotFoundError:  # of a folder that somebody tidied by hand
        return nothing


# 2. Stages -----------------------------------------------------------------------------------------------------------
def lesson_section(run: Run, folder: Path) -> dict[str, object]:
    """Return all that the index says of one stage; what a study does not have yet is empty."""
    notebook = STAGES[run.stage].notebook
    copy = folder / f"{notebook}.ipynb"
    source = copy if copy.exists() else NOTEBOOKS / copy.name
    content = json.loads(source.read_text(encoding="utf-8")) if source.exists() else None
    artifact, title = run.artifact, lesson(content)[0] if content else notebook
    return {
        "stage": run.stage, "number": int(notebook[:2]), "title": title,
        "question": QUESTIONS.get(run.stage, notebook.replace("_", " ")), "answer": answer(run),
        "page": f"{notebook}.html" if copy.exists() else "",
        "tables": [typeset(frame, caption) for caption, frame in read_from(run, tables_of, [])],
        "figures": figures_of(run, captions(content) if content else {}) if artifact or copy.exists() else [],
        "examples": None if (found := read_from(run, examples_of, None)) is None else typeset(found, index=False),
        "facts": facts(run, content if copy.exists() else None),
        "command": run.command(run.stage),
        "settings": settings_of(artifact.manifest["config"]) if artifact else [],
        "metrics": [(name, minus(f"{value:,.6g}")) for name, value in artifact.metrics.items()] if artifact else []}


def figures_of(run: Run, words: Mapping[str, str]) -> list[Picture]:
    """Return every figure that a stage's notebook saved, but for the map of the course, in the order of the lesson."""
    folder = home() / "artifacts" / run.config.name / "figures" / run.label
    number = STAGES[run.stage].notebook[:2]
    paths = {path.stem: path for path in sorted(folder.glob(f"{number}_*.png")) if path.stem != f"{number}_map"}
    order = [name for name in words if name in paths] + [name for name in paths if name not in words]
    return [Picture(data_uri(paths[name].read_bytes(), "png"),
                    capitalised(words.get(name) or name[3:].replace("_", " "))) for name in order]


def capitalised(text: str) -> str:
    """Return a text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def facts(run: Run, copy: Mapping | None) -> list[tuple[str, str]]:
    """Return when and from what a stage's artifact was made, and in how many seconds."""
    artifact, rows = run.artifact, []
    if artifact:
        made = time.localtime((run.folder / "manifest.json").stat().st_mtime)
        rows = [("artifact", f"{run.stage} {artifact.key}"), ("made", time.strftime("%Y-%m-%d %H:%M", made)),
                ("commit", artifact.manifest["git_commit"]),
                ("seconds for the artifact", f"{artifact.manifest['seconds']:,.1f}"),
                ("from", pairs(artifact.manifest["inputs"]) or "nothing"),
                ("versions", pairs(artifact.manifest["versions"]))]
    else:
        rows = [("artifact", "missing")]
    if copy:
        rows.append(("seconds for the notebook", f"{copy['metadata']['npkit']['seconds']:,.1f}"))
    return rows


def pairs(names: Mapping[str, str]) -> str:
    """Return names and what belongs to them in one line."""
    return ", ".join(f"{name} {value}" for name, value in names.items())


def settings_of(config: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the settings of a stage as they stand in its manifest, with their values as texts."""
    rows = [(f"{section}.{name}", value) for section, part in config.items()
            for entry in (part if isinstance(part, list) else [part]) for name, value in named(section, entry)]
    return [(name, json.dumps(value) if not isinstance(value, str) else value or "(empty)") for name, value in rows]


def named(section: str, entry: Mapping[str, object]) -> list[tuple[str, object]]:
    """Return the settings of one section; those of a judge carry its name."""
    owner = f"{entry['name']}." if section == "judges" else ""
    return [(f"{owner}{name}", value) for name, value in entry.items() if not (owner and name == "name")]


# 3. The study --------------------------------------------------------------------------------------------------------
def study(runs: Sequence[Run], folder: Path) -> dict[str, object]:
    """Return what the index says of the whole study."""
    first = runs[0]
    changed = ", ".join(f"{name} = {value}" for name, value in first.settings.items())
    done = [run for run in runs if run.artifact]
    seconds = sum(run.artifact.manifest["seconds"] for run in done)
    rows = [("profile", first.config.name), ("seed", str(first.seed)), ("changed settings", changed or "none"),
            ("lessons done", f"{len(done)} of {len(runs)}"), ("minutes for all artifacts", f"{seconds / 60:.1f}"),
            *((f"{name} (now)", number) for name, number in versions().items())]
    return {"title": f"NeuroPrompts study: {first.config.name}, seed {first.seed}", "profile": first.config.name,
            "num_done": len(done), "facts": rows,
            "settings_note": f"Changed settings: {changed}." if changed else "The profile's own settings.",
            "commands": [first.command(), f"npkit report {folder.name}", f"npkit compare {folder.name} OTHER_RUN"]}


def ablation_section(record: "Record") -> dict[str, object]:
    """Return a record as the template takes it."""
    figure = Picture(data_uri(record.figure, "png"), record.caption or record.title) if record.figure else None
    return {"title": record.title, "question": record.question, "answer": record.answer, "command": record.command,
            "figure": figure, "table": typeset(record.table) if record.table is not None else None}

"""Report: one page per study with the result table, the main figures and every executed notebook."""
import base64
import html
import json
import os
import re
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from string import Template

from npkit.errors import NpkitError
from npkit.study.artifacts import NOTEBOOKS, STAGES, Run, home, open_run, write_whole

CODE_OR_FORMULA = re.compile(r"""
    ```.*?``` | `[^`\n]*` |                                     # code, where a dollar is a dollar
    \$\$(?P<display>.+?)\$\$ |
    (?<![\\$])\$(?P<inline>[^\s$][^$\n]*?)\$(?!\d)
    """, re.DOTALL | re.VERBOSE)
FIRST_PICTURE = re.compile(r"\A\s*!\[[^\]]*\]\(attachment:[^)]*\)")
OFFLINE_TEMPLATE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block body_header -%}{{ super() }}<nav class="up"><a href="index.html">All lessons</a></nav>{%- endblock -%}
{%- block notebook_css -%}{{ super() }}
{%- set dark = "<style media='(prefers-color-scheme: dark)'" -%}
{{ resources.include_css("static/theme-dark.css").unescape().replace("<style", dark) }}
<style>
details { margin: .6rem 0; padding: .3rem .8rem; border-left: 3px solid var(--jp-border-color1) }
summary { cursor: pointer; font-weight: 600 }
.jp-MarkdownOutput img { max-width: 100%; height: auto }
math { font-size: 1.12em } math[display=block] { margin: .8rem 0; font-size: 1.2em }
nav.up { padding: .6rem 1rem 0 }
</style>
{%- endblock -%}
"""
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #26262b; --pale: #6a6a72; --line: #e4e4e8; --paper: #ffffff; --link: #0b57a4 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6ea; --pale: #a6a6ae; --line: #3a3a42; --paper: #17171a; --link: #8ab8ff }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem;
       margin: 2.5rem auto; padding: 0 1.25rem }
a { color: var(--link) }
h1 { margin-bottom: .2rem } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } .wide { overflow-x: auto }
th, td { padding: .3rem .8rem; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top }
td ul { margin: 0; padding-left: 1.1rem } .note { color: var(--pale); font-size: .9rem } code, pre { font-size: .85rem }
figure { margin: 1.5rem 0 } figure img { max-width: 100% } figcaption { color: var(--pale); font-size: .9rem }
</style></head><body>
<h1>$title</h1>
"""
PAGE = Template(HEAD + """<p class="note">$note</p>
<h2>Result</h2>
<div class="wide"><pre>$table</pre></div>
<h2>Lessons</h2>
<div class="wide">$notebooks</div>
<p><a href="GLOSSARY.html">Notation, words and references</a></p>
<h2>Figures</h2>
$figures
</body></html>
""")
GLOSSARY_PAGE = Template(HEAD + """<p><a href="index.html">All lessons</a></p>
<div class="wide">$body</div>
</body></html>
""")


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


def write_report(folder: Path) -> Path:
    """Write `index.html` and the HTML of every executed notebook into a run folder; return the path of the index."""
    runs = runs_of(folder)
    for copy in executed_copies(folder):
        page = copy.with_suffix(".html")
        if not page.exists() or page.stat().st_mtime < copy.stat().st_mtime:
            write_whole(page, notebook_html(copy))
    if (NOTEBOOKS / "GLOSSARY.md").exists():
        write_whole(folder / "GLOSSARY.html", glossary_html())
    config = runs[0].config
    note = "Tiny profile: not a result. " if config.name == "tiny" else ""
    changed = ", ".join(f"{name} = {value}" for name, value in runs[0].settings.items())
    index = folder / "index.html"
    write_whole(index, PAGE.substitute(
        title=f"NeuroPrompts study: {config.name}, seed {runs[0].seed}",
        note=html.escape(note + (f"Changed settings: {changed}." if changed else "The profile's own settings.")),
        table=html.escape(result_table(runs[0]) or "Notebook 06_evaluation has not run yet."),
        notebooks=notebook_table(folder, runs), figures=figure_list(runs[0])))
    return index


def executed_copies(folder: Path) -> list[Path]:
    """Return the executed notebooks of a run folder, in the order of the study."""
    copies = (folder / f"{stage.notebook}.ipynb" for stage in STAGES.values())
    return [copy for copy in copies if copy.exists()]


def notebook_table(folder: Path, runs: list[Run]) -> str:
    """Return an HTML table: each lesson with a link, what it teaches, its seconds, artifact and first metrics."""
    import pandas
    by_notebook, rows = {STAGES[run.stage].notebook: run for run in runs}, []
    for copy in executed_copies(folder):
        run, notebook = by_notebook[copy.stem], json.loads(copy.read_text(encoding="utf-8"))
        title, abilities = lesson(notebook)
        rows.append({"lesson": f'<a href="{copy.stem}.html">{copy.stem}</a><br>{title}',
                     "you will be able to": f"<ul>{''.join(f'<li>{each}</li>' for each in abilities)}</ul>",
                     "seconds": str(notebook["metadata"]["npkit"]["seconds"]),
                     "artifact": f"<code>{run.key if run.artifact else '-'}</code>",
                     "metrics": html.escape(headline(run)).replace("; ", "<br>")})
    with pandas.option_context("display.max_colwidth", None):
        return pandas.DataFrame(rows).to_html(index=False, border=0, escape=False)


def lesson(notebook: Mapping) -> tuple[str, list[str]]:
    """Return a lesson's title and what a student will be able to do, as HTML, from its first two cells."""
    title, goals = ("".join(cell["source"]) for cell in notebook["cells"][:2])
    goals = goals.partition("**Before you start**")[0]
    abilities = [" ".join(each.split()).rstrip(";.")
                 for each in re.findall(r"^\* (.*(?:\n[^*\n].*)*)", goals, re.MULTILINE)]
    return inline_html(title.splitlines()[0].lstrip("# 0123456789")), [inline_html(each) for each in abilities]


def inline_html(line: str) -> str:
    """Return a line of Markdown as HTML, without a paragraph around it."""
    from nbconvert.filters import markdown2html
    return markdown2html(CODE_OR_FORMULA.sub(draw_formula, line)).strip().removeprefix("<p>").removesuffix("</p>")


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


def figure_list(run: Run) -> str:
    """Return every figure the notebooks saved as HTML, the picture inside the page."""
    folder = home() / "artifacts" / run.config.name / "figures" / run.label
    return "\n".join(f'<figure><img alt="{path.stem}" src="{data_uri(path.read_bytes(), "png")}">'
                     f"<figcaption>{path.stem[:2]}: {path.stem[3:].replace('_', ' ')}</figcaption></figure>"
                     for path in sorted(folder.glob("[!.]*.png"))) or "<p>None yet.</p>"


def notebook_html(path: Path) -> str:
    """Return an executed notebook as one HTML page that loads nothing from anywhere.

    `embed_images` stays False: it would close every `<details>` at once, and unfold the hints. The figures of the text
    are attachments of the executed copy, which nbconvert puts into the page all the same.
    """
    import nbformat
    from nbconvert import HTMLExporter
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["title"] = path.stem
    for before, cell in pairwise(notebook.cells):
        if cell.cell_type == "markdown" and shows_picture(before):
            cell.source = FIRST_PICTURE.sub("", cell.source)  # the committed twin of the picture right above it
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = CODE_OR_FORMULA.sub(draw_formula, cell.source)
            cell.source = cell.source.replace("(GLOSSARY.md", "(GLOSSARY.html")
    page, _ = HTMLExporter(raw_template=OFFLINE_TEMPLATE).from_notebook_node(notebook)
    return page


def shows_picture(cell: Mapping) -> bool:
    """Say whether a cell has a picture among its outputs."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", ()))


def glossary_html() -> str:
    """Return the course's glossary as an HTML page."""
    from nbconvert.filters import markdown2html
    text = (NOTEBOOKS / "GLOSSARY.md").read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    body = markdown2html(CODE_OR_FORMULA.sub(draw_formula, rest))
    return GLOSSARY_PAGE.substitute(title=title.lstrip("# "), body=body)


def draw_formula(found: re.Match) -> str:
    """Return a formula as MathML, which browsers set like text; code, where a dollar is a dollar, as it was."""
    tex = found["display"] or found["inline"]
    if tex is None:
        return found[0]
    from latex2mathml.converter import convert
    tex = " ".join(tex.split()).replace("{aligned}", "{split}")  # the same to TeX; the converter knows this one
    drawn = convert(tex, display="block" if found["display"] else "inline")
    return f"<div>{drawn}</div>" if found["display"] else drawn


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture's bytes as the address of itself."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

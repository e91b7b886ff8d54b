"""Pages: an executed lesson and the glossary as HTML that loads nothing, and what a lesson says of itself."""
import base64
import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from npkit.study.artifacts import NOTEBOOKS

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
CODE_OR_FORMULA = re.compile(r"""
    ```.*?``` | `[^`\n]*` |                                     # code, where a dollar is a dollar
    \$\$(?P<display>.+?)\$\$ |
    (?<![\\$])\$(?P<inline>[^\s$][^$\n]*?)\$(?!\d)
    """, re.DOTALL | re.VERBOSE)
FIRST_PICTURE = re.compile(r"\A\s*!\[[^\]]*\]\(attachment:[^)]*\)")
SHOWN = re.compile(r"!\[([^\]]*)\]\((?:\.\./figures/|attachment:)([\w.]+)\)")  # a picture's words, and its file


@cache
def templates() -> "Environment":
    """Return the templates of the report's pages; a name that a template does not know raises, texts are escaped."""
    import jinja2
    return jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
                              lstrip_blocks=True, undefined=jinja2.StrictUndefined)


def lesson(notebook: Mapping) -> tuple[str, list[str]]:
    """Return a lesson's title and what a student will be able to do, as HTML, from its first two cells."""
    title, goals = ("".join(cell["source"]) for cell in notebook["cells"][:2])
    goals = goals.partition("**Before you start**")[0]
    abilities = [" ".join(each.split()).rstrip(";.")
                 for each in re.findall(r"^\* (.*(?:\n[^*\n].*)*)", goals, re.MULTILINE)]
    return inline_html(title.splitlines()[0].lstrip("# 0123456789")), [inline_html(each) for each in abilities]


def captions(notebook: Mapping) -> dict[str, str]:
    """Return the words of every picture that a lesson's text shows, by the picture's name without its ending."""
    texts = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    return {Path(file).stem: words for text in texts for words, file in SHOWN.findall(text)}


def inline_html(line: str) -> str:
    """Return a line of Markdown as HTML, without a paragraph around it."""
    from nbconvert.filters import markdown2html
    return markdown2html(CODE_OR_FORMULA.sub(draw_formula, line)).strip().removeprefix("<p>").removesuffix("</p>")


def notebook_html(path: Path) -> str:
    """Return an executed notebook as one HTML page that loads nothing from anywhere.

    `embed_images` stays False: it would close every `<details>` at once, and unfold the hints. The figures of the text
    are attachments of the executed copy, which nbconvert puts into the page all the same.
    """
    import nbformat
    from nbconvert import HTMLExporter
    template = (TEMPLATES / "lesson.html.j2").read_text(encoding="utf-8")
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["title"] = path.stem
    for before, cell in pairwise(notebook.cells):
        if cell.cell_type == "markdown" and shows_picture(before):
            cell.source = FIRST_PICTURE.sub("", cell.source)  # the committed twin of the picture right above it
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = CODE_OR_FORMULA.sub(draw_formula, cell.source)
            cell.source = cell.source.replace("(GLOSSARY.md", "(GLOSSARY.html")
    page, _ = HTMLExporter(raw_template=template).from_notebook_node(notebook)
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
    return templates().get_template("glossary.html.j2").render(title=title.lstrip("# "), body=body)


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

"""Course: the whole method as one drawing, with the parts marked that a lesson is about."""
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from npkit.figures.base import INK, MUTED, Figure, new_figure, styled

HERE, THERE = "#E69F00", "#F1F1F4"  # fill of the parts that this lesson is about, and of the others
BOX = (1.62, 0.78)  # width and height of a box


class Part(NamedTuple):
    """A box of the drawing: where its centre is, what it says, and the lessons that are about it."""
    x: float
    y: float
    name: str
    example: str
    lessons: tuple[str, ...]


PARTS = {
    "clauses": Part(3.0, 2.75, "clauses", "style: anime, not: 8k", ("05", "07", "08")),
    "prefix": Part(1.0, 1.4, "prefix", "a castle tower", ("01", "07", "08")),
    "policy": Part(3.0, 1.4, "policy", "a language model", ("02", "04", "05", "07", "08")),
    "prompt": Part(5.0, 1.4, "prompt", "a castle tower, anime", ("01", "08")),
    "painter": Part(7.0, 1.4, "image model", "words to pixels", ("00",)),
    "picture": Part(9.0, 1.4, "picture", "96 x 96 pixels", ("00", "09")),
    "judges": Part(9.0, 0.1, "judges", "picture to score", ("03", "06", "09")),
    "reward": Part(6.0, 0.1, "reward", "gain over the prefix", ("03", "04", "07")),
    "people": Part(3.0, 0.1, "people's prompts", "to imitate at first", ("01", "02")),
    "public": Part(9.0, 2.75, "public", "raters vote", ("00", "03", "06", "07", "09")),
}
ARROWS = (("prefix", "policy"), ("policy", "prompt"), ("prompt", "painter"), ("painter", "picture"),
          ("picture", "judges"), ("judges", "reward"), ("clauses", "policy"), ("people", "policy"),
          ("reward", "policy"), ("public", "picture"))
TEACHES = {("public", "picture"): "looks",
           ("people", "policy"): "SFT", ("reward", "policy"): "PPO",
           ("clauses", "policy"): "NeuroLogic decoding"}


@styled
def system_map(notebook: str) -> Figure:
    """Return the drawing of the method; the parts that `notebook` ("04_ppo") is about are filled with colour."""
    figure, axes = new_figure(9.2, 3.3)
    for start, end in ARROWS:
        _arrow(axes, PARTS[start], PARTS[end], TEACHES.get((start, end), ""))
    for part in PARTS.values():
        _box(axes, part, notebook[:2] in part.lessons)
    axes.text(6.0, 2.75, f"You are here: lesson {notebook[:2]}\nis about the coloured parts", fontsize=10,
              weight="bold", ha="center", va="center")
    axes.set(xlim=(0.1, 9.95), ylim=(-0.4, 3.3))
    axes.set_axis_off()
    return figure


def _box(axes: Axes, part: Part, is_here: bool) -> None:
    width, height = BOX
    axes.add_patch(FancyBboxPatch((part.x - width / 2, part.y - height / 2), width, height, zorder=2,
                                  boxstyle="round,pad=0,rounding_size=0.12", linewidth=1.4 if is_here else 0.8,
                                  edgecolor=INK if is_here else MUTED, facecolor=HERE if is_here else THERE))
    axes.text(part.x, part.y + 0.13, part.name, ha="center", va="center", fontsize=10.5, weight="bold", zorder=3)
    axes.text(part.x, part.y - 0.17, part.example, ha="center", va="center", fontsize=7.6, zorder=3)


def _arrow(axes: Axes, start: Part, end: Part, label: str) -> None:
    """An arrow from border to border of two boxes, and what happens along it."""
    width, height = BOX
    if start.y == end.y:
        side = 1 if end.x > start.x else -1
        tail, head = (start.x + side * width / 2, start.y), (end.x - side * width / 2, end.y)
    else:
        side = 1 if end.y > start.y else -1
        tail, head = (start.x, start.y + side * height / 2), (end.x, end.y - side * height / 2)
    if start.x != end.x and start.y != end.y:  # from the reward up to the policy's corner
        head = (end.x + width / 2 - 0.15, head[1])
        tail = (start.x - width / 2 + 0.15, tail[1])
    axes.annotate("", head, tail, zorder=1, arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.2,
                                                        "shrinkA": 0, "shrinkB": 1, "mutation_scale": 13})
    is_slanted = head[0] != tail[0] and head[1] != tail[1]  # then the words stand above the line, not on it
    middle = ((head[0] + tail[0]) / 2 + 0.1, (head[1] + tail[1]) / 2 + 0.11 * is_slanted)
    axes.text(*middle, label, fontsize=8.5, style="italic", va="center", ha="left", color=INK)

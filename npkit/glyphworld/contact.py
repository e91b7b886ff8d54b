"""Contact sheets: `python -m npkit.glyphworld.contact FOLDER` renders all subjects, all modifiers and random scenes.

With `--model` every row of renders has a row below it: the same scenes in words, painted by a pipeline.
"""
import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from npkit.glyphworld.painting.renderer import Scene, render
from npkit.glyphworld.people.votes import load_painter
from npkit.glyphworld.training.dataset import caption
from npkit.glyphworld.vocabulary import CATEGORIES, CATEGORY_OF, COLOURS, PLACES, SUBJECTS

GAP = 4  # pixels between two pictures


def six_modifiers(rng: np.random.Generator) -> Scene:
    """A scene with one modifier of each category, now and then a colour and a place."""
    return Scene(str(rng.choice(list(SUBJECTS))), tuple(str(rng.choice(names)) for names in CATEGORIES.values()),
                 str(rng.choice(list(COLOURS))) if rng.random() < 0.25 else None,
                 str(rng.choice(list(PLACES))) if rng.random() < 0.25 else None)


def scenes(num_random: int = 48) -> dict[str, list[Scene]]:
    """The scenes of each sheet, by the sheet's name."""
    rng = np.random.default_rng(0)
    animals = ("cat", "horse", "castle tower", "flower")
    return {
        "subjects": [Scene(subject) for subject in SUBJECTS],
        "colours and places": [Scene("horse", (), colour, place) for place in PLACES for colour in COLOURS],
        "modifiers": [Scene(animals[0], (name,)) for name in CATEGORY_OF],
        "six modifiers": [six_modifiers(rng) for _ in range(num_random)],
    }


def sheet(pictures: list[np.ndarray], columns: int = 8) -> Image.Image:
    """The pictures (side, side, 3) in rows, on white."""
    side, rows = len(pictures[0]) + GAP, -(-len(pictures) // columns)
    page = np.full((rows * side + GAP, columns * side + GAP, 3), 255, np.uint8)
    for number, pixels in enumerate(pictures):
        top, left = (GAP + place * side for place in divmod(number, columns))
        page[top:top + side - GAP, left:left + side - GAP] = pixels
    return Image.fromarray(page)


def interleaved(above: list[np.ndarray], below: list[np.ndarray], columns: int) -> list[np.ndarray]:
    """Rows of `columns` pictures, taken in turn from one list and the other; their last rows are filled up in white."""
    blank = np.full_like(above[0], 255)
    rows = []
    for start in range(0, len(above), columns):
        for pictures in (above, below):
            row = list(pictures[start:start + columns])
            rows += row + [blank] * (columns - len(row))
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m npkit.glyphworld.contact", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the sheets go")
    parser.add_argument("--model", type=Path, help="the folder of a pipeline that train.py made")
    args = parser.parse_args(arguments)
    if args.model and not args.model.is_dir():
        parser.error(f"--model: there is no folder {args.model}")
    args.folder.mkdir(parents=True, exist_ok=True)
    painter = load_painter(args.model) if args.model else None
    rng = np.random.default_rng(0)
    for name, wanted in scenes().items():
        columns = 6 if name.startswith("colours") else 8
        pictures = [render(scene, np.random.default_rng(number % 12)).pixels for number, scene in enumerate(wanted)]
        if painter:
            painted = painter([caption(scene, rng) for scene in wanted], list(range(len(wanted))))
            pictures = interleaved(pictures, painted, columns)
        path = args.folder / f"{name.replace(' ', '_')}.png"
        sheet(pictures, columns).save(path)
        print(path)


if __name__ == "__main__":
    main()

"""Dataset: painted scenes with their captions, rendered once into arrays that the trainings read.

It is rendered in shards, each written whole: a killed rendering goes on with the next one.
"""
import json
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from npkit.glyphworld.corpus import phrase, prefix_of
from npkit.glyphworld.painting.canvas import SIZE, shrink
from npkit.glyphworld.painting.renderer import Scene, render
from npkit.glyphworld.training.loop import Machine
from npkit.glyphworld.vocabulary import CATEGORIES, COLOURS, MODIFIERS, PLACES, SUBJECTS

NUM_MODIFIERS = (0.14, 0.12, 0.13, 0.14, 0.14, 0.13, 0.14, 0.06)  # share of captions with 0, 1, 2 ... 7: as studies use
MASK_SIZE = 24  # a side of the masks that are kept: enough to say where the subject is
SHARD = 500  # pictures


@dataclass(frozen=True)
class Dataset:
    """Pictures (n, 96, 96, 3) and masks (n, 24, 24), both uint8, with the scene and the caption of each."""
    pictures: np.ndarray
    masks: np.ndarray
    scenes: list[Scene]
    captions: list[str]

    def __len__(self) -> int:
        return len(self.captions)


def sample_scene(rng: np.random.Generator) -> Scene:
    """A scene with modifiers drawn evenly, popular or not: half of the scenes have at most one of a category."""
    count = rng.choice(len(NUM_MODIFIERS), p=NUM_MODIFIERS)
    if rng.random() < 0.5 and count <= len(CATEGORIES):
        kinds = rng.permutation(list(CATEGORIES))[:count]
        chosen = [CATEGORIES[kind][rng.integers(len(CATEGORIES[kind]))] for kind in kinds]
    else:
        chosen = [MODIFIERS[index] for index in rng.choice(len(MODIFIERS), count, replace=False)]
    return Scene(
        subject=list(SUBJECTS)[rng.integers(len(SUBJECTS))], modifiers=tuple(chosen),
        colour=list(COLOURS)[rng.integers(len(COLOURS))] if rng.random() < 0.25 else None,
        place=list(PLACES)[rng.integers(len(PLACES))] if rng.random() < 0.25 else None)


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """The scene in words: its prefix, then its modifiers in the order they stand."""
    return ", ".join([prefix_of(scene, rng), *(phrase(name, rng) for name in scene.modifiers)])


def render_dataset(folder: Path, num_pictures: int, machine: Machine, seed: int = 0) -> None:
    """Write the shards that are missing; a shard's captions are written last and say that it is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [start for start in range(0, num_pictures, SHARD) if not (folder / f"captions-{start}.json").exists()]
    if not missing:
        return
    with get_context("spawn").Pool(machine.processes) as pool:
        for start in missing:
            machine.check_time()
            jobs = [(seed, index) for index in range(start, min(start + SHARD, num_pictures))]
            _write_shard(folder, start, pool.map(_paint, jobs, chunksize=25))


def _write_shard(folder: Path, start: int, rows: list[tuple]) -> None:
    pictures, masks, scenes, texts = zip(*rows, strict=True)
    np.save(folder / f"pictures-{start}.npy", np.stack(pictures))
    np.save(folder / f"masks-{start}.npy", np.stack(masks))
    facts = [[scene.subject, scene.modifiers, scene.colour, scene.place] for scene in scenes]
    draft = folder / f"captions-{start}.tmp"
    draft.write_text(json.dumps({"scenes": facts, "captions": texts}))
    draft.replace(folder / f"captions-{start}.json")


def _paint(job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, Scene, str]:
    rng = np.random.default_rng(job)
    scene = sample_scene(rng)
    picture = render(scene, rng)
    mask = (shrink(picture.mask, SIZE // MASK_SIZE) * 255).round().astype(np.uint8)
    return picture.pixels, mask, scene, caption(scene, rng)


def load_dataset(folder: Path, num_pictures: int) -> Dataset:
    """The first `num_pictures` rendered pictures, read into memory."""
    starts = range(0, num_pictures, SHARD)
    arrays = [np.concatenate([np.load(folder / f"{kind}-{start}.npy") for start in starts])[:num_pictures]
              for kind in ("pictures", "masks")]
    tables = [json.loads((folder / f"captions-{start}.json").read_text()) for start in starts]
    scenes = [Scene(subject, tuple(modifiers), colour, place)
              for table in tables for subject, modifiers, colour, place in table["scenes"]]
    captions = [text for table in tables for text in table["captions"]]
    return Dataset(*arrays, scenes[:num_pictures], captions[:num_pictures])

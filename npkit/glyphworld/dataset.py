"""Dataset: painted scenes with their captions, rendered once into a memory-mapped array that the trainings read."""
import json
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from npkit.glyphworld.corpus import phrase, prefix_of
from npkit.glyphworld.renderer import SIZE, Scene, render
from npkit.glyphworld.vocabulary import CATEGORIES, COLOURS, PLACES, SUBJECTS

NUM_MODIFIERS = np.array([0.26, 0.26, 0.15, 0.11, 0.08, 0.06, 0.05, 0.02, 0.01])  # share of captions with 0, 1, 2 ... 8


def sample_scene(rng: np.random.Generator) -> Scene:
    """A scene with modifiers drawn evenly, at most two of a category: every word is seen often, popular or not."""
    names = list(CATEGORIES)
    categories = [names[i] for i in rng.permutation(np.repeat(np.arange(len(names)), 2))] if rng.random() < 0.15 else \
        [names[i] for i in rng.permutation(len(names))]
    chosen = [CATEGORIES[c][rng.integers(len(CATEGORIES[c]))] for c in categories]
    count = rng.choice(len(NUM_MODIFIERS), p=NUM_MODIFIERS)
    return Scene(
        subject=list(SUBJECTS)[rng.integers(len(SUBJECTS))],
        modifiers=tuple(dict.fromkeys(chosen))[:count],
        colour=list(COLOURS)[rng.integers(len(COLOURS))] if rng.random() < 0.25 else None,
        place=list(PLACES)[rng.integers(len(PLACES))] if rng.random() < 0.25 else None,
    )


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """The scene in words: its prefix, then its modifiers in the order they stand."""
    return ", ".join([prefix_of(scene, rng), *(phrase(name, rng) for name in scene.modifiers)])


def render_dataset(folder: Path, num_pictures: int, seed: int = 0, processes: int = 2) -> None:
    """Write `pictures.npy` (num_pictures, 64, 64, 3) uint8 and `captions.json`; does nothing if complete."""
    if (folder / "captions.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    pictures = np.lib.format.open_memmap(folder / "pictures.npy", "w+", np.uint8, (num_pictures, SIZE, SIZE, 3))
    captions = []
    with get_context("spawn").Pool(processes) as pool:
        jobs = ((seed, index) for index in range(num_pictures))
        for index, (pixels, scene, text) in enumerate(pool.imap(_paint, jobs, chunksize=200)):
            pictures[index] = pixels
            captions.append({"caption": text, "subject": scene.subject, "modifiers": scene.modifiers})
    pictures.flush()
    (folder / "captions.json").write_text(json.dumps(captions))  # written last: it says that the pictures are all there


def _paint(job: tuple[int, int]) -> tuple[np.ndarray, Scene, str]:
    rng = np.random.default_rng(job)
    scene = sample_scene(rng)
    return render(scene, rng).pixels, scene, caption(scene, rng)


def load_dataset(folder: Path) -> tuple[np.ndarray, list[dict]]:
    return np.load(folder / "pictures.npy", mmap_mode="r"), json.loads((folder / "captions.json").read_text())

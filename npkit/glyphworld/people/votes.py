"""Votes: groups of pictures of one prefix, rendered and painted, with what both populations think of each picture."""
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from npkit.glyphworld.corpus import choose_modifiers, generate, phrase, prefix_of
from npkit.glyphworld.painter import paint
from npkit.glyphworld.painting.canvas import SIZE
from npkit.glyphworld.painting.renderer import Scene, render
from npkit.glyphworld.people.eye import Eye
from npkit.glyphworld.people.public import raw_utilities, utilities
from npkit.glyphworld.people.tastes import WEIGHTS
from npkit.glyphworld.training.dataset import sample_scene
from npkit.glyphworld.training.loop import CPU, Machine

SAMPLING = {"num_inference_steps": 6, "guidance_scale": 1.0}  # as the tiny profile paints; guidance is distilled
GROUP = 4  # pictures of one prefix: the plain one and three prompts
GROUPS_A_CHUNK = 100
POPULATIONS = tuple(WEIGHTS)
Painter = Callable[[list[str], list[int]], np.ndarray]  # prompts, seeds -> pictures (n, 96, 96, 3) uint8


@dataclass(frozen=True)
class VoteSet:
    """Groups of pictures of one prefix each, and what they are worth to the populations."""
    prefixes: list[str]
    prompts: list[str]  # GROUP a prefix, the prefix itself first
    pictures: np.ndarray  # (groups, GROUP, 96, 96, 3) uint8
    utilities: dict[str, np.ndarray]  # population -> (groups, GROUP)
    folder: Path = Path()  # that it was read from; what is trained on it keeps its checkpoints there


def load_painter(folder: Path, machine: Machine = CPU) -> Painter:
    """A function that paints prompts with the pipeline in `folder`, each picture from its own seed."""
    batch_size = 32 if machine.device == "cpu" else 256
    pipeline = DiffusionPipeline.from_pretrained(folder).to(machine.device)
    pipeline.set_progress_bar_config(disable=True)

    def paint(prompts: list[str], seeds: list[int]) -> np.ndarray:
        pictures = []
        for start in range(0, len(prompts), batch_size):
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[start:start + batch_size]]
            painted = pipeline(prompts[start:start + batch_size], generator=generators, output_type="np", **SAMPLING)
            pictures.append((painted.images * 255).round().astype(np.uint8))
        return np.concatenate(pictures)

    return paint


def ideal_painter(prompts: list[str], seeds: list[int]) -> np.ndarray:
    """Pictures by the renderer, which understands every word."""
    return np.stack(list(map(paint, prompts, seeds)))


def sample_group(rng: np.random.Generator) -> tuple[str, list[str], list[Scene]]:
    """A prefix, its prompts and their scenes: no modifier, drawn evenly, and as two people would write it."""
    plain = replace(sample_scene(rng), modifiers=())
    prefix = prefix_of(plain, rng)
    choices = [(), sample_scene(rng).modifiers, *choose_modifiers(GROUP - 2, rng)]
    prompts = [", ".join([prefix, *(phrase(name, rng) for name in chosen)]) for chosen in choices]
    return prefix, prompts, [replace(plain, modifiers=chosen) for chosen in choices]


def make_votes(seed: int, painter: Painter | None, eye_folder: Path, spread: Callable = map) -> VoteSet:
    """GROUPS_A_CHUNK groups of rendered or painted pictures, each with its own utility, seen in its own pixels."""
    rng = np.random.default_rng(seed)
    groups = [sample_group(rng) for _ in range(GROUPS_A_CHUNK)]
    seeds = [seed * GROUPS_A_CHUNK + group for group in range(GROUPS_A_CHUNK) for _ in range(GROUP)]
    prompts = [prompt for _, texts, _ in groups for prompt in texts]
    scenes = [scene for _, _, scenes in groups for scene in scenes]
    pictures = painter(prompts, seeds) if painter else np.stack(
        list(spread(_render, list(zip(scenes, seeds, strict=True)))))
    asked = [prefix for prefix, _, _ in groups for _ in range(GROUP)]
    worth = utilities(pictures, asked, POPULATIONS, eye_folder, spread)
    return VoteSet([prefix for prefix, _, _ in groups], prompts, pictures.reshape(-1, GROUP, SIZE, SIZE, 3),
                   {name: values.reshape(-1, GROUP) for name, values in worth.items()})


def _render(job: tuple[Scene, int]) -> np.ndarray:
    scene, seed = job
    return render(scene, np.random.default_rng(seed)).pixels


def load_votes(folder: Path, num_chunks: int, painter: Painter | None, eye_folder: Path,
               machine: Machine = CPU) -> VoteSet:
    """Make what is not in `folder` yet, chunk by chunk, every second one painted if there is a painter; return all."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"votes-{seed}.npz" for seed in range(num_chunks)]
    if not all(path.exists() for path in paths):
        with get_context("spawn").Pool(machine.processes) as pool:
            for seed in (seed for seed, path in enumerate(paths) if not path.exists()):
                machine.check_time()
                _write(paths[seed], make_votes(seed, painter if seed % 2 else None, eye_folder, pool.map))
    chunks = [np.load(path) for path in paths]
    texts = ([str(text) for chunk in chunks for text in chunk[name]] for name in ("prefixes", "prompts"))
    return VoteSet(*texts, np.concatenate([chunk["pictures"] for chunk in chunks]),
                   {name: np.concatenate([chunk[name] for chunk in chunks]) for name in POPULATIONS}, folder)


def _write(path: Path, votes: VoteSet) -> None:
    draft = path.with_suffix(".tmp.npz")
    np.savez(draft, prefixes=votes.prefixes, prompts=votes.prompts, pictures=votes.pictures, **votes.utilities)
    draft.replace(path)


def normalise(eye: Eye, num_pictures: int, seed: int = 1) -> dict[str, tuple[float, float]]:
    """Mean and deviation of each population's raw utility over the ideal painter's pictures of human prompts.

    Of renders, whichever model a study paints with: so utilities of two image models have one unit and one zero.
    """
    prompts = generate(num_pictures, seed)
    prefixes = [prompt.partition(",")[0] for prompt in prompts]
    pictures = ideal_painter(prompts, list(range(num_pictures)))
    values = raw_utilities(pictures, prefixes, POPULATIONS, eye)
    return {name: (float(found.mean()), float(found.std())) for name, found in values.items()}

"""Measure GlyphWorld: `python -m npkit.glyphworld.measure` prints the model card's table of what the weights can do.

A watcher, an eye of another width and seed than the public's, trained on renders alone and used nowhere else, looks at
rendered, decoded and generated pictures. Everything is drawn from seeds that no training has seen.
"""
import argparse
import time
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from scipy.ndimage import maximum_filter, uniform_filter
from scipy.stats import spearmanr
from transformers import CLIPModel, CLIPTokenizer

from npkit.glyphworld.contact import six_modifiers
from npkit.glyphworld.corpus import generate, phrase
from npkit.glyphworld.painting.renderer import Picture, Scene, render
from npkit.glyphworld.people.eye import HEADS, Eye, look, to_signed, train_eye
from npkit.glyphworld.people.public import utility
from npkit.glyphworld.people.tastes import populations
from npkit.glyphworld.people.votes import GROUP, Painter, VoteSet, ideal_painter, load_painter, make_votes
from npkit.glyphworld.training import autoencoder as codec
from npkit.glyphworld.training.dataset import caption, load_dataset, render_dataset
from npkit.glyphworld.training.diffusion import encode_text
from npkit.glyphworld.training.judges import JUDGES, embed_pictures, embed_texts, temperature
from npkit.glyphworld.training.loop import Machine
from npkit.glyphworld.vocabulary import MODIFIERS

HELD_OUT_SEED = 1_000_000
WATCHER = {"width": 32, "seed": 99, "name": "watcher"}
NUM_KNOWN = 600  # renders with one modifier, and with six, on which its thresholds are set
DETECTED = 0.75  # balanced accuracy from which on a modifier counts as detected


@dataclass(frozen=True)
class Row:
    """One line of the model card."""
    measure: str
    value: str
    wanted: str
    how: str


def load_watcher(scratch: Path, machine: Machine, num_renders: int = 20_000, steps: int = 4_000) -> Eye:
    """The watcher, trained on renders of its own; both are kept in `scratch`."""
    render_dataset(scratch / "measured", num_renders, machine, seed=HELD_OUT_SEED)
    return train_eye(load_dataset(scratch / "measured", num_renders), scratch, steps, machine=machine, **WATCHER)


# 1. Scenes to look at ------------------------------------------------------------------------------------------------
def scenes_with(count: int, num_scenes: int) -> list[Scene]:
    """Held-out scenes with one modifier each of `count` categories, six of them at most."""
    rng = np.random.default_rng((HELD_OUT_SEED, count))
    drawn = [six_modifiers(rng) for _ in range(num_scenes)]
    return [replace(scene, modifiers=tuple(rng.permutation(scene.modifiers)[:count])) for scene in drawn]


def rendered(scenes: list[Scene]) -> list[Picture]:
    return [render(scene, np.random.default_rng((HELD_OUT_SEED, number))) for number, scene in enumerate(scenes)]


def painted(scenes: list[Scene], painter: Painter) -> np.ndarray:
    rng = np.random.default_rng(HELD_OUT_SEED)
    return painter([caption(scene, rng) for scene in scenes], list(range(HELD_OUT_SEED, HELD_OUT_SEED + len(scenes))))


def recognised(watcher: Eye, pictures: np.ndarray, scenes: list[Scene]) -> float:
    """The share of pictures whose subject the watcher names."""
    seen = look(watcher, pictures).subject.argmax(1)
    return float(np.mean([HEADS["subject"][index] == scene.subject for index, scene in zip(seen, scenes, strict=True)]))


# 2. Renderer, autoencoder, diffusion model ---------------------------------------------------------------------------
BARS = {"rendered": {6: ">= 0.98"}, "decoded": {6: "renders less 0.02"}, "generated": {0: ">= 0.97", 3: ">= 0.90",
                                                                                    6: ">= 0.85"}}


def recognition_rows(watcher: Eye, vae: AutoencoderKL | None, painter: Painter | None, num_scenes: int) -> list[Row]:
    """Subjects recognised in renders, after the autoencoder and in generated pictures, by the number of modifiers."""
    rows = []
    for count in (0, 3, 6):
        scenes = scenes_with(count, num_scenes)
        renders = np.stack([picture.pixels for picture in rendered(scenes)])
        kinds = {"rendered": renders}
        if vae:
            kinds["decoded"] = decode(vae, renders)
        if painter:
            kinds["generated"] = painted(scenes, painter)
        rows += [Row(f"subject recognised, {kind}, {count} modifiers", f"{recognised(watcher, pictures, scenes):.3f}",
                     BARS[kind].get(count, ""), f"n = {num_scenes}") for kind, pictures in kinds.items()]
        if vae:
            rows.append(Row(f"autoencoder, {count} modifiers", f"{decibels(renders, kinds['decoded']):.1f} dB",
                            ">= 26" if count == 6 else "", f"n = {num_scenes}"))
    return rows


def decode(vae: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """Pictures after the autoencoder, (n, 96, 96, 3) uint8."""
    parts = [codec.reconstruct(vae, to_signed(part)) for part in torch.from_numpy(pictures).split(50)]
    return ((torch.cat(parts) + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def decibels(pictures: np.ndarray, others: np.ndarray) -> float:
    error = (pictures.astype(float) - others).reshape(len(pictures), -1)
    return float(np.mean(10 * np.log10(255 ** 2 / (error ** 2).mean(1))))


def thresholds(seen: np.ndarray, present: np.ndarray) -> np.ndarray:
    """For each modifier the probability (48,) that parts rendered pictures with and without it best."""
    best = []
    for column, truth in zip(seen.T, present.T, strict=True):
        candidates = np.unique(np.quantile(column, np.linspace(0.3, 0.999, 200)))
        accuracy = [(column[truth] >= one).mean() + (column[~truth] < one).mean() for one in candidates]
        best.append(candidates[int(np.argmax(accuracy))])
    return np.array(best)


def presence(scenes: list[Scene]) -> np.ndarray:
    return np.array([[name in scene.modifiers for name in MODIFIERS] for scene in scenes])


def detection_rows(watcher: Eye, kind: str, painter: Painter, num_seeds: int, num_six: int) -> list[Row]:
    """The modifiers detected alone, with the same seeds with and without, and inside prompts of six."""
    known = [scene for count in (1, 6) for scene in scenes_with(count, NUM_KNOWN)]
    pixels = np.stack([picture.pixels for picture in rendered(known)])
    limits = thresholds(look(watcher, pixels).effects, presence(known))
    plain, rng = scenes_with(0, num_seeds), np.random.default_rng(HELD_OUT_SEED)
    prefixes = [caption(scene, rng) for scene in plain]
    seeds = list(range(num_seeds))
    without = look(watcher, painter(prefixes, seeds)).effects >= limits
    alone = []
    for index, name in enumerate(MODIFIERS):
        pictures = painter([f"{prefix}, {phrase(name, rng)}" for prefix in prefixes], seeds)
        found = look(watcher, pictures).effects[:, index] >= limits[index]
        alone.append((found.mean() + 1 - without[:, index].mean()) / 2)
    scenes = scenes_with(6, num_six)
    found, truth = look(watcher, painted(scenes, painter)).effects >= limits, presence(scenes)
    inside = [(column[there].mean() + 1 - column[~there].mean()) / 2
              for column, there in zip(found.T, truth.T, strict=True)]
    return [_detection_row(f"alone, {kind}", alone, ">= 0.85", f"{num_seeds} seeds each"),
            _detection_row(f"among six, {kind}", inside, ">= 0.70", f"{num_six} prompts")]


def _detection_row(where: str, accuracy: list[float], wanted: str, how: str) -> Row:
    missed = [f"{name} {value:.2f}" for name, value in zip(MODIFIERS, accuracy, strict=True) if value < DETECTED]
    return Row(f"modifiers detected {where} (balanced accuracy >= {DETECTED})",
               f"{1 - len(missed) / len(MODIFIERS):.3f}", wanted, f"{how}; missed: {', '.join(missed) or 'none'}")


def speed_row(kind: str, painter: Painter, num_pictures: int = 64) -> Row:
    """Seconds of processor time a picture, in batches of 32 on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.process_time()
    painter(generate(num_pictures, HELD_OUT_SEED), list(range(num_pictures)))
    seconds = (time.process_time() - started) / num_pictures
    torch.set_num_threads(threads)
    return Row(f"seconds a picture, {kind}, one core", f"{seconds:.3f}", "<= 0.05", "human prompts, batches of 32")


# 3. The public -------------------------------------------------------------------------------------------------------
def public_row(folder: Path, num_pictures: int) -> Row:
    """How often the public likes a render less whose subject was blacked out or blurred away."""
    scenes = scenes_with(3, num_pictures)
    pictures, rng = rendered(scenes), np.random.default_rng(HELD_OUT_SEED)
    prefixes = [caption(replace(scene, modifiers=()), rng) for scene in scenes]
    before = utility(np.stack([picture.pixels for picture in pictures]), prefixes, folder=folder)
    after = utility(np.stack([without_subject(picture, number % 2 == 0) for number, picture in enumerate(pictures)]),
                    prefixes, folder=folder)
    return Row("utility falls when the subject is gone", f"{(after < before).mean():.3f}", ">= 0.95",
               f"n = {num_pictures}, half black, half blurred; mean fall {np.mean(before - after):.2f}")


def without_subject(picture: Picture, is_black: bool) -> np.ndarray:
    """The picture with its subject black or blurred away."""
    where = maximum_filter(picture.mask, 17)[..., None]
    fill = 0 if is_black else uniform_filter(picture.pixels.astype(float), (41, 41, 1))
    return (picture.pixels * (1 - where) + fill * where).round().astype(np.uint8)


# 4. The judges -------------------------------------------------------------------------------------------------------
@torch.no_grad()
def judge(folder: Path, votes: VoteSet) -> np.ndarray:
    """Scores (groups, GROUP) that the CLIP judge in `folder` gives each picture against its group's prefix."""
    clip, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    pictures = embed_pictures(clip, torch.from_numpy(votes.pictures).flatten(0, 1)).view(*votes.pictures.shape[:2], -1)
    texts = embed_texts(clip, encode_text(tokenizer, votes.prefixes))
    return (temperature(clip) * (pictures * texts[:, None]).sum(-1)).numpy()


def agreement(scores: np.ndarray, votes: VoteSet, population: str) -> tuple[float, float, int]:
    """Over all pairs: how often the scores, and how often a second rater, agree with a rater's vote; and the pairs.

    Shares are expected ones, over all raters of the population: no luck of single votes is in them.
    """
    by_judge, by_rater = [], []
    for group, worth in zip(scores, votes.utilities[population], strict=True):
        for one, other in combinations(range(GROUP), 2):
            if worth[one] != worth[other]:  # two prompts of a group may have no modifiers: one picture, no choice
                first = 1 / (1 + np.exp((worth[other] - worth[one]) / populations()[population].noise))  # as in `vote`
                by_judge.append(first if group[one] > group[other] else 1 - first)
                by_rater.append(first ** 2 + (1 - first) ** 2)
    return float(np.mean(by_judge)), float(np.mean(by_rater)), len(by_judge)


def judge_rows(weights: Path, cast: dict[str, VoteSet]) -> list[Row]:
    """Agreement with held-out votes, on rendered and painted pictures, and rank correlation with the oracle."""
    rows = []
    for name, (population, _) in JUDGES.items():
        for kind, votes in cast.items() if (weights / name).is_dir() else ():
            by_judge, by_rater, pairs = agreement(judge(weights / name, votes), votes, population)
            rows.append(Row(f"{name} agrees with a vote, {kind} pictures", f"{by_judge:.3f}",
                            f">= {by_rater:.3f} (a single rater)", f"n = {pairs} pairs, population {population}"))
            truth = votes.utilities["public"].ravel()
            rank = spearmanr(judge(weights / name, votes).ravel(), truth).statistic
            rows.append(Row(f"Spearman of {name} and oracle, {kind}", f"{rank:.3f}",
                            ">= 0.70" if population == "public" else "", f"n = {len(truth)}"))
    return rows


# 5. All of it --------------------------------------------------------------------------------------------------------
def measure(scratch: Path, weights: Path, machine: Machine, *, num_renders: int = 20_000, steps: int = 4_000,
            num_scenes: int = 330, num_seeds: int = 16) -> list[Row]:
    """Every line of the model card for the models in `weights`; renders and checkpoints live in `scratch`."""
    watcher = load_watcher(scratch, machine, num_renders, steps)
    painters: dict[str, Painter] = {"rendered": ideal_painter}
    vae = None
    if (weights / "diffusion").is_dir():
        painters["generated"] = load_painter(weights / "diffusion")
        vae = AutoencoderKL.from_pretrained(weights / "diffusion" / "vae").eval()
    rows = recognition_rows(watcher, vae, painters.get("generated"), num_scenes)
    for kind, painter in painters.items():
        rows += [*detection_rows(watcher, kind, painter, num_seeds, num_scenes), speed_row(kind, painter)]
    cast = {kind: make_votes(HELD_OUT_SEED + number, painter if kind == "generated" else None, weights / "eye")
            for number, (kind, painter) in enumerate(painters.items())}
    return [*rows, public_row(weights / "eye", num_scenes), *judge_rows(weights, cast)]


def markdown(rows: list[Row]) -> str:
    """The rows as a markdown table."""
    lines = ["| measure | value | wanted | how |", "| --- | --- | --- | --- |"]
    return "\n".join(lines + [f"| {row.measure} | {row.value} | {row.wanted} | {row.how} |" for row in rows])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m npkit.glyphworld.measure", description=__doc__.splitlines()[0])
    scratch, weights = Path("artifacts/glyphworld-training"), Path(__file__).parent / "weights"
    parser.add_argument("--scratch", type=Path, default=scratch, help="renders and checkpoints")
    parser.add_argument("--weights", type=Path, default=weights, help="the models to measure")
    args = parser.parse_args(arguments)
    print(markdown(measure(args.scratch, args.weights, Machine())))


if __name__ == "__main__":
    main()

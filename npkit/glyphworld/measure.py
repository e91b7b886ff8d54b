"""Measure GlyphWorld: `python -m npkit.glyphworld.measure` prints the model card's table of what the weights can do.

An eye that is used nowhere else is trained on rendered pictures and looks at generated ones. Everything is drawn from
seeds that no training has seen.
"""
import argparse
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import CLIPModel, CLIPTokenizer

from npkit.glyphworld.corpus import phrase, prefix_of
from npkit.glyphworld.dataset import load_dataset, render_dataset
from npkit.glyphworld.diffusion import encode_text, to_tensor
from npkit.glyphworld.effects import ORDER
from npkit.glyphworld.judge_training import (
    GROUP,
    SAMPLING,
    Painter,
    VoteSet,
    embed_pictures,
    embed_texts,
    flat,
    load_painter,
    make_votes,
    temperature,
)
from npkit.glyphworld.raters import POPULATIONS, oracle
from npkit.glyphworld.renderer import Scene
from npkit.glyphworld.training import fit
from npkit.glyphworld.vocabulary import SUBJECTS

HELD_OUT_SEED = 1_000_000  # even: a chunk of rendered groups; the next one of painted groups
NUM_HELD_OUT = 2_000  # rendered pictures on which the eye's thresholds are set
DETECTED = 0.75  # balanced accuracy from which on a modifier counts as detected


@dataclass(frozen=True)
class Row:
    """One line of the model card."""
    measure: str
    value: str
    wanted: str
    how: str


# 1. The eye ----------------------------------------------------------------------------------------------------------
class Eye(nn.Module):
    """A small convolutional network that names a picture's subject and which of the 48 modifiers it sees."""

    def __init__(self):
        super().__init__()
        def block(channels: int, out: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.GroupNorm(8, out), nn.SiLU()]
        self.trunk = nn.Sequential(
            *block(3, 32, 2), *block(32, 64, 2), *block(64, 64, 1), *block(64, 128, 2), *block(128, 128, 1),
            nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.subject, self.modifiers = nn.Linear(2048, len(SUBJECTS)), nn.Linear(2048, len(ORDER))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(pictures)
        return self.subject(features), self.modifiers(features)


def labels(rows: list[dict]) -> tuple[Tensor, Tensor]:
    """Index of the subject (n,) and presence of each modifier (n, 48) of the dataset's rows."""
    subjects = torch.tensor([list(SUBJECTS).index(row["subject"]) for row in rows])
    present = torch.tensor([[float(name in row["modifiers"]) for name in ORDER] for row in rows])
    return subjects, present


def train_eye(pictures: np.ndarray, rows: list[dict], folder: Path, steps: int) -> Eye:
    """An eye trained on all rendered pictures but the last NUM_HELD_OUT."""
    torch.manual_seed(0)
    eye, (subjects, present) = Eye(), labels(rows)

    def loss_of(generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(rows) - NUM_HELD_OUT, (128,), generator=generator).sort().values
        by_subject, by_modifier = eye(to_tensor(pictures[chosen.numpy()]))
        return cross_entropy(by_subject, subjects[chosen]) + \
            10 * binary_cross_entropy_with_logits(by_modifier, present[chosen])

    return fit("eye", eye, loss_of, folder, steps=steps, learning_rate=3e-3, weight_decay=0.05, ema=0.99).eval()


@torch.no_grad()
def look(eye: Eye, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Names of the subjects seen (n,) and logits of the modifiers (n, 48)."""
    by_subject, by_modifier = (torch.cat(parts) for parts in zip(
        *(eye(to_tensor(pictures[start:start + 200])) for start in range(0, len(pictures), 200)), strict=True))
    return np.array(list(SUBJECTS))[by_subject.argmax(1)], by_modifier.numpy()


def thresholds(logits: np.ndarray, present: np.ndarray) -> np.ndarray:
    """For each modifier the logit that parts rendered pictures with and without it best, by balanced accuracy."""
    best = []
    for column, truth in zip(logits.T, present.T > 0.5, strict=True):
        candidates = np.quantile(column, np.linspace(0.5, 0.999, 200))
        accuracy = [(column[truth] >= one).mean() + (column[~truth] < one).mean() for one in candidates]
        best.append(candidates[int(np.argmax(accuracy))])
    return np.array(best)


def eye_row(seen: np.ndarray, subjects: Tensor, present: Tensor) -> Row:
    """How often the eye names the subject of a rendered plain picture: more cannot be expected of painted ones."""
    plain = (present.sum(1) == 0).numpy()
    right = seen[plain] == np.array(list(SUBJECTS))[subjects][plain]
    return Row("the eye itself: subject, rendered plain scene", f"{right.mean():.3f}", "", f"n = {len(right)} held out")


# 2. The diffusion model ----------------------------------------------------------------------------------------------
def subject_row(eye: Eye, painter: Painter, num_pictures: int) -> Row:
    """How often the eye names the subject of a picture painted from a plain prefix."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    names = [list(SUBJECTS)[index % len(SUBJECTS)] for index in range(num_pictures)]
    prompts = [prefix_of(Scene(name), rng) for name in names]
    seen, _ = look(eye, painter(prompts, list(range(num_pictures))))
    right = seen == np.array(names)
    worst = sorted(SUBJECTS, key=lambda name: right[np.array(names) == name].mean())[:4]
    return Row("subject recognised, plain prefix", f"{right.mean():.3f}", ">= 0.80",
               f"n = {num_pictures} painted; hardest: {', '.join(worst)}")


def modifier_accuracy(eye: Eye, painter: Painter, limits: np.ndarray, num_seeds: int) -> np.ndarray:
    """Balanced accuracy (48,) of "the modifier is seen" on pictures painted with it and, same seeds, without it."""
    rng = np.random.default_rng(HELD_OUT_SEED)
    prefixes = [prefix_of(Scene(list(SUBJECTS)[rng.integers(len(SUBJECTS))]), rng) for _ in range(num_seeds)]
    seeds = list(range(HELD_OUT_SEED, HELD_OUT_SEED + num_seeds))
    without = look(eye, painter(prefixes, seeds))[1] >= limits
    accuracy = []
    for index, name in enumerate(ORDER):
        painted = painter([f"{prefix}, {phrase(name, rng)}" for prefix in prefixes], seeds)
        found = look(eye, painted)[1][:, index] >= limits[index]
        accuracy.append((found.mean() + 1 - without[:, index].mean()) / 2)
    return np.array(accuracy)


def modifier_row(accuracy: np.ndarray, num_seeds: int) -> Row:
    """The share of the modifiers that are detected, and which are not."""
    missed = [f"{name} {value:.2f}" for name, value in zip(ORDER, accuracy, strict=True) if value < DETECTED]
    share = (accuracy >= DETECTED).mean()
    return Row(f"modifiers detected (balanced accuracy >= {DETECTED})", f"{share:.3f}", ">= 0.80",
               f"48 modifiers x {num_seeds} seeds, with and without; missed: {', '.join(missed) or 'none'}")


def speed_row(painter: Painter, num_pictures: int = 64) -> Row:
    """Seconds of processor time a picture, in batches of 32 on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.process_time()
    painter(["a cat, oil painting"] * num_pictures, list(range(num_pictures)))
    seconds = (time.process_time() - started) / num_pictures
    torch.set_num_threads(threads)
    return Row("seconds a picture, one core", f"{seconds:.3f}", "<= 0.15",
               f"batches of 32, {SAMPLING['num_inference_steps']} steps, guidance {SAMPLING['guidance_scale']}")


# 3. The judges -------------------------------------------------------------------------------------------------------
@torch.no_grad()
def judge(folder: Path, votes: VoteSet) -> np.ndarray:
    """Scores (groups, GROUP) that the CLIP judge in `folder` gives each picture against its group's prefix."""
    clip, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    pictures = embed_pictures(clip, flat(votes.pictures)).view(-1, GROUP, clip.config.projection_dim)
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
                first = 1 / (1 + np.exp((worth[other] - worth[one]) / POPULATIONS[population].noise))  # as in `vote`
                by_judge.append(first if group[one] > group[other] else 1 - first)
                by_rater.append(first ** 2 + (1 - first) ** 2)
    return float(np.mean(by_judge)), float(np.mean(by_rater)), len(by_judge)


def judge_rows(weights: Path, votes: dict[str, VoteSet]) -> list[Row]:
    """Agreement with held-out votes, on rendered and painted pictures, and rank correlation with the oracle."""
    rows = []
    for name, population in (("pickscore-tiny", "public"), ("heldout-tiny", "critics")):
        for kind, group in votes.items():
            by_judge, by_rater, pairs = agreement(judge(weights / name, group), group, population)
            rows.append(Row(f"{name} agrees with a vote, {kind} pictures", f"{by_judge:.3f}",
                            f">= {by_rater:.3f} (a single rater)", f"n = {pairs} pairs, population {population}"))
        truth = oracle(votes["painted"].prompts)
        rank = spearmanr(judge(weights / name, votes["painted"]).ravel(), truth).statistic
        rows.append(Row(f"Spearman of {name} and oracle", f"{rank:.3f}", ">= 0.60", f"n = {len(truth)} painted"))
    return rows


# 4. All of it --------------------------------------------------------------------------------------------------------
def measure(scratch: Path, weights: Path, eye_steps: int = 500, num_plain: int = 231, num_seeds: int = 16) -> list[Row]:
    """Every line of the model card for the models in `weights`; renders and checkpoints live in `scratch`."""
    render_dataset(scratch, 40_000)
    pictures, rows = load_dataset(scratch)
    eye, painter = train_eye(pictures, rows, scratch, eye_steps), load_painter(weights / "diffusion")
    (subjects, present), (seen, logits) = labels(rows[-NUM_HELD_OUT:]), look(eye, pictures[-NUM_HELD_OUT:])
    accuracy = modifier_accuracy(eye, painter, thresholds(logits, present.numpy()), num_seeds)
    votes = {"rendered": make_votes(HELD_OUT_SEED, None), "painted": make_votes(HELD_OUT_SEED + 1, painter)}
    return [eye_row(seen, subjects, present), subject_row(eye, painter, num_plain), modifier_row(accuracy, num_seeds),
            speed_row(painter), *judge_rows(weights, votes)]


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
    print(markdown(measure(args.scratch, args.weights)))


if __name__ == "__main__":
    main()

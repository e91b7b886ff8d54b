"""Eye: what GlyphWorld's public sees in a picture, a small network that names subject, colour, place and effects.

It is trained on renders and on the same pictures moved, blurred, noisy and, once there is an autoencoder, decoded; and
on pictures whose subject was wiped out, which it learns to call nothing. It belongs to the public: no judge and no
reward uses it, and of the measures one alone, which asks whether the subject is seen (`people.faith`).
"""
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    binary_cross_entropy_with_logits,
    cross_entropy,
    interpolate,
    max_pool2d,
    pad,
)

from npkit.errors import NpkitError
from npkit.glyphworld.painting.canvas import SIZE
from npkit.glyphworld.painting.renderer import Scene, ruling
from npkit.glyphworld.training.dataset import Dataset
from npkit.glyphworld.training.loop import CPU, Machine, fit
from npkit.glyphworld.vocabulary import CATEGORY_OF, COLOURS, MODIFIERS, PLACES, SUBJECTS

HEADS: dict[str, tuple[str, ...]] = {  # the last name of the first three: nothing of the kind is there
    "subject": (*SUBJECTS, "none"), "colour": (*COLOURS, "none"), "place": (*PLACES, "none"), "effects": MODIFIERS}
ON_THE_SUBJECT = torch.tensor([CATEGORY_OF[name] in ("style", "booster") for name in MODIFIERS])  # gone with it
WIDTH = 24  # channels of the eye's first layer
HELD_OUT = 0.05  # share of the dataset, its end, on which the eye is calibrated
Batch = dict[str, Tensor]  # head -> (n, width) logits, or as labels (n,) indices and (n, 48) presence


@dataclass(frozen=True)
class Seen:
    """What the eye sees in n pictures: probabilities of each name of each head, by the head's name."""
    subject: np.ndarray  # (n, 34)
    colour: np.ndarray  # (n, 7)
    place: np.ndarray  # (n, 6)
    effects: np.ndarray  # (n, 48), each for itself


class Eye(nn.Module):
    """A convolutional network of 0.4 M parameters on pictures (n, 3, 96, 96) in [-1, 1]."""

    def __init__(self, width: int = WIDTH):
        super().__init__()
        def block(channels: int, out: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.GroupNorm(8, out), nn.SiLU()]
        a, b, c = width, 2 * width, 4 * width
        self.trunk = nn.Sequential(
            *block(3, a, 2), *block(a, b, 2), *block(b, b, 1), *block(b, c, 2), *block(c, c, 1), *block(c, c + 32, 2),
            nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Dropout(0.1))
        self.heads = nn.ModuleDict({head: nn.Linear(9 * (c + 32), len(names)) for head, names in HEADS.items()})
        self.register_buffer("temperature", torch.ones(len(HEADS)))  # of each head, fitted on held-out pictures

    def forward(self, pictures: Tensor) -> Batch:
        features = self.trunk(pictures)
        return {head: layer(features) / heat
                for (head, layer), heat in zip(self.heads.items(), self.temperature, strict=True)}


# 1. What it is shown -------------------------------------------------------------------------------------------------
def labels(scenes: list[Scene]) -> Batch:
    """The right answers for `scenes`; of two modifiers of a category only the first is there to be seen."""
    index = {head: {name: number for number, name in enumerate(names)} for head, names in HEADS.items()}
    present = torch.zeros(len(scenes), len(MODIFIERS))
    for row, scene in enumerate(scenes):
        present[row, [index["effects"][name] for name in ruling(scene.modifiers).values()]] = 1
    return {head: torch.tensor([index[head][getattr(scene, head) or "none"] for scene in scenes])
            for head in ("subject", "colour", "place")} | {"effects": present}


def disturb(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture (n, 3, 96, 96) moved by a few pixels and, every second one, blurred, noisy or both."""
    def coin(*shape: int) -> Tensor:
        return torch.rand(len(pictures), *shape, generator=generator, device=pictures.device)

    right, down = (int(torch.randint(0, 9, (), generator=generator, device=pictures.device)) for _ in range(2))
    moved = pad(pictures, (4, 4, 4, 4), mode="replicate")[..., down:down + SIZE, right:right + SIZE]
    blurred = avg_pool2d(pad(moved, (1, 1, 1, 1), mode="replicate"), 3, 1)
    moved = torch.lerp(moved, blurred, coin(1, 1, 1) * (coin(1, 1, 1) < 0.4))
    noise = torch.randn(moved.shape, generator=generator, device=moved.device)
    return (moved + 0.25 * coin(1, 1, 1) * (coin(1, 1, 1) < 0.4) * noise).clamp(-1, 1)


def wipe_out(pictures: Tensor, masks: Tensor, kinds: Tensor) -> Tensor:
    """The pictures without their subject, which is where `masks` (n, 24, 24) say.

    By kind 0 it is smeared, 1 black, 2 of the ground's mean colour, 3 closed from the ground around it.
    """
    where = (2 * max_pool2d(masks[:, None], 5, 1, 2)).clamp(0, 1)  # a pixel of the mask is four of the picture
    small = avg_pool2d(pictures, pictures.shape[-1] // masks.shape[-1])
    ground = _wide(small * (1 - where)) / _wide(1 - where).clamp(min=1e-3)
    mean = ((small * (1 - where)).sum((2, 3)) / (1 - where).sum((2, 3)).clamp(min=1))[..., None, None]
    fills = torch.stack([_wide(small), torch.full_like(small, -0.98), mean.expand_as(small), ground])
    fill, where = (interpolate(each, SIZE, mode="bilinear") for each in (fills[kinds, torch.arange(len(kinds))], where))
    return torch.lerp(pictures, fill, where)


def _wide(small: Tensor) -> Tensor:
    """A wide blur of small pictures."""
    return avg_pool2d(avg_pool2d(small, 9, 1, 4, count_include_pad=False), 9, 1, 4, count_include_pad=False)


# 2. Training ---------------------------------------------------------------------------------------------------------
def train_eye(data: Dataset, folder: Path, steps: int, *, machine: Machine = CPU, batch_size: int = 64, seed: int = 0,
              decode: Callable[[Tensor], Tensor] | None = None, name: str = "eye", width: int = WIDTH) -> Eye:
    """An eye trained on all but the held-out pictures; `decode` sends pictures through an autoencoder and back."""
    torch.manual_seed(seed)
    eye, answers = Eye(width), {head: values.to(machine.device) for head, values in labels(data.scenes).items()}
    pictures, masks = (torch.from_numpy(each).to(machine.device) for each in (data.pictures, data.masks))
    num_rows = round(len(data) * (1 - HELD_OUT))

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(num_rows, (batch_size,), generator=generator, device=machine.device)
        shown, wiped = show(pictures[rows], masks[rows], generator, decode)
        return answer_loss(eye(shown), {head: values[rows] for head, values in answers.items()}, wiped)

    eye = fit(name, eye, loss_of, folder, steps=steps, learning_rate=3e-3, machine=machine, seed=seed,
              weight_decay=0.05, ema=0.99).eval()
    held_out = slice(num_rows, len(data))
    return calibrate(eye, pictures[held_out], {head: values[held_out] for head, values in answers.items()}, decode)


def show(pictures: Tensor, masks: Tensor, generator: torch.Generator,
         decode: Callable[[Tensor], Tensor] | None) -> tuple[Tensor, Tensor]:
    """A batch as the eye gets it, and which of its pictures (n,) lost their subject: a sixth; a quarter are decoded."""
    shown = to_signed(pictures)
    wiped = torch.rand(len(shown), generator=generator, device=shown.device) < 1 / 6
    kinds = torch.randint(0, 4, (len(shown),), generator=generator, device=shown.device)
    if decode:
        quarter = len(shown) // 4
        shown = torch.cat([decode(shown[:quarter]).to(shown.dtype), shown[quarter:]])
    shown = torch.where(wiped[:, None, None, None], wipe_out(shown, masks.float() / 255, kinds), shown)
    return disturb(shown, generator), wiped


def answer_loss(logits: Batch, answers: Batch, wiped: Tensor) -> Tensor:
    """Cross-entropy of every head; a picture that lost its subject shows none, and no style or booster is asked for."""
    nothing = {head: len(HEADS[head]) - 1 for head in ("subject", "colour")}
    loss = sum(cross_entropy(logits[head], torch.where(wiped, none, answers[head])) for head, none in nothing.items())
    loss = loss + 0.5 * cross_entropy(logits["place"], answers["place"])
    asked = 1 - (wiped[:, None] & ON_THE_SUBJECT.to(wiped.device)).float()
    return loss + 10 * binary_cross_entropy_with_logits(logits["effects"], answers["effects"], weight=asked)


@torch.no_grad()
def calibrate(eye: Eye, pictures: Tensor, answers: Batch, decode: Callable[[Tensor], Tensor] | None) -> Eye:
    """The eye with the temperatures at which its probabilities fit held-out (decoded) pictures best."""
    batches = [to_signed(chunk) for chunk in pictures.split(100)]
    outputs = [eye(decode(batch) if decode else batch) for batch in batches]
    for index, head in enumerate(HEADS):
        logits = torch.cat([each[head] for each in outputs]).float()
        loss = binary_cross_entropy_with_logits if head == "effects" else cross_entropy
        heats = torch.linspace(0.5, 3, 26)
        losses = torch.stack([loss(logits / heat, answers[head]) for heat in heats])
        eye.temperature[index] = heats[int(losses.argmin())]
    return eye


def to_signed(pictures: Tensor) -> Tensor:
    """Pictures (n, 96, 96, 3) uint8 as (n, 3, 96, 96) float in [-1, 1]."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


# 3. Looking ----------------------------------------------------------------------------------------------------------
@torch.no_grad()
def look(eye: Eye, pictures: np.ndarray, batch_size: int = 64) -> Seen:
    """What `eye` sees in pictures (n, 96, 96, 3) uint8."""
    chunks = torch.from_numpy(np.ascontiguousarray(pictures)).split(batch_size)
    logits = [eye(to_signed(chunk)) for chunk in chunks]
    joined = {head: torch.cat([each[head] for each in logits]) for head in HEADS}
    return Seen(**{head: (values.sigmoid() if head == "effects" else values.softmax(-1)).numpy()
                   for head, values in joined.items()})


def save_eye(eye: Eye, folder: Path, normalisation: dict[str, tuple[float, float]]) -> None:
    """Write the weights at half the size and, per population, mean and deviation of the utilities that they see."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous().cpu() for name, value in eye.state_dict().items()},
              folder / "eye.safetensors")
    (folder / "normalisation.json").write_text(json.dumps(normalisation, indent=2) + "\n")


@cache
def load_eye(folder: Path) -> tuple[Eye, dict[str, tuple[float, float]]]:
    """The eye in `folder` and the populations' normalisation; read once."""
    if not (folder / "eye.safetensors").exists():
        raise NpkitError(f"there is no eye in {folder}: `python -m npkit.glyphworld.train` trains one")
    eye = Eye()
    eye.load_state_dict({name: value.float() for name, value in load_file(folder / "eye.safetensors").items()})
    table = json.loads((folder / "normalisation.json").read_text())
    return eye.eval(), {name: tuple(numbers) for name, numbers in table.items()}

"""Judge training: CLIP from captions, PickScore from simulated votes, an aesthetic head from simulated ratings.

The order is the real one: CLIP learns which picture belongs to which text, PickScore goes on from it with people's
choices between two pictures of one prompt, LAION's head is fitted on frozen image embeddings. The people are simulated.
"""
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from npkit.glyphworld.corpus import parse
from npkit.glyphworld.painting.canvas import SIZE
from npkit.glyphworld.painting.renderer import ruling
from npkit.glyphworld.people.eye import to_signed
from npkit.glyphworld.people.tastes import populations
from npkit.glyphworld.people.votes import GROUP, VoteSet
from npkit.glyphworld.training.dataset import Dataset
from npkit.glyphworld.training.diffusion import MAX_TEXT_TOKENS, encode_text
from npkit.glyphworld.training.loop import CPU, Machine, fit, save_half
from npkit.glyphworld.vocabulary import MODIFIERS, SUBJECTS

NUM_RATERS = 8  # asked about a pair each time it comes up
WORDS = (*MODIFIERS, *SUBJECTS)  # each a text of its own
WORD_WEIGHT = 10.0  # of the loss over single words, a mean over many easy ones
LAYERS = (128, 64, 32, 16, 1)  # widths of the aesthetic head; LAION's are 1024, 128, 64, 16, 1
JUDGES: dict[str, tuple[str, int]] = {  # folder -> population that votes, seed
    "pickscore-tiny": ("public", 0), "heldout-tiny": ("critics", 1), "pickscore-tiny-2": ("public", 2),
    "pickscore-tiny-3": ("public", 3)}
AESTHETIC_SEED = 4  # of the CLIP under the aesthetic head: none of the judges'


@dataclass(frozen=True)
class Schooling:
    """How long the judges learn, and in which batches."""
    clip_steps: int
    clip_batch: int
    vote_steps: int
    vote_batch: int
    aesthetic_steps: int


# 1. CLIP from captions -----------------------------------------------------------------------------------------------
def build_clip(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """A CLIP of 0.9 M parameters, not trained: four vision layers on 8x8 patches of 12 pixels, two text layers."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    eos = tokenizer.eos_token_id
    return CLIPModel(CLIPConfig(
        projection_dim=128, vision_config=shape | {"num_hidden_layers": 4, "image_size": SIZE, "patch_size": 12},
        text_config=shape | {"num_hidden_layers": 2, "vocab_size": len(tokenizer), "eos_token_id": eos,
                             "bos_token_id": tokenizer.bos_token_id, "pad_token_id": eos,
                             "max_position_embeddings": MAX_TEXT_TOKENS}))


def embed_texts(clip: CLIPModel, input_ids: Tensor) -> Tensor:
    """L2-normalised embeddings (batch, 128) of token ids; padding, all of it after the end mark, is cut off."""
    longest = int((input_ids != clip.config.text_config.eos_token_id).sum(1).max()) + 1
    return normalize(clip.get_text_features(input_ids[:, :longest]).pooler_output.float(), dim=-1)


def embed_pictures(clip: CLIPModel, pictures: Tensor) -> Tensor:
    """L2-normalised embeddings (batch, 128) of pictures (batch, 96, 96, 3) uint8."""
    return normalize(clip.get_image_features(pixel_values=to_signed(pictures)).pooler_output.float(), dim=-1)


def temperature(clip: CLIPModel) -> Tensor:
    """CLIP's logit scale, at most 100 as in CLIP's training."""
    return clip.logit_scale.clamp(max=4.6052).exp()


def contrastive_loss(texts: Tensor, pictures: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss: each text must find its picture among the batch's, and each picture its text."""
    logits, target = scale * texts @ pictures.T, torch.arange(len(texts), device=texts.device)
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def words_present(texts: list[str]) -> Tensor:
    """(n, 81) 1.0 where a text has the word of `WORDS` and it can be seen: of a category's words only the first."""
    number, present = {word: index for index, word in enumerate(WORDS)}, torch.zeros(len(texts), len(WORDS))
    for row, scene in enumerate(map(parse, texts)):
        present[row, [number[scene.subject], *(number[word] for word in ruling(scene.modifiers).values())]] = 1
    return present


def word_loss(clip: CLIPModel, pictures: Tensor, word_ids: Tensor, present: Tensor) -> Tensor:
    """SigLIP's loss of pictures (batch, 128) with every single word: is it in the picture's prompt (batch, 81)?

    A caption's other words must not hide one of them: this is what makes a small ViT see all of them within minutes.
    """
    logits = 30 * pictures @ embed_texts(clip, word_ids).T - 5  # nine words share a picture: cosines of a third
    return binary_cross_entropy_with_logits(logits, present)


def train_clip(data: Dataset, tokenizer: CLIPTokenizer, folder: Path, school: Schooling, seed: int, name: str,
               machine: Machine = CPU) -> CLIPModel:
    """CLIP from scratch; 60 % of the captions are cut to their prefix, else subjects hide behind the easy modifiers."""
    clip, device, size = build_clip(tokenizer, seed), machine.device, school.clip_batch
    prefixes = [caption.partition(",")[0] for caption in data.captions]
    full_ids, prefix_ids, word_ids = (encode_text(tokenizer, texts).to(device)
                                      for texts in (data.captions, prefixes, list(WORDS)))
    pictures, present = torch.from_numpy(data.pictures).to(device), words_present(data.captions).to(device)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(data), (size,), generator=generator, device=device)
        is_cut = torch.rand(size, 1, generator=generator, device=device) < 0.6
        texts = embed_texts(clip, torch.where(is_cut, prefix_ids[rows], full_ids[rows]))
        seen = embed_pictures(clip, pictures[rows])
        return contrastive_loss(texts, seen, temperature(clip)) + \
            WORD_WEIGHT * word_loss(clip, seen, word_ids, present[rows])

    return fit(name, clip, loss_of, folder, steps=school.clip_steps, learning_rate=2e-3, machine=machine, seed=seed,
               weight_decay=0.05).eval()


# 2. PickScore from votes ---------------------------------------------------------------------------------------------
def preference_loss(first: Tensor, second: Tensor, wins: Tensor) -> Tensor:
    """PickScore's loss: cross-entropy of the share of votes that the first picture won with the softmax of both scores.
    """
    return binary_cross_entropy_with_logits(first - second, wins)


def ask(first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
    """The share of NUM_RATERS raters that prefer the first picture, for utilities over the raters' noise."""
    odds = (first - second).sigmoid()
    votes = torch.rand((NUM_RATERS, *odds.shape), generator=generator, device=odds.device) < odds
    return votes.float().mean(0)


def train_votes(clip: CLIPModel, votes: VoteSet, tokenizer: CLIPTokenizer, school: Schooling, population: str,
                seed: int, name: str, machine: Machine = CPU) -> CLIPModel:
    """Go on from `clip` with votes on pairs of pictures; a pair that comes again meets other raters.

    Most pairs show one prefix, as PickScore's do. Others show two, each picture judged against its own: they make
    scores comparable between prefixes, which votes within prefixes leave open.
    """
    size, device = school.vote_batch, machine.device
    prefix_ids, word_ids = (encode_text(tokenizer, texts).to(device) for texts in (votes.prefixes, list(WORDS)))
    present = words_present(votes.prompts).view(-1, GROUP, len(WORDS)).to(device)
    pictures = torch.from_numpy(votes.pictures).to(device)
    utilities = torch.from_numpy(votes.utilities[population]).float().to(device) / populations()[population].noise
    first, second = (list(side) for side in zip(*combinations(range(GROUP), 2), strict=True))

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(prefix_ids), (size,), generator=generator, device=device)
        worth, seen = utilities[rows], embed_pictures(clip, pictures[rows].flatten(0, 1))
        cosines = (seen.view(size, GROUP, -1) * embed_texts(clip, prefix_ids[rows])[:, None]).sum(-1)
        scores = temperature(clip) * cosines
        judged, true = ([(each[:, first], each[:, second]), (each, each.roll(1, 0))] for each in (scores, worth))
        losses = [preference_loss(*scored, ask(*felt, generator)) for scored, felt in zip(judged, true, strict=True)]
        return sum(losses) + WORD_WEIGHT * word_loss(clip, seen, word_ids, present[rows].flatten(0, 1))

    return fit(name, clip, loss_of, votes.folder, steps=school.vote_steps, learning_rate=1e-3, machine=machine,
               seed=seed, weight_decay=0.05).eval()


# 3. An aesthetic head from ratings -----------------------------------------------------------------------------------
class Head(nn.Module):
    """LAION's aesthetic head: linear layers without activations between them, dropout in training."""

    def __init__(self, width: int):
        super().__init__()
        a, b, c, d, e = LAYERS
        self.layers = nn.Sequential(  # numbered 0, 2, 4, 6 and 7 in the file, as LAION's
            nn.Linear(width, a), nn.Dropout(0.1), nn.Linear(a, b), nn.Dropout(0.1), nn.Linear(b, c), nn.Dropout(0.1),
            nn.Linear(c, d), nn.Linear(d, e))

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.layers(embeddings).squeeze(-1)


def rate(utilities: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Ratings from 1 to 10 of pictures with these utilities, each by a rater of its own."""
    doubt = torch.randn(utilities.shape, generator=generator, device=utilities.device)
    return (5 + 1.2 * (utilities + noise * doubt)).clamp(1, 10)


def train_aesthetic(clip: CLIPModel, votes: VoteSet, steps: int, machine: Machine = CPU) -> Head:
    """A head that predicts the public's ratings from the image embeddings of `clip`, frozen."""
    flat = torch.from_numpy(votes.pictures).flatten(0, 1)
    with torch.no_grad():
        embeddings = torch.cat([embed_pictures(clip, part.to(machine.device)) for part in flat.split(200)])
    utilities = torch.from_numpy(votes.utilities["public"]).float().flatten().to(machine.device)
    torch.manual_seed(0)
    head = Head(embeddings.shape[1])
    nn.init.constant_(head.layers[-1].bias, 5.0)  # the middle of the scale

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(embeddings), (256,), generator=generator, device=machine.device)
        ratings = rate(utilities[rows], populations()["public"].noise, generator)
        return (head(embeddings[rows]) - ratings).square().mean()

    return fit("aesthetic-tiny", head, loss_of, votes.folder, steps=steps, learning_rate=2e-3, machine=machine)


# 4. All of them ------------------------------------------------------------------------------------------------------
def save_judge(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write CLIP, tokenizer and image processor so that `from_pretrained(folder)` finds each."""
    save_half(clip.cpu(), folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3,
        image_std=[0.5] * 3).save_pretrained(folder)


def train_judge(name: str, data: Dataset, votes: VoteSet, tokenizer: CLIPTokenizer, folder: Path, out: Path,
                school: Schooling, machine: Machine = CPU) -> None:
    """Write a judge of `JUDGES`, or `aesthetic-tiny` with its head, to `out/name`; goes on from `folder`."""
    population, seed = JUDGES.get(name, ("public", AESTHETIC_SEED))
    clip = train_clip(data, tokenizer, folder, school, seed, f"{name}-clip", machine)
    if name in JUDGES:
        clip = train_votes(clip, votes, tokenizer, school, population, seed, name, machine)
        save_judge(clip, tokenizer, out / name)
    else:
        head = train_aesthetic(clip, votes, school.aesthetic_steps, machine)
        save_judge(clip, tokenizer, out / name)
        save_file(head.cpu().state_dict(), out / name / "head.safetensors")

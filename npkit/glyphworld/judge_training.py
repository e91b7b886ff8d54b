"""Judge training: CLIP from captions, PickScore from simulated votes, an aesthetic head from simulated ratings.

The order is the real one: CLIP learns which picture belongs to which text, PickScore goes on from it with people's
choices between two pictures of one prompt, LAION's head is fitted on frozen image embeddings. The people are simulated.
"""
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from npkit.glyphworld.corpus import choose_modifiers, parse, phrase, prefix_of
from npkit.glyphworld.dataset import load_dataset, sample_scene
from npkit.glyphworld.diffusion import MAX_TEXT_TOKENS, encode_text, learn_tokenizer, to_tensor
from npkit.glyphworld.effects import ORDER
from npkit.glyphworld.raters import POPULATIONS, facts, utility
from npkit.glyphworld.renderer import SIZE, Picture, Scene, render
from npkit.glyphworld.training import fit, save_half
from npkit.glyphworld.vocabulary import SUBJECTS

SAMPLING = {"num_inference_steps": 6, "guidance_scale": 2.0}  # as the tiny profile paints
GROUP = 4  # pictures of one prefix: the plain one and three prompts
GROUPS_A_CHUNK = 100
NUM_RATERS = 8  # asked about a pair each time it comes up
WORDS = (*ORDER, *SUBJECTS)  # each a text of its own
WORD_WEIGHT = 10.0  # of the loss over single words, a mean over many easy ones
LAYERS = (128, 64, 32, 16, 1)  # widths of the aesthetic head; LAION's are 1024, 128, 64, 16, 1
Painter = Callable[[list[str], list[int]], np.ndarray]  # prompts, seeds -> pictures (batch, 64, 64, 3) uint8


# 1. CLIP from captions -----------------------------------------------------------------------------------------------
def build_clip(tokenizer: CLIPTokenizer, seed: int) -> CLIPModel:
    """A CLIP of 0.9 M parameters: four vision layers on 8x8 patches, two text layers, 128 wide, not trained."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4}
    eos = tokenizer.eos_token_id
    return CLIPModel(CLIPConfig(
        projection_dim=128, vision_config=shape | {"num_hidden_layers": 4, "image_size": SIZE, "patch_size": 8},
        text_config=shape | {"num_hidden_layers": 2, "vocab_size": len(tokenizer), "eos_token_id": eos,
                             "bos_token_id": tokenizer.bos_token_id, "pad_token_id": eos,
                             "max_position_embeddings": MAX_TEXT_TOKENS}))


def embed_texts(clip: CLIPModel, input_ids: Tensor) -> Tensor:
    """L2-normalised embeddings (batch, 128) of token ids; padding, all of it after the end mark, is cut off."""
    longest = int((input_ids != clip.config.text_config.eos_token_id).sum(1).max()) + 1
    return normalize(clip.get_text_features(input_ids[:, :longest]).pooler_output, dim=-1)


def embed_pictures(clip: CLIPModel, pictures: np.ndarray) -> Tensor:
    """L2-normalised embeddings (batch, 128) of pictures (batch, 64, 64, 3) uint8."""
    return normalize(clip.get_image_features(pixel_values=to_tensor(pictures)).pooler_output, dim=-1)


def temperature(clip: CLIPModel) -> Tensor:
    """CLIP's logit scale, at most 100 as in CLIP's training."""
    return clip.logit_scale.clamp(max=4.6052).exp()


def contrastive_loss(texts: Tensor, pictures: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss: each text must find its picture among the batch's, and each picture its text."""
    logits, target = scale * texts @ pictures.T, torch.arange(len(texts))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def words_present(texts: list[str]) -> Tensor:
    """(n, 81) 1.0 where a text has the word of `WORDS`."""
    scenes = [parse(text) for text in texts]
    return torch.tensor([[float(word == scene.subject or word in scene.modifiers) for word in WORDS]
                         for scene in scenes])


def word_loss(clip: CLIPModel, pictures: Tensor, word_ids: Tensor, present: Tensor) -> Tensor:
    """SigLIP's loss of pictures (batch, 128) with every single word: is it in the picture's prompt (batch, 81)?

    A caption's other words must not hide one of them: this is what makes a small ViT see all of them within minutes.
    """
    logits = 30 * pictures @ embed_texts(clip, word_ids).T - 5  # nine words share a picture: cosines of a third
    return binary_cross_entropy_with_logits(logits, present)


def train_clip(pictures: np.ndarray, captions: list[str], tokenizer: CLIPTokenizer, folder: Path, steps: int,
               seed: int = 0, name: str = "clip", batch_size: int = 128) -> CLIPModel:
    """CLIP from scratch; 60 % of the captions are cut to their prefix, else subjects hide behind the easy modifiers."""
    clip = build_clip(tokenizer, seed)
    full_ids, word_ids = encode_text(tokenizer, captions), encode_text(tokenizer, list(WORDS))
    prefix_ids = encode_text(tokenizer, [caption.partition(",")[0] for caption in captions])
    present = words_present(captions)

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(captions), (batch_size,), generator=generator).sort().values
        cut = torch.rand(batch_size, 1, generator=generator) < 0.6
        texts = embed_texts(clip, torch.where(cut, prefix_ids[rows], full_ids[rows]))
        seen = embed_pictures(clip, pictures[rows.numpy()])
        return contrastive_loss(texts, seen, temperature(clip)) + \
            WORD_WEIGHT * word_loss(clip, seen, word_ids, present[rows])

    return fit(name, clip, loss_of, folder, steps=steps, learning_rate=2e-3, seed=seed, weight_decay=0.05).eval()


# 2. Pictures to vote on ----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class VoteSet:
    """Groups of pictures of one prefix each, and what the populations think of them."""
    prefixes: list[str]
    prompts: list[str]  # GROUP a prefix, the prefix itself first
    pictures: np.ndarray  # (groups, GROUP, 64, 64, 3) uint8
    utilities: dict[str, np.ndarray]  # population -> (groups, GROUP)


def sample_group(rng: np.random.Generator) -> tuple[str, list[str], list[Scene]]:
    """A prefix, its prompts and their scenes: no modifier, drawn evenly, and as two people would write it."""
    plain = replace(sample_scene(rng), modifiers=())
    prefix = prefix_of(plain, rng)
    choices = [(), sample_scene(rng).modifiers, *choose_modifiers(GROUP - 2, rng)]
    prompts = [", ".join([prefix, *(phrase(name, rng) for name in chosen)]) for chosen in choices]
    return prefix, prompts, [replace(plain, modifiers=chosen) for chosen in choices]


def flat(groups: np.ndarray) -> np.ndarray:
    """Pictures (groups, GROUP, 64, 64, 3) one after the other."""
    return groups.reshape(-1, *groups.shape[2:])


def opinions(pictures: list[Picture], scene: Scene) -> list[float]:
    """Mean utility of rendered pictures of `scene` for each population."""
    measured = [facts(picture, scene) for picture in pictures]
    return [float(np.mean([utility(one, scene, name) for one in measured])) for name in POPULATIONS]


def make_votes(seed: int, painter: Painter | None) -> VoteSet:
    """GROUPS_A_CHUNK groups: rendered pictures with their own utility, or painted ones with their prompt's."""
    rng = np.random.default_rng(seed)
    groups = [sample_group(rng) for _ in range(GROUPS_A_CHUNK)]
    scenes = [scene for _, _, scenes in groups for scene in scenes]
    seeds = [seed * GROUPS_A_CHUNK + group for group in range(GROUPS_A_CHUNK) for _ in range(GROUP)]
    renders = [[render(scene, np.random.default_rng((one, take))) for take in range(2 if painter else 1)]
               for scene, one in zip(scenes, seeds, strict=True)]
    table = np.array([opinions(*pair) for pair in zip(renders, scenes, strict=True)])
    prompts = [prompt for _, texts, _ in groups for prompt in texts]
    pictures = painter(prompts, seeds) if painter else np.stack([takes[0].pixels for takes in renders])
    return VoteSet([prefix for prefix, _, _ in groups], prompts, pictures.reshape(-1, GROUP, SIZE, SIZE, 3),
                   {name: table[:, index].reshape(-1, GROUP) for index, name in enumerate(POPULATIONS)})


def load_votes(folder: Path, num_chunks: int, painter: Painter | None, first_seed: int = 0) -> VoteSet:
    """Make what is not in `folder` yet, chunk by chunk, every second one painted if there is a painter; return all."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = []
    for seed in range(first_seed, first_seed + num_chunks):
        path = folder / f"votes-{seed}.npz"
        if not path.exists():
            votes = make_votes(seed, painter if seed % 2 else None)
            draft = path.with_suffix(".tmp.npz")
            np.savez(draft, prefixes=votes.prefixes, prompts=votes.prompts, pictures=votes.pictures, **votes.utilities)
            draft.replace(path)
        chunks.append(np.load(path))
    texts = ([str(text) for chunk in chunks for text in chunk[name]] for name in ("prefixes", "prompts"))
    return VoteSet(*texts, np.concatenate([chunk["pictures"] for chunk in chunks]),
                   {name: np.concatenate([chunk[name] for chunk in chunks]) for name in POPULATIONS})


def load_painter(folder: Path, batch_size: int = 32) -> Painter:
    """A function that paints prompts with the pipeline in `folder`, each picture from its own seed."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)

    def paint(prompts: list[str], seeds: list[int]) -> np.ndarray:
        pictures = []
        for start in range(0, len(prompts), batch_size):
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[start:start + batch_size]]
            painted = pipeline(prompts[start:start + batch_size], generator=generators, output_type="np", **SAMPLING)
            pictures.append((painted.images * 255).round().astype(np.uint8))
        return np.concatenate(pictures)

    return paint


# 3. PickScore from votes ---------------------------------------------------------------------------------------------
def preference_loss(first: Tensor, second: Tensor, wins: Tensor) -> Tensor:
    """PickScore's loss: cross-entropy of the share of votes that the first picture won with the softmax of both scores.
    """
    return binary_cross_entropy_with_logits(first - second, wins)


def ask(first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
    """The share of NUM_RATERS raters that prefer the first picture, for utilities over the raters' noise."""
    odds = (first - second).sigmoid()
    return torch.binomial(torch.full_like(odds, NUM_RATERS), odds, generator=generator) / NUM_RATERS


def train_votes(clip: CLIPModel, votes: VoteSet, tokenizer: CLIPTokenizer, folder: Path, steps: int,
                population: str = "public", seed: int = 0, name: str = "votes", batch_size: int = 32) -> CLIPModel:
    """Go on from `clip` with votes on pairs of pictures; a pair that comes again meets other raters.

    Most pairs show one prefix, as PickScore's do. Others show two, each picture judged against its own: they make
    scores comparable between prefixes, which votes within prefixes leave open.
    """
    prefix_ids, word_ids = encode_text(tokenizer, votes.prefixes), encode_text(tokenizer, list(WORDS))
    present = words_present(votes.prompts).view(-1, GROUP, len(WORDS))
    utilities = torch.from_numpy(votes.utilities[population]).float() / POPULATIONS[population].noise
    first, second = (list(side) for side in zip(*combinations(range(GROUP), 2), strict=True))

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(prefix_ids), (batch_size,), generator=generator)
        worth, pictures = utilities[rows], embed_pictures(clip, flat(votes.pictures[rows.numpy()]))
        cosines = (pictures.view(batch_size, GROUP, -1) * embed_texts(clip, prefix_ids[rows])[:, None]).sum(-1)
        scores = temperature(clip) * cosines
        sides = [(each[:, first], each[:, second]) for each in (scores, worth)]
        others = [(each, each.roll(1, 0)) for each in (scores, worth)]
        losses = [preference_loss(*judged, ask(*true, generator)) for judged, true in (sides, others)]
        return sum(losses) + WORD_WEIGHT * word_loss(clip, pictures, word_ids, present[rows].flatten(0, 1))

    return fit(name, clip, loss_of, folder, steps=steps, learning_rate=1e-3, seed=seed, weight_decay=0.05).eval()


# 4. An aesthetic head from ratings -----------------------------------------------------------------------------------
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
    return (5 + 1.2 * (utilities + noise * torch.randn(utilities.shape, generator=generator))).clamp(1, 10)


def train_aesthetic(clip: CLIPModel, votes: VoteSet, folder: Path, steps: int, seed: int = 0) -> dict[str, Tensor]:
    """The state dict of a head that predicts the public's ratings from the image embeddings of `clip`, frozen."""
    with torch.no_grad():
        embeddings = torch.cat([embed_pictures(clip, group) for group in np.array_split(flat(votes.pictures), 50)])
    utilities = torch.from_numpy(votes.utilities["public"]).float().flatten()
    torch.manual_seed(seed)
    head = Head(embeddings.shape[1])
    nn.init.constant_(head.layers[-1].bias, 5.0)  # the middle of the scale

    def loss_of(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(embeddings), (256,), generator=generator)
        ratings = rate(utilities[rows], POPULATIONS["public"].noise, generator)
        return (head(embeddings[rows]) - ratings).square().mean()

    return fit("aesthetic", head, loss_of, folder, steps=steps, learning_rate=2e-3, seed=seed).state_dict()


# 5. All of them ------------------------------------------------------------------------------------------------------
def save_judge(clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write CLIP, tokenizer and image processor so that `from_pretrained(folder)` finds each."""
    save_half(clip, folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, image_mean=[0.5] * 3,
        image_std=[0.5] * 3).save_pretrained(folder)


def train_judges(folder: Path, pipeline_folder: Path | None, out: Path, *, clip_steps: int = 900,
                 vote_steps: int = 1200, aesthetic_steps: int = 1500, num_chunks: int = 28) -> None:
    """Write `pickscore-tiny`, `heldout-tiny` and `aesthetic-tiny.safetensors` under `out`; resumes from `folder`.

    `folder` holds the rendered dataset. With `pipeline_folder` half of the pictures voted on are the pipeline's.
    """
    pictures, rows = load_dataset(folder)
    captions = [row["caption"] for row in rows]
    tokenizer = learn_tokenizer(folder, captions)
    votes = load_votes(folder / "votes", num_chunks, load_painter(pipeline_folder) if pipeline_folder else None)
    for seed, (judge, population) in enumerate((("pickscore", "public"), ("heldout", "critics"))):
        clip = train_clip(pictures, captions, tokenizer, folder, clip_steps, seed, f"{judge}-clip")
        clip = train_votes(clip, votes, tokenizer, folder, vote_steps, population, seed, f"{judge}-votes")
        save_judge(clip, tokenizer, out / f"{judge}-tiny")
        if judge == "pickscore":
            head = train_aesthetic(clip, votes, folder, aesthetic_steps)
            save_file(head, out / "aesthetic-tiny.safetensors")

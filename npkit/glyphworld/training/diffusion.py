"""Diffusion: GlyphWorld's UNet, trained on latents, and the `StableDiffusionPipeline` it belongs to.

A picture of 96 x 96 pixels is 24 x 24 latents of 8 channels. The UNet has few channels there and attends only where
6 x 6 and 3 x 3 positions are left: 5.7 ms an evaluation on one core; with three levels, attending at 12 x 12, it is 11.
"""
import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from npkit.glyphworld.training.loop import CPU, Machine, fit, save_half

MAX_TEXT_TOKENS = 64
LATENT_SIZE = 24  # a side
ATTENDING = 2  # levels of the UNet that read the text, the coarsest ones
HEADS = 4  # of the attention
GUIDANCE = 2.0  # that is distilled into the UNet
SUBJECT_WEIGHT = 5.0  # of a latent of the subject in the loss, against 1 of the ground's
COARSE_WEIGHT = 4.0  # of the error of means of 4 x 4 latents
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
             "prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}


def build_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """A CLIP tokenizer with its own byte-pair vocabulary, learnt from `captions`."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    alphabet = [chr(code) for code in range(33, 127)]
    bpe.train_from_iterator(captions, trainers.BpeTrainer(
        vocab_size=1200, min_frequency=2, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False))
    learnt = bpe.get_vocab(with_added_tokens=False)
    ordered = sorted(learnt, key=learnt.get)
    ordered += [f"{letter}</w>" for letter in alphabet if f"{letter}</w>" not in learnt]
    vocab = {token: index for index, token in enumerate([*ordered, "<|startoftext|>", "<|endoftext|>"])}
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TEXT_TOKENS)


def learn_tokenizer(folder: Path, captions: list[str]) -> CLIPTokenizer:
    """The tokenizer kept in `folder`, learnt once: another process would break the byte-pair ties another way."""
    path = folder / "tokenizer"
    if not path.exists():
        draft = path.with_suffix(".tmp")
        build_tokenizer(captions[:20_000]).save_pretrained(draft)
        draft.rename(path)
    return CLIPTokenizer.from_pretrained(path)


def encode_text(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids (batch, MAX_TEXT_TOKENS), padded as `StableDiffusionPipeline` pads."""
    settings = {"padding": "max_length", "max_length": MAX_TEXT_TOKENS, "truncation": True, "return_tensors": "pt"}
    return tokenizer(texts, **settings).input_ids


class Denoiser(nn.Module):
    """The UNet with the text encoder that conditions it, which stays as it is, as in Stable Diffusion."""

    def __init__(self, text_encoder: CLIPTextModel, channels: tuple[int, ...], latent_channels: int):
        super().__init__()
        self.text_encoder, width = text_encoder.float().requires_grad_(False), text_encoder.config.hidden_size
        plain = len(channels) - ATTENDING  # no attention at the finer levels: it costs three times the step
        self.unet = UNet2DConditionModel(
            sample_size=LATENT_SIZE, in_channels=latent_channels, out_channels=latent_channels,
            block_out_channels=channels, layers_per_block=1, norm_num_groups=16,
            down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * ATTENDING,
            up_block_types=("CrossAttnUpBlock2D",) * ATTENDING + ("UpBlock2D",) * plain,
            cross_attention_dim=width, attention_head_dim=HEADS,  # diffusers reads this old name as the number of heads
            addition_embed_type="text", addition_embed_type_num_heads=4, resnet_time_scale_shift="scale_shift")
        self.unet.set_attn_processor(AttnProcessor())  # on a CPU fused attention takes a fifth of a step, backwards

    def forward(self, noisy: Tensor, timesteps: Tensor, input_ids: Tensor) -> Tensor:
        return self.unet(noisy, timesteps, self.text_encoder(input_ids).last_hidden_state).sample


@dataclass(frozen=True)
class Examples:
    """What the diffusion model learns from: a row a picture."""
    latents: Tensor  # (n, 8, 24, 24)
    input_ids: Tensor  # (n, MAX_TEXT_TOKENS) of its caption
    masks: Tensor  # (n, 24, 24) from 0 to 1: where the subject is
    empty_ids: Tensor  # (1, MAX_TEXT_TOKENS) of an empty prompt

    def __getitem__(self, rows: Tensor) -> "Examples":
        return Examples(self.latents[rows], self.input_ids[rows], self.masks[rows], self.empty_ids)

    def to(self, device: str) -> "Examples":
        return Examples(*(each.to(device) for each in (self.latents, self.input_ids, self.masks, self.empty_ids)))

    def draw(self, size: int, generator: torch.Generator) -> "Examples":
        """`size` rows at random, the latents as float32."""
        rows = torch.randint(len(self.latents), (size,), generator=generator, device=self.latents.device)
        drawn = self[rows]
        return replace(drawn, latents=drawn.latents.float())


class Noise:
    """The diffusion process: noisy latents of a timestep, and the velocity that leads back."""

    def __init__(self, machine: Machine):
        alphas = DPMSolverMultistepScheduler(**SCHEDULER).alphas_cumprod.to(machine.device)
        self.alphas, self.sigmas = alphas.sqrt().view(-1, 1, 1, 1), (1 - alphas).sqrt().view(-1, 1, 1, 1)

    def add(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents (n, ...), their timesteps (n,) and velocities; more noise more often.

        In the noise it is decided what the subject is: every second timestep is of the noisier half.
        """
        timesteps = torch.randint(1000, (len(clean),), generator=generator, device=clean.device)
        timesteps[::2] = 500 + timesteps[::2] // 2
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        alpha, sigma = self.alphas[timesteps], self.sigmas[timesteps]
        return alpha * clean + sigma * noise, timesteps, alpha * noise - sigma * clean


def velocity_loss(guessed: Tensor, velocity: Tensor, masks: Tensor) -> Tensor:
    """The squared error of velocities (n, 8, 24, 24), of their parts and of the means of 4 x 4 of them.

    A latent of the subject counts SUBJECT_WEIGHT times one of the ground: a subject covers a seventh of the picture,
    and what it is must be learnt from that seventh. Means count COARSE_WEIGHT times: where the noise is strong nothing
    else can be told, and half of the latents' variance is between neighbours.
    """
    weights = 1 + (SUBJECT_WEIGHT - 1) * masks[:, None]
    error = guessed.float() - velocity
    fine, coarse = error.square(), nn.functional.avg_pool2d(error, 4).square()
    return (weights * fine).mean() / weights.mean() + COARSE_WEIGHT * (
        nn.functional.avg_pool2d(weights, 4) * coarse).mean() / weights.mean()


def train_denoiser(denoiser: Denoiser, examples: Examples, folder: Path, name: str, *, steps: int, batch_size: int,
                   machine: Machine = CPU) -> Denoiser:
    """Train the UNet on v-prediction; a tenth of the captions is dropped for guidance."""
    examples, noise = examples.to(machine.device), Noise(machine)

    def loss_of(generator: torch.Generator) -> Tensor:
        batch = examples.draw(batch_size, generator)
        is_dropped = torch.rand(batch_size, 1, generator=generator, device=machine.device) < 0.1
        noisy, timesteps, velocity = noise.add(batch.latents, generator)
        guessed = denoiser(noisy, timesteps, torch.where(is_dropped, batch.empty_ids, batch.input_ids))
        return velocity_loss(guessed, velocity, batch.masks)

    return fit(name, denoiser, loss_of, folder, steps=steps, learning_rate=1e-3, machine=machine,
               ema=max(0.5, min(0.999, 1 - 10 / steps))).eval()


def distil_guidance(teacher: Denoiser, examples: Examples, folder: Path, *, steps: int, batch_size: int,
                    guidance: float = GUIDANCE, machine: Machine = CPU) -> Denoiser:
    """A copy of `teacher` whose one evaluation gives what two of the teacher's give with classifier-free guidance."""
    student, noise = copy.deepcopy(teacher).train(), Noise(machine)
    teacher.to(machine.device).eval().requires_grad_(False)
    examples = examples.to(machine.device)

    def loss_of(generator: torch.Generator) -> Tensor:
        batch = examples.draw(batch_size, generator)
        noisy, timesteps, _ = noise.add(batch.latents, generator)
        with torch.no_grad():
            texts = torch.cat([batch.input_ids, batch.empty_ids.expand(batch_size, -1)])
            told, untold = teacher(noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), texts).float().chunk(2)
        guessed = student(noisy, timesteps, batch.input_ids)
        return velocity_loss(guessed, untold + guidance * (told - untold), batch.masks)

    return fit("guidance", student, loss_of, folder, steps=steps, learning_rate=5e-4, machine=machine,
               ema=max(0.5, min(0.998, 1 - 10 / steps))).eval()


def save_pipeline(vae: AutoencoderKL, denoiser: Denoiser, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write the parts as a `StableDiffusionPipeline` checkpoint in safetensors."""
    save_half(StableDiffusionPipeline(
        vae=copy.deepcopy(vae).cpu(), text_encoder=denoiser.cpu().text_encoder, tokenizer=tokenizer, unet=denoiser.unet,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None,
        image_encoder=None, requires_safety_checker=False), folder)

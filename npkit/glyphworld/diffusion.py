"""Diffusion: GlyphWorld's latent diffusion model, from rendered scenes to a `StableDiffusionPipeline` folder."""
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from npkit.glyphworld.training import fit, save_half

MAX_TEXT_TOKENS = 64
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
             "prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True}


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """Pictures (batch, 64, 64, 3) uint8 as (batch, 3, 64, 64) float in [-1, 1], what the autoencoder reads."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


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


def encode_text(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids (batch, MAX_TEXT_TOKENS), padded as `StableDiffusionPipeline` pads."""
    settings = {"padding": "max_length", "max_length": MAX_TEXT_TOKENS, "truncation": True, "return_tensors": "pt"}
    return tokenizer(texts, **settings).input_ids


def train_autoencoder(pictures: np.ndarray, folder: Path, steps: int, batch_size: int = 16) -> AutoencoderKL:
    """An AutoencoderKL to (4, 16, 16) latents, scaled so that they have unit variance."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1,
        block_out_channels=(16, 32, 48), latent_channels=4, norm_num_groups=8, sample_size=64,
        mid_block_add_attention=False).to(memory_format=torch.channels_last)

    def loss_of(generator: torch.Generator, colour_weight: float) -> torch.Tensor:
        rows = torch.randint(len(pictures), (batch_size,), generator=generator).sort().values.numpy()
        batch = to_tensor(pictures[rows]).contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(batch).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        error = vae.decode(posterior.mean + posterior.std * noise).sample - batch
        colour = nn.functional.avg_pool2d(error, 4).abs().mean()  # shapes are learnt first, the hues of flat areas last
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return error.abs().mean() + 0.5 * error.square().mean() + colour_weight * colour + 1e-3 * kl

    shapes, colours = steps - steps // 3, steps // 3
    vae = fit("autoencoder", vae, lambda generator: loss_of(generator, 0.0), folder, steps=shapes, learning_rate=2e-3,
              weight_decay=0.0)
    vae = fit("autoencoder-colour", vae, lambda generator: loss_of(generator, 1.5), folder, steps=colours,
              learning_rate=1.2e-3, weight_decay=0.0).eval()
    with torch.no_grad():
        vae.register_to_config(scaling_factor=1 / encode_latents(vae, pictures[:1000], scale=1.0).std().item())
    return vae


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, pictures: np.ndarray, scale: float | None = None) -> torch.Tensor:
    """Latent means (n, 4, 16, 16) of `pictures`, times the autoencoder's scaling factor."""
    scale = vae.config.scaling_factor if scale is None else scale
    chunks = (pictures[start:start + 200] for start in range(0, len(pictures), 200))
    return torch.cat([vae.encode(to_tensor(chunk)).latent_dist.mean for chunk in chunks]) * scale


class Denoiser(nn.Module):
    """The two networks that are trained together: the text encoder and the UNet it conditions."""

    def __init__(self, vocab_size: int, eos_token_id: int):
        super().__init__()
        self.text_encoder = CLIPTextModel(CLIPTextConfig(
            vocab_size=vocab_size, hidden_size=128, intermediate_size=384, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=MAX_TEXT_TOKENS, bos_token_id=eos_token_id - 1, eos_token_id=eos_token_id,
            pad_token_id=eos_token_id))
        self.unet = UNet2DConditionModel(
            sample_size=16, block_out_channels=(48, 96, 96), layers_per_block=1, norm_num_groups=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),  # no attention at 16x16:
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),  # it costs three times the step
            cross_attention_dim=128, attention_head_dim=32,
            addition_embed_type="text", addition_embed_type_num_heads=4, resnet_time_scale_shift="scale_shift")

    def forward(self, noisy: torch.Tensor, timesteps: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
        return self.unet(noisy, timesteps, self.text_encoder(input_ids).last_hidden_state).sample


def train_denoiser(latents: torch.Tensor, input_ids: torch.Tensor, empty_ids: torch.Tensor, weights: torch.Tensor,
                   folder: Path, *, steps: int, vocab_size: int, batch_size: int = 32) -> Denoiser:
    """Text encoder and UNet from scratch on v-prediction; a tenth of the captions is dropped for guidance.

    Rows are drawn in proportion to `weights` (n,): plain prefixes more often, for shapes are harder than styles.
    """
    torch.manual_seed(0)
    denoiser = Denoiser(vocab_size, eos_token_id=vocab_size - 1)
    denoiser.unet.to(memory_format=torch.channels_last)  # 7 % faster on a CPU
    scheduler = DPMSolverMultistepScheduler(**SCHEDULER)
    alphas = scheduler.alphas_cumprod.sqrt().view(-1, 1, 1, 1)
    sigmas = (1 - scheduler.alphas_cumprod).sqrt().view(-1, 1, 1, 1)

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        rows = torch.multinomial(weights, batch_size, replacement=True, generator=generator)
        dropped = torch.rand(batch_size, generator=generator) < 0.1
        ids = torch.where(dropped[:, None], empty_ids, input_ids[rows])
        clean, noise = latents[rows], torch.randn(latents[rows].shape, generator=generator)
        timesteps = torch.randint(1000, (batch_size,), generator=generator)
        timesteps[::2] = 500 + timesteps[::2] // 2  # more noise more often: there it is decided what the subject is
        alpha, sigma = alphas[timesteps], sigmas[timesteps]
        velocity = alpha * noise - sigma * clean
        return (denoiser(alpha * clean + sigma * noise, timesteps, ids) - velocity).square().mean()

    return fit("denoiser", denoiser, loss_of, folder, steps=steps, learning_rate=2e-3, ema=0.996).eval()


def save_pipeline(vae: AutoencoderKL, denoiser: Denoiser, tokenizer: CLIPTokenizer,
                  folder: Path) -> StableDiffusionPipeline:
    """Write the parts as a `StableDiffusionPipeline` checkpoint (safetensors) and return it."""
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=denoiser.text_encoder, tokenizer=tokenizer, unet=denoiser.unet,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULER), safety_checker=None, feature_extractor=None,
        image_encoder=None, requires_safety_checker=False)
    save_half(pipeline, folder)
    return pipeline

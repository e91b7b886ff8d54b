"""Images: a text-to-image model that paints prompts; a picture depends on its prompt and seed, not on its batch."""
import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from inspect import signature
from pathlib import Path

import diffusers
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import HFValidationError, validate_repo_id
from torch import Tensor
from transformers.utils import logging

from npkit.errors import NpkitError, PromptTooLong
from npkit.study.code import code_of
from npkit.study.contents import find_file, fingerprint, resolve
from npkit.study.profiles import ImagesConfig


class ImageModel:
    """Any diffusers text-to-image pipeline with the profile's way of sampling."""

    def __init__(self, pipeline: DiffusionPipeline, config: ImagesConfig):
        self.pipeline, self.config = pipeline, config
        self.num_truncated = 0  # prompts painted so far that the text encoder could not read to the end

    @property
    def fingerprint(self) -> str:
        """What decides the pixels of a picture besides prompt and seed, as a short hash.

        Model and revision by content, the sampler as it stands in the pipeline, steps, guidance, size, batch and
        number format; then what rounds: device, threads of a CPU, the code here and its libraries.
        """
        device = self.pipeline.device.type
        sampling = replace(self.config, model="")  # by content: wherever the folder is
        facts = (identity(self.config.model, self.config.revision), sampling,
                 repr(self.pipeline.components.get("scheduler")), device,
                 torch.get_num_threads() if device == "cpu" else 0, code_of(__name__).digest)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]

    def render(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Return the picture of each (prompt, seed), (batch, 3, height, width) in [0, 1] in the 256 steps of a PNG.

        A prompt longer than the text encoder takes loses its end and is counted in `num_truncated`.
        """
        self.num_truncated += sum(length > self.max_tokens for length in self.num_tokens(prompts))
        return in_full_batches(self._render, self.config.batch_size, list(prompts), list(seeds))

    def check_length(self, prompts: Sequence[str]) -> None:
        """Raise where a prompt would be truncated."""
        for prompt, length in zip(prompts, self.num_tokens(prompts), strict=True):
            if length > self.max_tokens:
                raise PromptTooLong(f"the prompt has {length} tokens, the text encoder of {self.config.model} takes "
                                    f"{self.max_tokens}: {prompt!r}")

    def truncated_share(self, prompts: Sequence[str]) -> float:
        """Return the share of prompts that the text encoder cannot read to the end."""
        return sum(length > self.max_tokens for length in self.num_tokens(prompts)) / len(prompts)

    @property
    def max_tokens(self) -> int:
        """Tokens the text encoder takes, begin and end marks included."""
        return self.pipeline.tokenizer.model_max_length

    def num_tokens(self, prompts: Sequence[str]) -> list[int]:
        """Return the tokens of each prompt, begin and end marks included."""
        return [len(ids) for ids in self.pipeline.tokenizer(list(prompts), verbose=False).input_ids] if prompts else []

    def _render(self, prompts: list[str], seeds: list[int]) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]  # on the CPU: same noise on every device
        with quiet_transformers():
            pictures = self.pipeline(
                prompts, generator=generators, num_inference_steps=self.config.num_inference_steps,
                guidance_scale=self.config.guidance_scale, height=self.config.height, width=self.config.width,
                output_type="pt").images
        return (pictures.float() * 255).round() / 255


def identity(name: str, revision: str = "") -> str:
    """Return what identifies a loaded model: `contents.fingerprint`, and of a hub id the commit that was downloaded."""
    found = fingerprint(name)
    if found != name:
        return found
    folder = repo_folder_name(repo_id=name.partition(":")[0], repo_type="model")
    commit = Path(constants.HF_HUB_CACHE, folder, "refs", revision or "main")  # holds what a branch or tag points to
    return f"{name}@{commit.read_text().strip() if commit.is_file() else revision or 'main'}"


def in_full_batches(function: Callable[..., Tensor], batch_size: int, *columns: list) -> Tensor:
    """Return `function` of the columns, called with exactly `batch_size` rows a time, the last ones repeated.

    Kernels choose their summation order by the batch's shape: with one shape, no result depends on its neighbours.
    """
    results = []
    for start in range(0, len(columns[0]), batch_size):
        part = [column[start:start + batch_size] for column in columns]
        num_rows = len(part[0])
        full = [rows + rows[-1:] * (batch_size - num_rows) for rows in part]
        results.append(function(*full)[:num_rows])
    return torch.cat(results)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence what diffusers makes transformers warn about: image processors nobody uses, text without a mask."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def scheduler_class(name: str) -> type[SchedulerMixin]:
    """Return the scheduler class of diffusers called `name`."""
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
        raise NpkitError(f"images.scheduler is a scheduler class of diffusers, such as DPMSolverMultistepScheduler, "
                         f"or empty; got {name!r}")
    return found


def load_class(name: str) -> type[DiffusionPipeline]:
    """Return the pipeline called `module:class`: one that needs no weights, such as GlyphWorld's ideal painter."""
    module, _, member = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), member)
    except (Exception, SystemExit) as error:  # a module of the user's may raise anything
        raise NpkitError(f"images.model is a folder, a hub id or a module:class, got {name!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, DiffusionPipeline) and not signature(found).parameters):
        raise NpkitError(f"images.model {name!r} is no DiffusionPipeline that is made without arguments, such as "
                         "npkit.glyphworld.painter:IdealPainter")
    return found


def check_config(config: ImagesConfig) -> None:
    """Raise where no image model can come of these settings; a hub id is not asked, for that would need the network."""
    if not isinstance(getattr(torch, config.dtype, None), torch.dtype):
        raise NpkitError(f"images.dtype is a torch type such as float32 or float16, got {config.dtype!r}")
    if config.scheduler:
        scheduler_class(config.scheduler)
    if not config.model:
        raise NpkitError("images.model is empty: it is a folder, a hub id or a module:class")
    if ":" in config.model and "/" not in config.model:
        load_class(config.model)
        if config.scheduler:
            raise NpkitError(f"images.scheduler is {config.scheduler!r}, and {config.model} has no scheduler: leave it "
                             "empty")
    elif find_file(config.model):
        load_parts(config)
    elif not is_hub_id(config.model):
        raise NpkitError(f"images.model is a folder, a hub id or a module:class, got {config.model!r}")


def is_hub_id(name: str) -> bool:
    """Say whether a name can be a repository of the Hugging Face hub; whether it is one, only the network knows."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def load_parts(config: ImagesConfig) -> dict[str, object]:
    """Return what the pipeline of a folder or hub id consists of."""
    try:
        parts = DiffusionPipeline.load_config(resolve(config.model), revision=config.revision or None)
    except (OSError, ValueError) as error:
        raise not_loadable(config, error) from error
    if not isinstance(parts, dict) or "_class_name" not in parts or len(parts) < 3:
        raise not_loadable(config, ValueError("its model_index.json names no parts"))
    return parts


def not_loadable(config: ImagesConfig, error: Exception) -> NpkitError:
    """Return the sentence on a model that is no pipeline."""
    return NpkitError(f"images.model {config.model!r} is no diffusers pipeline that can be loaded: "
                      f"{str(error).splitlines()[0]}")


def load_image_model(config: ImagesConfig, device: torch.device | str) -> ImageModel:
    """Return the pipeline of a folder, hub id or `module:class` on `device`, without safety checker or progress bar."""
    check_config(config)
    if ":" in config.model and "/" not in config.model:
        return ImageModel(load_class(config.model)().to(device), config)
    diffusers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity_error()  # its warning at every truncated prompt: `num_truncated` counts them
    unchecked = {"safety_checker": None, "requires_safety_checker": False}
    given = unchecked if "safety_checker" in load_parts(config) else {}
    try:
        with quiet_transformers():
            pipeline = DiffusionPipeline.from_pretrained(resolve(config.model), dtype=getattr(torch, config.dtype),
                                                         revision=config.revision or None, **given)
    except (OSError, ValueError) as error:
        raise not_loadable(config, error) from error
    if config.scheduler:
        pipeline.scheduler = scheduler_class(config.scheduler).from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return ImageModel(pipeline.to(device), config)

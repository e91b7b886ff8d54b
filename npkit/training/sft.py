"""SFT: supervised fine-tuning, in which the policy learns to write prompts as people do."""
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import torch
import trl
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
from transformers.trainer_utils import TrainOutput

from npkit.study.profiles import PolicyConfig, Profile, SFTConfig
from npkit.text.policy import Policy, build_policy, fits, generate, is_recurrent, save_policy, token_logprobs
from npkit.training import processes
from npkit.training.checkpoints import WholeCheckpoints
from npkit.training.packed_attention import attending_by_prompt

NUM_SAMPLES = 200  # completions sampled to see how many are training prompts
BLOCK_TOKENS = 256   # prompts are packed into rows of this many tokens: no padding
TOKENS_AT_ONCE = 4096  # of the rows of a step, so many tokens are read together
LOGGED = {"loss": "train/loss", "grad_norm": "train/grad_norm", "learning_rate": "train/learning_rate",
          "mean_token_accuracy": "train/token_accuracy"}  # trl's name -> ours


# 1. Data -------------------------------------------------------------------------------------------------------------
def prompts_of(dataset: Dataset, split: str) -> list[str]:
    """Return the prompts of one split."""
    return [prompt for prompt, name in zip(dataset["prompt"], dataset["split"]) if name == split]


def encode_prompts(tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str],
                   max_prompt_tokens: int) -> list[list[int]]:
    """Return the ids of each prompt and EOS; a prompt too long loses its end, and EOS with it."""
    # with an EOS behind its cut, the policy would learn to stop in the middle of a phrase
    ids = tokenizer(list(prompts))["input_ids"]
    return [(row + [tokenizer.eos_token_id])[:max_prompt_tokens] for row in ids]


def cut_share(tokenizer: PreTrainedTokenizerFast, sequences: Sequence[Sequence[int]]) -> float:
    """Return the share of encoded prompts that lost their end."""
    return sum(row[-1] != tokenizer.eos_token_id for row in sequences) / len(sequences)


# 2. Measure ----------------------------------------------------------------------------------------------------------
def perplexity(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> float:
    """Return exp(mean negative log-probability) over every token but the first of each sequence."""
    logprobs = token_logprobs(model, sequences)
    return math.exp(-sum(row.sum().item() for row in logprobs) / sum(len(row) for row in logprobs))


def unigram_perplexity(train: Sequence[Sequence[int]], held_out: Sequence[Sequence[int]], num_tokens: int) -> float:
    """Return the perplexity on `held_out` of a model that knows only how often each token occurs in `train`.

    Counts start at 1 (Laplace), so that a token never seen is possible. The first tokens are left out as above.
    """
    counts = Counter(token for row in train for token in row[1:])
    total = counts.total() + num_tokens
    tokens = [token for row in held_out for token in row[1:]]
    return math.exp(-sum(math.log((counts[token] + 1) / total) for token in tokens) / len(tokens))


def memorised_shares(policy: Policy, dataset: Dataset, config: PolicyConfig, seed: int) -> tuple[float, float]:
    """Return the share of sampled prompts that occur word by word in training, and the share of new prefixes in these.

    One completion is drawn for each of the first `NUM_SAMPLES` test prefixes that fit. A prefix is new where no prompt
    trained on was cut to it: to continue it with a prompt of another prefix is no mere recall.
    """
    model, tokenizer = policy
    rows = list(zip(dataset["split"], dataset["prefix"], dataset["prompt"]))
    prompts, known = ({row[column] for row in rows if row[0] == "sft"} for column in (2, 1))
    prefixes = list(dict.fromkeys(prefix for split, prefix, _ in rows if split == "test"))
    fitting = fits(tokenizer, prefixes, config.max_prefix_tokens)
    prefixes = [prefix for prefix, ok in zip(prefixes, fitting) if ok][:NUM_SAMPLES]
    completions = generate(model, tokenizer, prefixes, generator_seed=seed,
                           max_new_tokens=config.max_prompt_tokens - config.max_prefix_tokens)
    memorised = [prefix for prefix, rest in zip(prefixes, completions) if prefix + rest in prompts]
    new = sum(prefix not in known for prefix in memorised)
    return len(memorised) / max(1, len(prefixes)), new / max(1, len(memorised))


# 3. Train ------------------------------------------------------------------------------------------------------------
class SFTTrainer(WholeCheckpoints, trl.SFTTrainer):
    """trl's SFTTrainer, which takes the loss over whole prompts, with checkpoints that can be trusted."""

    def train(self, *arguments, **options) -> TrainOutput:
        with attending_by_prompt(self.model) if self.padding_free else nullcontext():
            return super().train(*arguments, **options)


def trainer_settings(config: SFTConfig, *, packing: bool, rows_per_step: int, seed: int, folder: Path, block: int,
                     on_cpu: bool) -> trl.SFTConfig:
    """Return trl's settings: steps of `rows_per_step` packed rows, many read together, or of one padded batch."""
    # trl's defaults are for large models on a GPU: bf16 and checkpointed activations, of which a CPU knows neither
    rows = processes.divide(rows_per_step, f"the {'packed rows' if packing else 'prompts'} of a step (sft.batch_size)")
    at_once = max(number for number in range(1, rows + 1) if rows % number == 0
                  and (not packing or number * block <= max(block, TOKENS_AT_ONCE)))
    return trl.SFTConfig(
        output_dir=str(folder), seed=seed, data_seed=seed, use_cpu=on_cpu, bf16=config.precision == "bfloat16",
        packing=packing, max_length=block, per_device_train_batch_size=at_once,
        gradient_accumulation_steps=rows // at_once, ddp_find_unused_parameters=False,
        num_train_epochs=config.num_epochs, max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate, lr_scheduler_type="cosine", warmup_steps=config.warmup_share,
        weight_decay=config.weight_decay, gradient_checkpointing=False, activation_checkpointing=False,
        save_steps=config.save_steps, save_total_limit=2, logging_steps=1, disable_tqdm=True, report_to=[])


def build_trainer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sequences: Sequence[Sequence[int]],
                  config: SFTConfig, *, packing: bool, seed: int, folder: Path, max_prompt_tokens: int,
                  callbacks: Sequence[TrainerCallback] = ()) -> SFTTrainer:
    """Return the trainer of `model` on encoded prompts, packed into rows of `BLOCK_TOKENS` or padded as they are."""
    block = max(BLOCK_TOKENS, max_prompt_tokens)
    mean_tokens = sum(map(len, sequences)) / len(sequences)  # a step of packed rows holds about batch_size prompts
    rows = max(1, round(config.batch_size * mean_tokens / block)) if packing else config.batch_size
    settings = trainer_settings(config, packing=packing, rows_per_step=rows, seed=seed, folder=folder, block=block,
                                on_cpu=model.device.type == "cpu")
    trainer = SFTTrainer(model, args=settings, train_dataset=Dataset.from_dict({"input_ids": list(sequences)}),
                         processing_class=tokenizer, callbacks=list(callbacks))
    trainer.remove_callback(PrinterCallback)  # it prints every row of the log
    return trainer


def history(log: Sequence[dict]) -> list[dict]:
    """Return trl's log as one row of named metrics a step."""
    return [{"step": row["step"], **{ours: row[name] for name, ours in LOGGED.items() if name in row}}
            for row in log if "loss" in row]


class ProgressLines(TrainerCallback):
    """Prints a line with the loss every `every` steps."""

    def __init__(self, every: int):
        self.every = every

    def on_log(self, args, state, control, logs, **others) -> None:
        if "loss" in logs and state.global_step % self.every == 0:
            print(f"step {state.global_step} of {state.max_steps}: loss {float(logs['loss']):.2f}")


def train_sft(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, dataset: Dataset, config: SFTConfig, *,
              seed: int, folder: Path, max_prompt_tokens: int,
              callbacks: Sequence[TrainerCallback] = ()) -> list[dict]:
    """Train `model` in place on the sft split and return one row of metrics a step, a last one on validation.

    Checkpoints go to `folder`; a run that was killed goes on from the newest one, to exactly the same losses.
    """
    train, validation = (encode_prompts(tokenizer, prompts_of(dataset, split), max_prompt_tokens)
                         for split in ("sft", "validation"))
    trainer = build_trainer(model, tokenizer, train, config, packing=not is_recurrent(model), seed=seed,
                            folder=folder, max_prompt_tokens=max_prompt_tokens, callbacks=callbacks)
    # a recurrent policy carries its state over the border of two packed prompts: it reads padded ones
    trainer.train_on(model)
    rows = history(trainer.state.log_history)
    value = perplexity(model, validation)
    return [*rows, {"step": trainer.state.global_step, "eval/loss": math.log(value), "eval/perplexity": value}]


# 4. All of it --------------------------------------------------------------------------------------------------------
def write_policy(dataset: Dataset, profile: Profile, seed: int, folder: Path, scratch: Path, device: torch.device,
                 callbacks: Sequence[TrainerCallback] = ()) -> dict[str, float]:
    """Train the SFT policy into `folder`/model and metrics.jsonl, with checkpoints in `scratch`; return its metrics.

    Of several processes only the main one writes and measures; the others return nothing.
    """
    model, tokenizer = build_policy(profile.policy, prompts_of(dataset, "sft"), seed)
    rows = train_sft(model.to(device), tokenizer, dataset, profile.sft, seed=seed, folder=scratch,
                     max_prompt_tokens=profile.policy.max_prompt_tokens, callbacks=callbacks)
    if not processes.is_main():
        return {}
    save_policy(model, tokenizer, folder / "model")
    pd.DataFrame(rows).to_json(folder / "metrics.jsonl", orient="records", lines=True)
    train = encode_prompts(tokenizer, prompts_of(dataset, "sft"), profile.policy.max_prompt_tokens)
    memorised, new = memorised_shares((model, tokenizer), dataset, profile.policy, seed)
    return {"train/loss": rows[-2]["train/loss"], "eval/perplexity": rows[-1]["eval/perplexity"],
            "sft/num_steps": rows[-1]["step"], "sft/cut_share": cut_share(tokenizer, train),
            "sft/memorised_share": memorised, "sft/memorised_new_prefix_share": new,
            "train/num_processes": processes.count()}

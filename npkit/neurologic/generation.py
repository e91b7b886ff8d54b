"""Generation: NeuroLogic decoding behind transformers' own door, `model.generate(custom_generate=...)`."""
from collections.abc import Callable

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import GenerateBeamDecoderOnlyOutput

from npkit.errors import NpkitError
from npkit.neurologic.clauses import Constraints
from npkit.neurologic.decoding import prepare, search, weigh
from npkit.neurologic.vocabulary import read_vocabulary
from npkit.study.profiles import NeurologicConfig, override
from npkit.text.policy import max_tokens

Generated = Tensor | GenerateBeamDecoderOnlyOutput


def neurologic_generate(tokenizer: PreTrainedTokenizerBase, constraints: Constraints,
                        config: NeurologicConfig | None = None) -> Callable[..., Generated]:
    """Return a decoding method for `generate`, which then takes and gives what it always does:

        model.generate(**tokenizer(["a fox"], return_tensors="pt"), num_beams=5, max_new_tokens=40,
                       custom_generate=neurologic_generate(tokenizer, constraints))

    `num_beams`, `num_return_sequences`, `max_new_tokens` and `length_penalty` are generate's, the other settings
    those of `config`. Logits processors (temperature, repetition penalty ...) raise: they would undo the promise.
    """
    base = config or NeurologicConfig(max_new_tokens=1)
    if base.compat:
        raise NpkitError(f"neurologic.compat {base.compat} is for npkit's own decode: generate would promise nothing")

    def method(model: PreTrainedModel, input_ids: Tensor, logits_processor: LogitsProcessorList,
               generation_config: GenerationConfig, **inputs) -> Generated:
        if logits_processor:
            raise NpkitError("NeuroLogic decoding takes no logits processor, got "
                             f"{', '.join(type(each).__name__ for each in logits_processor)}")
        num_best, beam_size = generation_config.num_return_sequences or 1, generation_config.num_beams or 1
        settings = override(base, beam_size=beam_size, length_penalty=generation_config.length_penalty,
                            max_new_tokens=generation_config.max_length - input_ids.shape[1])
        mask = inputs.get("attention_mask")  # not an argument by name, for generate would then pass it twice
        mask = torch.ones_like(input_ids) if mask is None else mask
        input_ids, mask = (each[::max(num_best, beam_size)] for each in (input_ids, mask))  # repeated for its own beams
        vocabulary = read_vocabulary(tokenizer, model.config.vocab_size)
        room = max_tokens(model) - settings.max_new_tokens
        rows = [ids[keep.bool()].tolist() for ids, keep in zip(input_ids, mask)]
        jobs = [prepare(tokenizer.decode(row), constraints, vocabulary, settings.max_new_tokens, room, row)
                for row in rows]
        beam = search(model, vocabulary, weigh(model, tokenizer, jobs), settings, num_best)
        sequences = torch.cat([input_ids.repeat_interleave(num_best, 0), beam.best_tokens.flatten(0, 1)], 1)
        if not generation_config.return_dict_in_generate:
            return sequences
        return GenerateBeamDecoderOnlyOutput(sequences=sequences, sequences_scores=beam.best.flatten())

    return method

"""Price: how much log-probability each clause of a prompt costs, by decoding once without it."""
from dataclasses import replace

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from npkit.neurologic.clauses import Constraints
from npkit.neurologic.decoding import decode
from npkit.study.profiles import NeurologicConfig


def prices(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefix: str, constraints: Constraints,
           config: NeurologicConfig) -> list[float]:
    """Return for each clause what `prefix` loses by it, in nats: log-probability without the clause minus with all.

    One batch decodes all clauses and every set that leaves one out. With a beam wide enough no price is negative; a
    negative one says that the search missed a better text.
    """
    wanted = constraints.wanted
    sets = [constraints, *(replace(constraints, wanted=wanted[:number] + wanted[number + 1:])
                           for number in range(len(wanted)))]
    whole, *others = decode(model, tokenizer, [prefix] * len(sets), sets, config)
    return [other.logprob - whole.logprob for other in others]

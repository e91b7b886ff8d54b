"""NeuroLogic decoding: a beam search whose every output satisfies its clauses and avoids its banned phrases.

A hypothesis ranks by its log-probability plus a bonus for the largest share written of a phrase of an unmet clause (Lu
et al., 2021, with the sign of the paper), and for every clause met: inside a group that changes nothing, but of groups
those further on are heard first. The paper's lambda is one number, to be found for each model and list of words; here
it is `partial_weight` times what the model expects the clause to cost, and a phrase half of whose cost is paid is half
written. The state of a hypothesis is two integers: a node of the machine and the set of clauses met. Judged is the
prompt, prefix and completion together, because the image model gets it whole:

* a clause may be met by the user's own words, or by a phrase that begins in the prefix and ends in the completion;
* a banned phrase may not be completed across the border either, and a prefix that contains one is refused;
* no letter is glued to the user's last word, no line is broken, and no two spaces follow one another.
"""
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SuppressTokensLogitsProcessor,
)
from transformers.generation import GenerateBeamDecoderOnlyOutput

from npkit.errors import ClausesTooLong, NpkitError, PrefixTooLong
from npkit.neurologic.constraints import BLANK, COMMAS, Constraints, find
from npkit.neurologic.goals import FAR, Certificate, certify, set_by_prefix
from npkit.neurologic.machine import BAN, IN_WORD
from npkit.neurologic.plans import (
    CHEAP_SETS,
    LAST_TOKENS,
    Progress,
    Template,
    Tracker,
    compile_constraints,
    shares,
    solved,
    stack,
)
from npkit.neurologic.reader import Reader, no_keys_and_values, phrase_costs
from npkit.neurologic.search import Beam, Rules, run_search
from npkit.neurologic.vocabulary import BREAK, END, Vocabulary, read_vocabulary, short_forms, written_forms
from npkit.study.profiles import NeurologicConfig, override
from npkit.text.characters import is_unicode
from npkit.text.policy import batches, evaluating, is_recurrent, max_tokens

Generated = Tensor | GenerateBeamDecoderOnlyOutput


@dataclass(frozen=True)
class Decoded:
    """A completion, its log-probability in nats (with EOS, where it ended before the limit), and its certificate."""
    prefix: str
    completion: str
    logprob: float
    num_tokens: int  # that the log-probability is of
    certificate: Certificate

    @property
    def prompt(self) -> str:
        return self.prefix + self.completion


@dataclass(frozen=True, eq=False)
class Job:
    """A prefix ready to decode: its tokens, what follows the text, and where the prefix leads to."""
    prefix: str
    prefix_ids: list[int]
    constraints: Constraints
    template: Template
    tracker: Tracker
    node: int
    met: int
    in_word: bool  # the prefix ends in a word: a letter next would change it
    need: int      # tokens that the clauses need at least, one after another


def decode(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
           constraints: Constraints | Sequence[Constraints], config: NeurologicConfig, batch_size: int = 64,
           generator: torch.Generator | None = None) -> list[Decoded]:
    """Return the best completion of each prefix under `constraints` (one set for all, or one a prefix).

    Contradictions, clauses that do not fit into `max_new_tokens` and prefixes with a banned phrase raise beforehand.
    `generator` draws the noise of a sampled beam (`beam_temperature` above 0); None is one seeded with 0.
    """
    best = decode_best(model, tokenizer, prefixes, constraints, config, 1, batch_size, generator)
    return [found[0] for found in best]


def decode_best(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
                constraints: Constraints | Sequence[Constraints], config: NeurologicConfig, num_best: int,
                batch_size: int = 64, generator: torch.Generator | None = None) -> list[list[Decoded]]:
    """Return the best different completions of each prefix, at most `num_best`, best first; otherwise as `decode`."""
    generator = generator or torch.Generator().manual_seed(0)
    if config.compat:
        raise NpkitError(f"neurologic.compat {config.compat} decodes as published, which promises nothing: "
                         "npkit.neurologic.published.decode_as_set does that")
    if min(num_best, batch_size) < 1:
        raise NpkitError(f"num_best and batch_size are at least 1, got {num_best} and {batch_size}")
    vocabulary, jobs = plan(model, tokenizer, prefixes, constraints, config)
    decoded: dict[int, list[Decoded]] = {}
    for batch in batches(by_length([job.prefix_ids for job in jobs]), batch_size):
        beam = search(model, vocabulary, [jobs[index] for index in batch], config, num_best, generator)
        decoded |= zip(batch, read_out(beam, vocabulary, [jobs[index] for index in batch]))
    return [decoded[index] for index in range(len(jobs))]


def plan(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
         constraints: Constraints | Sequence[Constraints], config: NeurologicConfig) -> tuple[Vocabulary, list[Job]]:
    """Return the vocabulary and a job for each prefix."""
    if min(config.beam_size, config.max_new_tokens) < 1:
        raise NpkitError(f"neurologic.beam_size and max_new_tokens are at least 1, got {config.beam_size} and "
                         f"{config.max_new_tokens}")
    if isinstance(prefixes, str) or not all(isinstance(prefix, str) and is_unicode(prefix) for prefix in prefixes):
        raise NpkitError(f"prefixes are a list of texts, such as ['a fox'], got {prefixes!r:.80}")
    vocabulary = read_vocabulary(tokenizer, model.config.vocab_size)
    room = max_tokens(model) - config.max_new_tokens
    jobs = [prepare(prefix, wanted, vocabulary, config.max_new_tokens, room)
            for prefix, wanted in zip(prefixes, one_each(constraints, prefixes, config), strict=True)]
    return vocabulary, weigh(model, tokenizer, vocabulary, jobs)


def by_length(sequences: Sequence[Sequence[int]]) -> list[int]:
    """Return the places of the sequences, the shortest first: a batch of equals is padded least."""
    return sorted(range(len(sequences)), key=lambda index: len(sequences[index]))


def one_each(constraints: Constraints | Sequence[Constraints], prefixes: Sequence[str],
             config: NeurologicConfig) -> Sequence[Constraints]:
    """Return the constraints of every prefix; `own_parts` of the settings turns that of the constraints off."""
    sets = [constraints] * len(prefixes) if isinstance(constraints, Constraints) else list(constraints or ())
    if len(sets) != len(prefixes) or not all(isinstance(each, Constraints) for each in sets):
        raise NpkitError(f"constraints are one Constraints for all {len(prefixes)} prefixes or one for each, got "
                         f"{constraints!r:.80}")
    return sets if config.own_parts else [replace(each, own_parts=False) for each in sets]


def prepare(prefix: str, constraints: Constraints, vocabulary: Vocabulary, max_new_tokens: int, room: int,
            prefix_ids: list[int] | None = None) -> Job:
    """Return the job of one prefix, or raise if nothing could satisfy its constraints.

    `prefix_ids` are its tokens, where they are not the tokenizer's own spelling.
    """
    prefix_ids = prefix_ids or vocabulary.tokenizer.encode(prefix, add_special_tokens=False)
    if not prefix.strip():
        raise NpkitError("the prefix is empty: the policy needs at least one word to continue")
    if len(prefix_ids) > room:
        raise PrefixTooLong(f"prefix has {len(prefix_ids)} tokens, the policy takes {room} beside a completion of "
                            f"{max_new_tokens}: {prefix[:60]!r}")
    if banned := next((phrase for phrase in constraints.excluded if find(phrase, prefix)), None):
        raise NpkitError(f"the prefix itself contains the excluded {banned!r}: {prefix[:60]!r}")
    template = compile_constraints(constraints, vocabulary)
    tracker, node = template.tracker, read_prefix(template.tracker, prefix)
    met = set_by_prefix(constraints, template.layout, prefix)
    in_word = prefix[-1].isalnum() or prefix[-1] == "_"
    need = _need(tracker, node, met, in_word, vocabulary)
    tight = need > max_new_tokens or max_new_tokens <= LAST_TOKENS
    tracker = solved(tracker, max_new_tokens) if tight else solved(tracker, LAST_TOKENS, CHEAP_SETS)
    need = _need(tracker, node, met, in_word, vocabulary)
    if need > max_new_tokens:
        kind = ClausesTooLong if need < FAR else NpkitError
        raise kind(_why_infeasible(constraints, vocabulary, need, max_new_tokens,
                                   tracker.plans.exact_sets.shape[1] > 0))
    return Job(prefix, prefix_ids, constraints, template, tracker, node, met, in_word, need)


def read_prefix(tracker: Tracker, prefix: str) -> int:
    """Return the node that the prefix leads to: any blank as a space, any comma as the ASCII one."""
    node, _ = tracker.machine.read_text(re.sub(f"[{COMMAS}]", ",", re.sub(BLANK, " ", prefix)))
    pending = int(tracker.machine.pending[node])
    return IN_WORD if pending & BAN else node  # only by a word the user continues otherwise: "text" in "étext"


def weigh(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary,
          jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with what the model expects the phrases of each bit to cost behind a comma, in nats.

    Of the phrases of a clause, and of their forms, the likeliest counts. Like the paper's lambda it only says which
    hypotheses are heard: too small, and clauses are put off to the last tokens; too large, and they are written
    wherever they fit least.
    """
    if is_recurrent(model):
        raise no_keys_and_values(model)
    trackers = {job.tracker: job.template for job in jobs}
    losses = phrase_costs(model, tokenizer, [form for template in trackers.values()
                                             for phrase in template.wanted_phrases()
                                             for form in short_forms(phrase, vocabulary)])
    length = (vocabulary.token_bytes != END).sum(1).tolist()
    costs = {phrase: [(length[token], loss) for token, loss in row[:-1]] for phrase, row in losses.items()}
    comma_cost = {phrase: row[-1][1] for phrase, row in losses.items()}
    weighed = {tracker: replace(tracker, progress=_progress(template, costs, comma_cost))
               for tracker, template in trackers.items()}
    return [replace(job, tracker=weighed[job.tracker]) for job in jobs]


def _progress(template: Template, costs: Mapping[str, Sequence[tuple[int, float]]],
              comma_cost: Mapping[str, float]) -> Progress:
    own_parts = bool(template.compiled.comma_nodes)
    comma = float(np.mean([comma_cost[phrase] for phrase in template.wanted_phrases()])) if own_parts else 0.0
    weight = torch.zeros_like(template.tracker.progress.weight)
    for bit, slot in enumerate(template.layout):
        if not slot.limited:
            forms = {form for phrase in slot.phrases for form in written_forms(phrase) if form in costs}
            weight[0, bit] = comma + min(sum(cost for _, cost in costs[form]) for form in forms)
    return Progress(shares(template.compiled, costs, weight.shape[1], comma), weight)


def _need(tracker: Tracker, node: int, met: int, in_word: bool, vocabulary: Vocabulary) -> int:
    """Return the tokens that the clauses need behind the prefix, whose last word no first token may continue."""
    machine, goals, plans = tracker.machine, tracker.goals, tracker.plans

    def need(nodes: Tensor, bits: Tensor) -> Tensor:
        return plans.assess(goals, machine.pending[nodes], nodes, bits)[0]

    here, bits = torch.tensor([[node]]), torch.tensor([[met]])
    found = int(need(here, bits))
    if not found or not in_word:
        return found
    first = (vocabulary.first_class[machine.proposals[0]] == BREAK).nonzero().flatten()
    gained = machine.next_gains[node, first][None]
    after = need(machine.next_node[node, first][None], goals.gain(bits, gained, machine.pending[here]))
    return int((1 + after.masked_fill(gained & BAN != 0, FAR)).amin()) if len(first) else FAR


def _why_infeasible(constraints: Constraints, vocabulary: Vocabulary, need: int, max_new_tokens: int,
                    is_exact: bool) -> str:
    if need < FAR:
        return f"the clauses need {need} new tokens, max_new_tokens is {max_new_tokens}"
    for category, clause in constraints.wanted:
        if not any(vocabulary.spell(space + literal.phrase) for literal in clause for space in (" ", "")):
            phrases = [literal.phrase for literal in clause]
            return f"the vocabulary has no tokens that write any of {phrases} ({category})"
    if not is_exact:
        return (f"no way is known to write the clauses {[category for category, _ in constraints.wanted]}: they share "
                "phrases that are counted, and are too many to try all combinations")
    limits = " or breaking the counts" if any(clause.capped for _, clause in constraints.wanted) else ""
    return (f"the clauses {[category for category, _ in constraints.wanted]} cannot all be written without one of the "
            f"excluded {list(constraints.excluded)}{limits}")


# 1. The search -------------------------------------------------------------------------------------------------------
def search(model: PreTrainedModel, vocabulary: Vocabulary, jobs: Sequence[Job], config: NeurologicConfig,
           num_best: int = 1, generator: torch.Generator | None = None) -> Beam:
    """Return the beam at the end of one search on all jobs at once."""
    with evaluating(model):
        rules, beam, reader = open_search(model, vocabulary, jobs, config, num_best)
        run_search(rules, beam, reader, generator)
    return beam


def read_out(beam: Beam, vocabulary: Vocabulary, jobs: Sequence[Job]) -> list[list[Decoded]]:
    """Return the finished hypotheses of each job as texts; of two spellings of one text the likelier stays."""
    eos, limit = vocabulary.tokenizer.eos_token_id, beam.best_tokens.shape[2]
    lengths = ((beam.best_tokens != eos).sum(2) + 1).clamp(max=limit).tolist()  # no EOS at the limit
    found = []
    for job, tokens, logprobs, counts in zip(jobs, beam.best_tokens, beam.best_logprob.tolist(), lengths):
        completions = vocabulary.tokenizer.batch_decode(tokens, skip_special_tokens=True,
                                                        clean_up_tokenization_spaces=False)
        finished: dict[str, tuple[float, int]] = {}
        for completion, logprob, num_tokens in zip(completions, logprobs, counts):
            if logprob > -torch.inf:
                finished.setdefault(completion, (logprob, num_tokens))
        if not finished:
            raise NpkitError(f"the beam of {beam.node.shape[1]} lost every text that satisfies the clauses within "
                             f"{limit} tokens: raise neurologic.beam_size or max_new_tokens: {job.prefix[:60]!r}")
        found.append([Decoded(job.prefix, completion, *measured,
                              certify(job.constraints, job.prefix + completion, job.prefix))
                      for completion, measured in finished.items()])
    return found


def open_search(model: PreTrainedModel, vocabulary: Vocabulary, jobs: Sequence[Job], config: NeurologicConfig,
                num_best: int = 1) -> tuple[Rules, Beam, Reader]:
    """Return what a search on `jobs` works with: the rules, the beam before its first token, the model."""
    eos, device = vocabulary.tokenizer.eos_token_id, model.device
    tracker = stack([job.tracker for job in jobs], fill_token=eos)
    node, met, in_word, need = (torch.tensor([getattr(job, name) for job in jobs])
                                for name in ("node", "met", "in_word", "need"))
    rules = Rules.of(tracker, vocabulary, config, in_word.to(device), need.to(device))
    beam = Beam.start((node + tracker.machine.root).to(device), met.to(device), config, eos, num_best)
    return rules, beam, Reader(model, [job.prefix_ids for job in jobs], config.num_rows, config.max_new_tokens)


# 2. transformers' own door -------------------------------------------------------------------------------------------
def neurologic_generate(tokenizer: PreTrainedTokenizerBase, constraints: Constraints,
                        config: NeurologicConfig | None = None) -> Callable[..., Generated]:
    """Return a decoding method for `generate`, which then takes and gives what it always does:

        model.generate(**tokenizer(["a fox"], return_tensors="pt"), num_beams=5, max_new_tokens=40,
                       custom_generate=neurologic_generate(tokenizer, constraints))

    `num_beams`, `num_return_sequences`, `max_new_tokens` and `length_penalty` are generate's, the other settings
    those of `config`. Logits processors (temperature, repetition penalty ...) raise: they would undo the promise. Only
    `suppress_tokens` may name what is never written anyway, as padding, which policies of this kit suppress.
    """
    base = config or NeurologicConfig(max_new_tokens=1)
    if base.compat:
        raise NpkitError(f"neurologic.compat {base.compat} is for npkit's own decode: generate would promise nothing")

    def method(model: PreTrainedModel, input_ids: Tensor, logits_processor: LogitsProcessorList,
               generation_config: GenerationConfig, **inputs) -> Generated:
        vocabulary = read_vocabulary(tokenizer, model.config.vocab_size)
        _check_processors(logits_processor, vocabulary)
        num_best, beam_size = generation_config.num_return_sequences or 1, generation_config.num_beams or 1
        settings = override(base, beam_size=beam_size, length_penalty=generation_config.length_penalty,
                            max_new_tokens=generation_config.max_length - input_ids.shape[1])
        mask = inputs.get("attention_mask")  # not an argument by name, for generate would then pass it twice
        mask = torch.ones_like(input_ids) if mask is None else mask
        input_ids, mask = (each[::max(num_best, beam_size)] for each in (input_ids, mask))  # repeated for its own beams
        room = max_tokens(model) - settings.max_new_tokens
        rows = [ids[keep.bool()].tolist() for ids, keep in zip(input_ids, mask)]
        texts = [tokenizer.decode(row) for row in rows]
        jobs = [prepare(text, each, vocabulary, settings.max_new_tokens, room, row)
                for text, each, row in zip(texts, one_each(constraints, texts, settings), rows)]
        beam = search(model, vocabulary, weigh(model, tokenizer, vocabulary, jobs), settings, num_best)
        sequences = torch.cat([input_ids.repeat_interleave(num_best, 0), beam.best_tokens.flatten(0, 1)], 1)
        if not generation_config.return_dict_in_generate:
            return sequences
        return GenerateBeamDecoderOnlyOutput(sequences=sequences, sequences_scores=beam.best.flatten())

    return method


def _check_processors(processors: LogitsProcessorList, vocabulary: Vocabulary) -> None:
    """Raise on a processor of logits that asks for more than decoding does by itself."""
    eos = vocabulary.tokenizer.eos_token_id
    for processor in processors:
        if not isinstance(processor, SuppressTokensLogitsProcessor):
            raise NpkitError(f"NeuroLogic decoding takes no logits processor, got {type(processor).__name__}")
        tokens = processor.suppress_tokens.tolist()
        if written := [token for token in tokens if token == eos or not vocabulary.never[token]]:
            raise NpkitError(f"NeuroLogic decoding cannot suppress the token {written[0]}, which writes "
                             f"{vocabulary.tokenizer.decode(written[:1])!r}: list phrases in `excluded` instead")


# 3. What came out ----------------------------------------------------------------------------------------------------
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


def tabulate(decoded: Mapping[str, Sequence[Decoded]]) -> pd.DataFrame:
    """Return one row per (variant, prefix): completion, log-probability in nats, certificate as JSON."""
    return pd.DataFrame([
        {"prefix": found.prefix, "variant": variant, "completion": found.completion, "logprob": found.logprob,
         "certificate": json.dumps(found.certificate.to_dict(), ensure_ascii=False)}
        for variant, rows in decoded.items() for found in rows])


def coverage(decoded: Mapping[str, Sequence[Decoded]]) -> dict[str, float]:
    """Return the share of clauses satisfied, the number of banned phrases found, and the mean log-probabilities."""
    certificates = [found.certificate for rows in decoded.values() for found in rows]
    met = [clause.holds for certificate in certificates for clause in certificate.clauses]
    logprobs = {f"decode/logprob/{variant}": sum(found.logprob for found in rows) / len(rows)
                for variant, rows in decoded.items()}
    return {"decode/clause_coverage": sum(met) / len(met) if met else 1.0,
            "decode/violations": float(sum(len(certificate.violations) for certificate in certificates)), **logprobs}

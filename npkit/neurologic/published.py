"""Published behaviours: NeuroLogic decoding as two repositories run it, defects included, to compare ours with.

`lu2021` is the zero-shot script of Lu et al. (2021), `neuroprompts` the fork behind the demo of NeuroPrompts (paper,
3.3). Both are written anew from what the code does, as tensors over a batch. Reproduced on purpose are

* the sign of the progress term (`lu2021`): a phrase just begun ranks above one nearly complete, and above a text that
  has none in hand; the paper's formula has the other sign. The term is added to the mean log-probability, so that its
  weight grows with the prefix;
* the leaking end: EOS that is the likeliest token of an unsatisfied hypothesis ends it all the same, and the list of
  ended hypotheses drops its members by score only, so that unsatisfied ones push satisfied ones out;
* bans of tokens: a banned phrase is written in any other spelling, by capitals or by the split into tokens;
* no word boundaries: " concept art" counts as met in " concept artstation", and banned " text" in " texture";
* no look ahead: nothing says whether the phrases still fit into the tokens that are left.

Left out: the fork sorts the members of a group by parts of speech, with a table that was never published, and spells
the prefix anew (`str.capitalize`). A phrase that two clauses share stays for the second one, where Lu et al. delete it,
and in `neuroprompts` a phrase begun inside the one that met its clause may not be completed either. Length is counted
without padding, so that a batch gives what each prefix gives alone; special tokens other than EOS are not written; bans
without clauses work, where the code of Lu et al. stops with an error.
"""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from transformers import NoRepeatNGramLogitsProcessor, PreTrainedModel, PreTrainedTokenizerBase

from npkit.errors import NpkitError, PrefixTooLong
from npkit.neurologic.constraints import Constraints, checked
from npkit.neurologic.decoding import Decoded, by_length, decode, one_each
from npkit.neurologic.goals import certify
from npkit.neurologic.machine import BAN
from npkit.neurologic.reader import Reader
from npkit.neurologic.search import Continuations, keep_slots, take_turns
from npkit.neurologic.token_automaton import NO_TOKEN, Phrase, TokenAutomaton, compile_phrases, join
from npkit.study.profiles import NeurologicConfig
from npkit.text.policy import batches, evaluating, max_tokens

FLOOR = -1000.0  # both: candidates below are dropped (but for the likeliest of all), so that long texts die in silence
NOBODY = -1e9    # both: score of the rows that are empty before the first token


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """What one published decoder does; likelihood pruning is off in both (500,000 exceeds every vocabulary)."""
    partial_weight: float           # `beta`: of minus the logarithm of the share written of a phrase in hand
    early_stop: float               # a satisfied hypothesis may end if EOS is among its K * early_stop likeliest tokens
    group_by_begun: bool            # hypotheses take turns by the clauses met or in hand; False: by the clauses met
    reads_prefix: bool              # clauses may be met, phrases begun, in the prefix
    no_repeat_ngram_size: int       # no n tokens twice, prefix included
    length_penalty: float           # exponent of the length, prefix included
    bad_tokens: tuple[str, ...]     # never written
    both_cases: bool                # phrases are spelled in small letters and in Title Case; False: as given
    once: bool                      # the phrases of a clause that is met are banned
    proposes_met: bool              # tokens of met clauses' phrases stay proposed
    end_tokens: tuple[str, ...] = (".", "Ġ.")  # end a text as EOS does
    sat_tolerance: int = 2          # keep hypotheses at most so many clauses behind the best
    min_new_tokens: int = 5         # no end before


BEHAVIOURS = {
    # GXimingLu/neurologic_decoding: zero_shot/decode.sh (beta 1.25, early_stop 10, tolerance 2, n-gram 3, penalty 0.2,
    # min 5), decode_gpt2.py (bad tokens, meant for CommonGen; `advance` on the prefix; phrases as " phrase"),
    # topK.py (groups by `met_order`).
    "lu2021": Behaviour(
        partial_weight=1.25, early_stop=10, group_by_begun=False, reads_prefix=True, no_repeat_ngram_size=3,
        length_penalty=0.2, bad_tokens=(":", "'", "-", "_", "@", "Ċ", "Ġ:", "Ġwho", "'s"), both_cases=False, once=False,
        proposes_met=False),
    # IntelLabs/multimodal_cognitive_ai, Demos/NeuroPrompts: app.py (n-gram 2, penalty 1.0, small letters and Title
    # Case), neurologic_pe.py (tolerance 2, min 5, bad tokens; its beta 1.25 reaches nothing), prompt_constraints.py
    # (max_count 1), generate.py (int(beam_size * 5), groups by `met_process`), lexical_constraints.py (the ordered
    # state that proposes tokens is never cut down to the unmet clauses).
    "neuroprompts": Behaviour(
        partial_weight=0.0, early_stop=5, group_by_begun=True, reads_prefix=False, no_repeat_ngram_size=2,
        length_penalty=1.0, bad_tokens=("?", ":", "'", '"', ',"', '."', "-", "_", "@", "Ċ", "Ġ:", "Ġ(", "Ġ)", "(", ")",
                                        "Ġ[", "Ġ]", "[", "]", "Ġ{", "Ġ}", "{", "}"),
        both_cases=True, once=True, proposes_met=True),
}


def decode_as_set(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
                  constraints: Constraints | Sequence[Constraints], config: NeurologicConfig,
                  batch_size: int = 64) -> list[Decoded]:
    """Return the best completion of each prefix by the decoder that `neurologic.compat` names, or (empty) by ours.

    The published ones promise nothing: their certificates may fail.
    """
    if not config.compat:
        return decode(model, tokenizer, prefixes, constraints, config, batch_size)
    sets = one_each(constraints, prefixes, config)
    ids = [tokenizer.encode(prefix, add_special_tokens=False) for prefix in prefixes]
    decoded: dict[int, Decoded] = {}
    for batch in batches(by_length(ids), batch_size):
        tokens, lengths, logprobs = decode_published(model, tokenizer, [ids[index] for index in batch],
                                                     [sets[index] for index in batch], BEHAVIOURS[config.compat],
                                                     config.beam_size, config.max_new_tokens)
        completions = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for index, completion, logprob, num_tokens in zip(batch, completions, logprobs, lengths.tolist()):
            certificate = certify(sets[index], prefixes[index] + completion, prefixes[index])
            decoded[index] = Decoded(prefixes[index], completion, logprob, num_tokens, certificate)
    return [decoded[index] for index in range(len(ids))]


def decode_published(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefix_ids: list[list[int]],
                     constraints: Sequence[Constraints], behaviour: Behaviour, beam_size: int,
                     max_new_tokens: int) -> tuple[Tensor, Tensor, list[float]]:
    """Return the best new tokens of each prefix (prefixes, max_new_tokens), filled up with EOS, how many they are (with
    an EOS that ends them), and their log-probability in nats.

    Nothing is promised: clauses may stay unsatisfied and banned phrases occur. A beam of 1 raises, as published, and
    so do clauses with counts or an order of their own, which the published code has no way to be given.
    """
    for each in constraints:
        if each.ordered or any(clause.counts for _, clause in each.wanted):
            raise NpkitError("the published decoders take neither counts nor an order of clauses: leave "
                             "neurologic.compat empty for those")
    check_request(model, prefix_ids, beam_size, max_new_tokens)
    phrases = [spell(tokenizer, each, behaviour) for _, each in zip(prefix_ids, constraints, strict=True)]
    machine = join([compile_phrases(*each) for each in phrases]).to(model.device)
    rules = Rules.of(machine, behaviour, model, tokenizer)
    with evaluating(model):
        reader = Reader(model, prefix_ids, beam_size, max_new_tokens)
        beam = Beam.start(rules, prefix_ids, beam_size, max_new_tokens)
        while True:
            totals = rules.score(beam, reader.logprobs())
            slots = rules.select(beam, rules.expand(beam, totals))
            row, token = beam.follow(rules, slots)
            if beam.length == max_new_tokens or bool(beam.done.all()):
                return beam.best(rules)
            reader.step(row, token)


def check_request(model: PreTrainedModel, prefix_ids: Sequence[list[int]], beam_size: int, max_new_tokens: int) -> None:
    """Raise on a beam of one, an empty prefix, or one without room for the completion."""
    if beam_size < 2:
        raise NpkitError(f"the published decoders take a beam of 2 or more, got {beam_size}")
    room = max_tokens(model) - max_new_tokens
    for prefix in prefix_ids:
        if not prefix:
            raise NpkitError("the prefix is empty: the policy needs at least one token to continue")
        if len(prefix) > room:
            raise PrefixTooLong(f"prefix has {len(prefix)} tokens, the policy takes {room} beside a completion of "
                                f"{max_new_tokens}")


def spell(tokenizer: PreTrainedTokenizerBase, constraints: Constraints,
          behaviour: Behaviour) -> tuple[tuple[tuple[Phrase, ...], ...], tuple[Phrase, ...]]:
    """Return the clauses and the banned phrases as the published code encodes them: with a space before each."""
    cases = (str.lower, str.title) if behaviour.both_cases else (str,)

    def phrases(texts: Iterable[str]) -> tuple[Phrase, ...]:
        cased = dict.fromkeys(case(text) for text in texts for case in cases)
        return tuple(tuple(tokenizer.encode(" " + text, add_special_tokens=False)) for text in cased)

    clauses = (phrases(literal.phrase for literal in clause) for _, clause in checked(constraints).wanted)
    return tuple(clauses), phrases(constraints.excluded)


# 1. The beam ---------------------------------------------------------------------------------------------------------
@dataclass
class Candidates(Continuations):
    """Continuations of the hypotheses of a sentence by one token, (sentences, candidates)."""
    overall: Tensor  # True: among the K best of all hypotheses together

    def pick(self, chosen: Tensor) -> "Candidates":
        """Return the candidates `chosen` (sentences, chosen), in that order."""
        return Candidates(*(getattr(self, field.name).gather(1, chosen) for field in fields(self)))


@dataclass
class Beam:
    """The live hypotheses of a batch, (sentences, beams), and the best ended ones, (sentences, 2 * beams)."""
    node: Tensor
    met: Tensor
    scores: Tensor         # log-probability in nats
    tokens: Tensor         # (sentences, beams, longest prefix + max_new_tokens), prefixes padded on the left with EOS
    value: Tensor          # of ended ones: log-probability / length ** length_penalty; -inf: none yet
    num_met: Tensor
    logprob: Tensor
    ended: Tensor          # their tokens, as `tokens`
    prefix_length: Tensor  # (sentences, 1)
    done: Tensor           # (sentences, 1)
    begin: int             # of the new tokens in `tokens`
    length: int = 0        # new tokens so far

    @classmethod
    def start(cls, rules: "Rules", prefix_ids: Sequence[list[int]], beam_size: int, max_new_tokens: int) -> "Beam":
        machine, device = rules.machine, rules.machine.root.device
        longest, eos = max(map(len, prefix_ids)), int(rules.eos[0])
        padded = [[eos] * (longest - len(row)) + row + [eos] * max_new_tokens for row in prefix_ids]
        tokens = torch.tensor(padded, device=device)[:, None].repeat(1, beam_size, 1)
        node, met = machine.root[:, None], torch.zeros_like(machine.root)[:, None]
        if rules.behaviour.reads_prefix:  # the padding before it is read too: EOS is in no phrase and leaves the root
            for token in tokens[:, :1, :longest].unbind(2):
                node = machine.read(node, token)
                met = met | machine.ends[node] & machine.full[:, None]
        scores = torch.full(tokens.shape[:2], NOBODY, device=device)
        scores[:, 0] = 0
        none = torch.full((len(tokens), 2 * beam_size), -torch.inf, device=device)
        lengths = torch.tensor([[len(row)] for row in prefix_ids], device=device)
        return cls(node.repeat(1, beam_size), met.repeat(1, beam_size), scores, tokens, none, none.long().fill_(-1),
                   none.clone(), tokens.repeat(1, 2, 1), lengths, torch.zeros_like(lengths, dtype=torch.bool), longest)

    def end(self, rules: "Rules", hypotheses: Candidates, tokens: Tensor) -> None:
        """Add the kept ones of `hypotheses`, whose texts are `tokens`, to the ended ones, which stay the 2K best.

        Defect reproduced: by score only, however few clauses they satisfy.
        """
        length = self.prefix_length + self.length
        value = hypotheses.score / length ** rules.behaviour.length_penalty
        value = torch.cat([self.value, value.masked_fill(~hypotheses.kept | self.done, -torch.inf)], 1)
        best = value.argsort(dim=1, descending=True, stable=True)[:, :self.value.shape[1]]
        num_met = torch.cat([self.num_met, rules.machine.members(hypotheses.met).sum(2)], 1)
        self.value, self.num_met = value.gather(1, best), num_met.gather(1, best)
        self.logprob = torch.cat([self.logprob, hypotheses.score], 1).gather(1, best)
        tokens = torch.cat([self.ended, tokens], 1)
        self.ended = tokens.gather(1, best[..., None].expand(-1, -1, tokens.shape[2]))

    def follow(self, rules: "Rules", slots: Candidates) -> tuple[Tensor, Tensor]:
        """Go through the 2K slots in order until K go on, end what ends; return each one's parent and token."""
        beams = self.scores.shape[1]
        tokens = self.tokens.gather(1, slots.row[..., None].expand(-1, -1, self.tokens.shape[2]))
        tokens[:, :, self.begin + self.length] = slots.token
        live = ~rules.is_eos[slots.token]
        slots.kept = live.cumsum(1) - live.long() < beams  # visited
        best = slots.score.masked_fill(~slots.kept, -torch.inf).amax(1, keepdim=True)
        reachable = best / (self.prefix_length + self.length) ** rules.behaviour.length_penalty
        self.length += 1
        slots.kept &= ~live
        self.end(rules, slots, tokens)
        num_live = live.sum(1, keepdim=True)
        self.done |= (self.value[:, -1:] >= reachable) | (num_live == 0)
        place = torch.minimum(torch.arange(beams, device=live.device), (num_live - 1).clamp(min=0))  # the last repeated
        chosen = (~live).byte().argsort(dim=1, stable=True).gather(1, place)
        chosen = chosen.gather(1, keep_slots(slots.row.gather(1, chosen)))
        self.tokens = tokens.gather(1, chosen[..., None].expand(-1, -1, tokens.shape[2]))
        slots = slots.pick(chosen)
        self.node, self.met, self.scores = slots.node, slots.met, slots.score
        return slots.row, slots.token

    def best(self, rules: "Rules") -> tuple[Tensor, Tensor, list[float]]:
        """Return tokens, their number and log-probability of the best: of most clauses met, then of highest value."""
        live = torch.ones_like(self.met, dtype=torch.bool)
        self.end(rules, Candidates(live, live, self.scores, self.node, self.met, live, live), self.tokens)
        num_met = self.num_met.masked_fill(self.value == -torch.inf, -1)
        value = self.value.masked_fill(num_met < num_met.amax(1, keepdim=True), -torch.inf)
        best = value.argmax(1, keepdim=True)
        tokens = self.ended.gather(1, best[..., None].expand(-1, -1, self.ended.shape[2]))
        tokens = tokens[:, 0, self.begin:]
        length = (tokens != rules.eos[0]).sum(1)
        last = tokens.gather(1, (length - 1).clamp(min=0)[:, None])[:, 0]
        by_eos = (length < tokens.shape[1]) & ((length == 0) | ~rules.is_eos[last])
        return tokens, length + by_eos, self.logprob.gather(1, best).flatten().tolist()


# 2. One step ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Rules:
    """What a step obeys: the automata, the behaviour, and which tokens end a text or are never written."""
    machine: TokenAutomaton
    behaviour: Behaviour
    proposals: Tensor  # (sentences, symbols) the tokens of the phrases; 0 fills up
    known: Tensor      # (sentences, symbols) False where it does
    eos: Tensor        # (ends,) EOS, then the other end tokens
    is_eos: Tensor     # (tokens,)
    never: Tensor      # (tokens,)

    @classmethod
    def of(cls, machine: TokenAutomaton, behaviour: Behaviour, model: PreTrainedModel,
           tokenizer: PreTrainedTokenizerBase) -> "Rules":
        vocab, num_tokens = tokenizer.get_vocab(), model.config.vocab_size
        eos = [tokenizer.eos_token_id, *(vocab[token] for token in behaviour.end_tokens if token in vocab)]
        never = {vocab[token] for token in behaviour.bad_tokens if token in vocab}
        never |= set(range(len(tokenizer), num_tokens)) | set(tokenizer.all_special_ids) - {tokenizer.eos_token_id}
        known = machine.symbols != NO_TOKEN
        token = torch.arange(num_tokens, device=machine.root.device)
        eos = torch.tensor(eos, device=token.device)
        return cls(machine, behaviour, machine.symbols.masked_fill(~known, 0), known, eos, torch.isin(token, eos),
                   torch.isin(token, torch.tensor(sorted(never), device=token.device)))

    def score(self, beam: Beam, logprobs: Tensor) -> Tensor:
        """Return the log-probability of every continuation (sentences, beams, tokens), -inf where a rule forbids it."""
        machine = self.machine
        repeats = NoRepeatNGramLogitsProcessor(self.behaviour.no_repeat_ngram_size)
        written = beam.tokens[..., :beam.begin + beam.length].flatten(0, 1)
        totals = repeats(written, logprobs.flatten(0, 1)).view_as(logprobs) + beam.scores[..., None]
        totals.masked_fill_(self.never, -torch.inf)
        ends = machine.ends[machine.delta[beam.node][..., 1:]]
        banned = BAN | beam.met[..., None] if self.behaviour.once else BAN  # defect reproduced: one spelling only
        penalty = totals.new_zeros(ends.shape).masked_fill_(ends & banned != 0, -torch.inf)
        totals.scatter_add_(2, self.proposals[:, None].expand_as(ends), penalty)
        if beam.length < self.behaviour.min_new_tokens:
            totals[..., self.eos] = -torch.inf
        return totals

    def expand(self, beam: Beam, totals: Tensor) -> Candidates:
        """Return the candidates of a step, none kept twice."""
        likely = self.likely(beam, totals)
        proposed = self.proposed(beam, totals, likely)
        parts = likely, proposed, self.ending(beam, totals, likely, proposed)
        return Candidates(*(torch.cat([getattr(part, field.name) for part in parts], 2).flatten(1)
                            for field in fields(Candidates)))

    def likely(self, beam: Beam, totals: Tensor) -> Candidates:
        """Return the K likeliest tokens of every hypothesis; the K best of all are among them."""
        beams = totals.shape[1]
        found = self.continued(beam, totals, totals.topk(beams).indices)
        best = found.score.flatten(1).topk(beams).indices
        found.overall.view(-1, beams * beams).scatter_(1, best, True)
        may_end = self.satisfied(beam.met)[..., None] | ~self.is_eos[found.token]
        leaking = torch.arange(beams, device=best.device) == 0  # defect reproduced: likeliest of its hypothesis
        found.kept = torch.where(found.overall, may_end | leaking | self.satisfied(found.met), may_end & found.kept)
        return found

    def proposed(self, beam: Beam, totals: Tensor, likely: Candidates) -> Candidates:
        """Return the tokens that begin, continue or complete a phrase of an unmet clause."""
        machine = self.machine
        found = self.continued(beam, totals, self.proposals[:, None].expand(-1, totals.shape[1], -1))
        if self.behaviour.proposes_met:  # of any clause, but for the tokens of the phrase just written
            useful = (machine.begun[found.node] != 0) & ~machine.spent[beam.node][..., 1:]
        else:
            useful = machine.begun[found.node] & ~beam.met[..., None] != 0
        seen = likely.token.masked_fill(~(likely.kept | likely.overall), -1)
        found.kept &= useful & self.known[:, None] & ~among(found.token, seen)
        return found

    def ending(self, beam: Beam, totals: Tensor, likely: Candidates, proposed: Candidates) -> Candidates:
        """Return the ends of satisfied hypotheses, where they are not far from the likeliest token."""
        found = self.continued(beam, totals, self.eos.expand(*totals.shape[:2], -1))
        likelier = torch.stack([(totals > score[..., None]).sum(2) for score in found.score.unbind(2)], 2)
        near = likelier < int(totals.shape[1] * self.behaviour.early_stop)
        seen = torch.cat([likely.token, proposed.token.masked_fill(~proposed.kept, -1)], 2)
        found.kept &= self.satisfied(beam.met)[..., None] & near & ~among(found.token, seen)
        return found

    def continued(self, beam: Beam, totals: Tensor, token: Tensor) -> Candidates:
        """Return every hypothesis continued by `token` (sentences, beams, candidates), kept if likelier than FLOOR."""
        machine, score = self.machine, totals.gather(2, token)
        node = machine.read(beam.node[..., None].expand_as(token), token)
        return Candidates(
            row=torch.arange(token.shape[1], device=token.device)[:, None].expand_as(token), token=token, score=score,
            node=node, met=beam.met[..., None] | machine.ends[node] & machine.full[:, None, None], kept=score > FLOOR,
            overall=torch.zeros_like(token, dtype=torch.bool))

    def satisfied(self, met: Tensor) -> Tensor:
        """Say of clause sets (sentences, ...) whether they are complete."""
        return met == self.machine.full.view(-1, *[1] * (met.dim() - 1))

    def select(self, beam: Beam, candidates: Candidates) -> Candidates:
        """Return the 2K slots in the order in which they are visited; where there are fewer, the last one repeated."""
        beams = beam.scores.shape[1]
        kept = candidates.kept | candidates.overall & ~candidates.kept.any(1, keepdim=True)
        finished = kept & self.satisfied(candidates.met) & (candidates.overall | self.is_eos[candidates.token])
        unfinished = kept & ~finished
        turns, in_turn = self.in_turns(beam, candidates, unfinished)
        best = candidates.score.masked_fill(~finished, -torch.inf).topk(2 * beams)
        place = torch.arange(2 * beams, device=turns.device)
        ends = (best.values > -torch.inf) & ((place < beams) | ~unfinished.any(1, keepdim=True))
        others = in_turn & (place < 2 * beams - ends.sum(1, keepdim=True))
        tier = torch.cat([torch.where(ends, 0, 3), torch.where(others, torch.where(place < beams, 1, 2), 3)], 1)
        chosen = torch.cat([best.indices, turns], 1)  # the finished, the first K in turn, the rest: each by score
        order = candidates.score.gather(1, chosen).argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, tier.gather(1, order).argsort(dim=1, stable=True))
        filled = (tier < 3).sum(1, keepdim=True)
        return candidates.pick(chosen.gather(1, order.gather(1, torch.minimum(place, filled - 1))))

    def in_turns(self, beam: Beam, candidates: Candidates, unfinished: Tensor) -> tuple[Tensor, Tensor]:
        """Return 2K candidates near the most clauses met, the groups taking turns, and which of them are any good."""
        machine, met = self.machine, candidates.met
        num_met = machine.members(met).sum(2)
        most = num_met.masked_fill(~unfinished, -1).amax(1, keepdim=True)
        near = unfinished & (num_met >= most - self.behaviour.sat_tolerance)
        unmet = machine.full[:, None] & ~met
        group = met | machine.begun[candidates.node] & unmet if self.behaviour.group_by_begun else met
        rank = self.rank(beam, candidates, unmet).masked_fill(~near, -torch.inf)
        turns = take_turns(rank, group.masked_fill(~near, -1), 2 * beam.scores.shape[1])
        return turns, near.gather(1, turns)

    def rank(self, beam: Beam, candidates: Candidates, unmet: Tensor) -> Tensor:
        """Return what hypotheses are compared by inside a group, with the published sign of the progress term."""
        if not self.behaviour.partial_weight:
            return candidates.score
        share = (self.machine.progress[candidates.node] * self.machine.members(unmet)).amax(2)
        bonus = torch.where(share > 0, -self.behaviour.partial_weight * share.log(), 0.0)  # defect reproduced
        return candidates.score / (beam.prefix_length + beam.length + 1) + bonus


def among(tokens: Tensor, others: Tensor) -> Tensor:
    """Say of each of `tokens` (sentences, beams, ...) whether it is one of `others` (sentences, beams, ...)."""
    return (tokens[..., None] == others[..., None, :]).any(-1)

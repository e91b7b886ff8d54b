"""Published NeuroLogic decoding of one prefix, hypothesis by hypothesis: what `npkit.neurologic.published` is held to.

Written for reading: tuples, sets and loops. Where a text stands is the set of phrases' beginnings it ends with.
"""
import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Hypothesis:
    """A text so far; `last` and `row` say which token continued which hypothesis."""
    tokens: tuple
    score: float
    met: frozenset
    begun: frozenset
    row: int = 0

    @property
    def last(self):
        return self.tokens[-1]


@dataclass(frozen=True)
class Reference:
    """One prefix's clauses (lists of token tuples), banned phrases, and the settings that all hypotheses share."""
    clauses: list
    banned: list
    behaviour: object
    eos: set
    never: set
    beam_size: int

    # Where a text stands ---------------------------------------------------------------------------------------------
    def phrases(self):
        return [*(phrase for clause in self.clauses for phrase in clause), *self.banned]

    def read(self, begun, token):
        """Return the beginnings of phrases that the text ends with after one more token."""
        longer = {beginning + (token,) for beginning in begun | {()}}
        return frozenset(each for each in longer if any(starts(each, phrase) for phrase in self.phrases()))

    def met_by(self, begun):
        return {number for number, clause in enumerate(self.clauses) if any(phrase in begun for phrase in clause)}

    def continued(self, hypothesis, token, score, row):
        begun = self.read(hypothesis.begun, token)
        met = hypothesis.met | self.met_by(begun)
        return Hypothesis((*hypothesis.tokens, token), score, met, begun, row)

    def satisfied(self, hypothesis):
        return len(hypothesis.met) == len(self.clauses)

    def in_hand(self, hypothesis):
        """Return the unmet clauses of which a phrase is begun, with the largest share written of one."""
        shares = {}
        for number, clause in enumerate(self.clauses):
            for beginning in hypothesis.begun:
                lengths = [len(phrase) for phrase in clause if starts(beginning, phrase)]
                if number not in hypothesis.met and lengths:
                    shares[number] = max(shares.get(number, 0), len(beginning) / min(lengths))
        return shares

    def completing(self, hypothesis, phrases):
        """Return the tokens that complete one of `phrases`."""
        return {phrase[-1] for phrase in phrases if phrase[:-1] in hypothesis.begun | {()}}

    def forbidden(self, hypothesis, num_new):
        phrases = list(self.banned)
        if self.behaviour.once:
            phrases += [phrase for number in hypothesis.met for phrase in self.clauses[number]]
        tokens = self.never | self.completing(hypothesis, phrases)
        size, text = self.behaviour.no_repeat_ngram_size, hypothesis.tokens
        for place in range(len(text) - size + 1):
            if text[place:place + size - 1] == text[len(text) - size + 1:]:
                tokens = tokens | {text[place + size - 1]}
        return tokens | self.eos if num_new < self.behaviour.min_new_tokens else tokens

    def proposed(self, hypothesis):
        """Return the tokens that begin, continue or complete a phrase of an unmet clause."""
        tokens = set()
        for number, clause in enumerate(self.clauses):
            if self.behaviour.proposes_met or number not in hypothesis.met:
                for phrase in clause:
                    tokens |= {phrase[len(beginning)] for beginning in hypothesis.begun | {()}
                               if starts(beginning, phrase) and beginning != phrase}
        if self.behaviour.proposes_met:
            written = [phrase for clause in self.clauses for phrase in clause if phrase in hypothesis.begun]
            tokens -= {token for phrase in written for token in phrase}
        return tokens

    # One step --------------------------------------------------------------------------------------------------------
    def candidates(self, beam, totals):
        """Return open and finished continuations of the beam."""
        size, open_, finished, seen = self.beam_size, {}, {}, set()
        best = [sorted(range(len(row)), key=lambda token: -row[token]) for row in totals]
        pairs = [(row, token) for row in range(size) for token in best[row][:size]]
        overall = sorted(pairs, key=lambda pair: -totals[pair[0]][pair[1]])[:size]

        def cand(row, token):
            return self.continued(beam[row], token, totals[row][token], row)

        for row, token in overall:
            seen.add((row, token))
            if self.satisfied(cand(row, token)):
                finished[row, token] = cand(row, token)
            elif self.satisfied(beam[row]) or token not in self.eos or token == best[row][0]:
                open_[row, token] = cand(row, token)
        for row, hypothesis in enumerate(beam):
            done = self.satisfied(hypothesis)
            likely = {token for token in best[row][:size] if done or token not in self.eos}
            for token in self.proposed(hypothesis) | likely:
                if (row, token) not in seen and totals[row][token] > -1000:
                    ends = self.satisfied(cand(row, token)) and token in self.eos
                    (finished if ends else open_)[row, token] = cand(row, token)
            for token in best[row][:int(size * self.behaviour.early_stop)] if done else []:
                if token in self.eos and totals[row][token] > -1000:
                    finished[row, token] = cand(row, token)
        if not open_ and not finished:
            open_ = {pair: cand(*pair) for pair in overall}
        return list(open_.values()), list(finished.values())

    def rank(self, hypothesis):
        share = max(self.in_hand(hypothesis).values(), default=0)
        bonus = -self.behaviour.partial_weight * math.log(share) if share else 0
        return hypothesis.score / len(hypothesis.tokens) + bonus

    def in_turns(self, open_):
        """Return the candidates near the most clauses met, in turns: the best of every group, the second best ..."""
        most = max(len(each.met) for each in open_)
        near = [each for each in open_ if len(each.met) >= most - self.behaviour.sat_tolerance]
        rank = self.rank if self.behaviour.partial_weight else lambda each: each.score
        groups = {}
        for each in sorted(near, key=rank, reverse=True):
            key = each.met | set(self.in_hand(each)) if self.behaviour.group_by_begun else each.met
            groups.setdefault(key, []).append(each)
        rounds = [[group[turn] for group in groups.values() if len(group) > turn] for turn in range(len(near))]
        return [each for one_round in rounds for each in sorted(one_round, key=rank, reverse=True)]

    def slots(self, beam, totals):
        """Return the 2K continuations to visit, in order."""
        size = self.beam_size
        open_, finished = self.candidates(beam, totals)
        by_score = {"key": lambda each: each.score, "reverse": True}
        chosen = sorted(finished, **by_score)[:size if open_ else 2 * size]
        turns = self.in_turns(open_)[:2 * size - len(chosen)] if open_ else []
        chosen += sorted(turns[:size], **by_score) + sorted(turns[size:], **by_score)
        return chosen + chosen[-1:] * (2 * size - len(chosen))

    def totals(self, model, beam, num_new):
        logits = model(torch.tensor([each.tokens for each in beam])).logits[:, -1]
        rows = logits.float().log_softmax(-1).tolist()
        for each, row in zip(beam, rows):
            for token in self.forbidden(each, num_new):
                row[token] = -math.inf
        return [[each.score + logprob for logprob in row] for each, row in zip(beam, rows)]


def starts(beginning, phrase):
    return phrase[:len(beginning)] == beginning


class Ended:
    """The ended hypotheses kept: the 2K best by value, however few clauses they meet."""

    def __init__(self, beam_size, length_penalty):
        self.room, self.length_penalty, self.kept = 2 * beam_size, length_penalty, []

    def value(self, hypothesis):
        return hypothesis.score / len(hypothesis.tokens) ** self.length_penalty

    def add(self, hypothesis):
        self.kept.append(hypothesis)
        if len(self.kept) > self.room:
            self.kept.remove(min(self.kept, key=self.value))

    def is_done(self, best_score, length):
        full = len(self.kept) == self.room
        return full and min(map(self.value, self.kept)) >= best_score / length ** self.length_penalty


@torch.no_grad()
def decode_one(model, reference, prefix_ids, max_new_tokens):
    """Return the new tokens of the best text, and its log-probability."""
    begun, met = frozenset(), frozenset()
    for token in prefix_ids if reference.behaviour.reads_prefix else ():
        begun = reference.read(begun, token)
        met = met | reference.met_by(begun)
    ended = Ended(reference.beam_size, reference.behaviour.length_penalty)
    beam = [Hypothesis(tuple(prefix_ids), 0.0 if row == 0 else -1e9, met, begun) for row in range(reference.beam_size)]
    for num_new in range(max_new_tokens):
        visited, live = [], []
        for slot in reference.slots(beam, reference.totals(model, beam, num_new)):
            visited.append(slot)
            if slot.last in reference.eos:
                ended.add(slot)
            else:
                live.append(slot)
            if len(live) == reference.beam_size:
                break
        if not live or ended.is_done(max(slot.score for slot in visited), len(prefix_ids) + num_new):
            break
        beam = live + live[-1:] * (reference.beam_size - len(live))
    else:
        for hypothesis in beam:
            ended.add(hypothesis)
    best = max(ended.kept, key=lambda each: (len(each.met), ended.value(each)))
    return list(best.tokens[len(prefix_ids):]), best.score

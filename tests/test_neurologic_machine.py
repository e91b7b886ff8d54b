"""Machine: bytes, boundaries, every spelling of a banned phrase, and the tokens a text still needs."""
import itertools
import random
from functools import cache

import pytest
import torch

from npkit.errors import NpkitError
from npkit.neurologic.constraints import Constraints, any_of, find
from npkit.neurologic.goals import FAR
from npkit.neurologic.machine import BAN, HALF, IN_WORD, START
from npkit.neurologic.plans import compile_constraints, stack
from npkit.neurologic.toy import toy_policy
from npkit.neurologic.vocabulary import (
    BYTE_CLASS,
    HALF_A_CHARACTER,
    NO_CHARACTER,
    SPACES,
    UTF8,
    WORD,
    read_vocabulary,
    spellings,
    written_forms,
)
from npkit.text.policy import train_tokenizer

TEXTS = ["a fox, oil painting, highly detailed, concept art", "trending on artstation, art nouveau, 4k, 8k texture",
         "the context of a text, watermarks, blurry watermark"]


@cache
def vocabulary():
    tokenizer = train_tokenizer(TEXTS, 400)
    return read_vocabulary(tokenizer, len(tokenizer))


def state(constraints, text):
    """Return what `text` confirms, what the end of its last word would, and its node."""
    machine = compile_constraints(constraints, vocabulary()).tracker.machine
    node, bits = machine.read_text(text)
    return bits, int(machine.pending[node]), node


def test_tokens_are_read_as_bytes():
    words = vocabulary()
    for token_id in range(len(words.never)):
        spelling = bytes(byte for byte in words.token_bytes[token_id].tolist() if byte < 256)
        if words.never[token_id]:
            assert spelling == b""
        elif spelling.isascii():
            assert words.tokenizer.decode([token_id]) == spelling.decode()
    special = [words.tokenizer.eos_token_id, words.tokenizer.pad_token_id, *words.tokenizer.encode("\n\t\x00")]
    assert words.never[special].all()


def begins_text(written):
    """Say whether the bytes are whole characters, or (1 to 3) how many more complete the last one; None: no text."""
    for missing in range(4):
        for last in itertools.product((0x80, 0xBF), repeat=missing):
            try:
                (written + bytes(last)).decode()
            except UnicodeDecodeError:
                continue
            return missing
    return None


def test_characters_are_told_from_other_bytes_as_python_does():
    edges = [0x20, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
             0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]
    states = {b"": WORD}
    for _ in range(4):
        states = {written + bytes([byte]): int(UTF8[state, byte]) for written, state in states.items()
                  for byte in edges if state != NO_CHARACTER}
        for written, state in states.items():
            missing = begins_text(written)
            assert (state == NO_CHARACTER) == (missing is None) and (state >= HALF_A_CHARACTER) == bool(missing)
            assert written[-1] > 127 or state in (NO_CHARACTER, BYTE_CLASS[written[-1]])
    assert len(states) > 1_000


def test_half_a_character_is_pending_and_what_is_none_is_banned():
    wanted = Constraints((("c", any_of("é", "rené")),), ("ê", "ren 城"), own_parts=False)
    machine = compile_constraints(wanted, vocabulary()).tracker.machine
    for text in ("a é", "a 城, ren", "a 🔥", "a ř,", "rené, ", "a renÉ城"):
        node, written = START, text.encode()
        for place, byte in enumerate(written, 1):
            assert not int(machine.gains[node, byte]) & BAN
            node = int(machine.delta[node, byte])
            half = begins_text(written[:place]) > 0
            assert int(machine.pending[node]) & (BAN | HALF) == (BAN | HALF) * half
            assert bool(int(machine.gains[node, ord("q")]) & BAN) == half
            assert bool(int(machine.gains[node, 0x80]) & int(machine.gains[node, 0xBF]) & BAN) == (not half)


def test_fewest_tokens():
    words = vocabulary()
    assert len(words.fewest(b" oil painting")) <= len(words.tokenizer.encode(" oil painting"))
    assert words.fewest(b"") == [] == words.fewest(b"\n")


def test_a_tokenizer_without_bytes_is_refused():
    _, tokenizer = toy_policy([" fox", "…"], {})
    with pytest.raises(NpkitError, match="byte-level"):
        read_vocabulary(tokenizer, len(tokenizer))


@pytest.mark.parametrize(("text", "confirmed", "pending"), [
    ("a art", 0, 1), ("a art,", 1, 0), ("a arts", 0, 0), ("a arts,", 0, 0), ("smart,", 0, 0), ("art", 0, 1),
    ("Art.", 1, 0), ("concept art", 0, 3), ("concept art,", 3, 0), ("concept  art,", 1, 0), ("conceptart,", 0, 0),
    ("a concept concept art", 0, 3),
    ("concept artstation,", 0, 0), ("trending on artstation", 0, 4), ("trending on artstation ", 4, 0),
    ("14k", 0, 0), ("4k", 0, 8), ("4kids", 0, 0), ("4k,", 8, 0), ("René ", 16, 0), ("rené,", 16, 0), ("rene,", 0, 0),
    ("ART,", 0, 0), ("aRt,", 0, 0), ("Art,", 1, 0), ("Concept Art,", 3, 0)])
def test_a_phrase_counts_as_whole_words_only(text, confirmed, pending):
    wanted = [any_of("art"), any_of("concept art"), any_of("trending on artstation"), any_of("4k"), any_of("René")]
    bits, waiting, _ = state(Constraints(tuple(("c", clause) for clause in wanted), own_parts=False), text)
    assert (bits & ~BAN, waiting) == (confirmed, pending)


@pytest.mark.parametrize(("text", "banned"), [
    ("texture", False), ("context", False), ("a text,", True), ("TEXT ", True), ("text", False),
    ("oil painting,", True), ("oil  p", True), ("oil paintings,", False),
    ("text—", True), ("…text.", True), ("a#b", True), ("a # b", True),
    ("oil\u00a0p", True), ("te\u200bxt", True), ("oil\u3000painting,", True)])
def test_a_ban_fires_at_the_end_of_its_word(text, banned):
    bits, _, _ = state(Constraints((), ("text", "oil painting", "#")), text)
    assert bool(bits & BAN) == banned


def test_no_spelling_of_a_banned_phrase_slips_through():
    words, draw = vocabulary(), random.Random(0)
    machine = compile_constraints(Constraints((), ("watermark", "highly detailed")), words).tracker.machine
    for trial in range(200):
        text = draw.choice([" watermark,", " Watermark ", " highly detailed.", "-HIGHLY dEtailed-"]).encode()
        node, bits = torch.tensor(START), 0
        while text:
            length = draw.choice([size for size in range(1, len(text) + 1) if text[:size] in words.ids])
            node, new = machine.read(node, words.token_bytes[words.ids[text[:length]]])
            text, bits = text[length:], bits | int(new)
        assert bits & BAN, trial


TOKENS = [" oil", " painting", " art", "s", ",", " dark"]


def need(constraints, text):
    """Return the tokens that `text` still needs over the toy vocabulary."""
    model, tokenizer = toy_policy(TOKENS, {})
    tracker = compile_constraints(constraints, read_vocabulary(tokenizer, model.config.vocab_size)).tracker
    node, bits = tracker.machine.read_text(text)
    return int(assess(tracker, torch.tensor([[node]]), torch.tensor([[bits & ~BAN]])))


def assess(tracker, node, met):
    return tracker.plans.assess(tracker.goals, tracker.machine.pending[node], node, met)[0]


@pytest.mark.parametrize(("text", "tokens"), [
    (" fox", 3), (" fox, oil", 2), (" fox, oil painting", 1), (" fox, oil paintings", 3), (" art,", 2),
    (" arts, oil", 2), (" oil painting, art", 0), (" art oil painting,", 0)])
def test_tokens_still_needed(text, tokens):
    wanted = (("format", any_of("oil painting")), ("style", any_of("art", "dark art")))
    assert need(Constraints(wanted, own_parts=False), text) == tokens


@pytest.mark.parametrize(("text", "tokens"), [
    (" fox", 5), (" fox,", 4), (" fox, oil", 3), (" fox, oil painting", 2), (" fox, oil paintings", 5), (" art,", 2),
    (" art oil painting,", 4), (" oil painting, art", 0), (" oil painting , art ", 0), (" oil painting, dark art,", 0)])
def test_tokens_still_needed_for_parts_of_their_own(text, tokens):
    wanted = (("format", any_of("oil painting")), ("style", any_of("art", "dark art")))
    assert need(Constraints(wanted), text) == tokens


@pytest.mark.parametrize(("text", "tokens"), [(" dark", 2), (" fox", 1), (" dark,", 1), (" painting", 1)])
def test_a_ban_in_the_way_costs_a_detour(text, tokens):
    assert need(Constraints((("medium", any_of("oil")),), ("dark oil", "paintings"), own_parts=False), text) == tokens


def test_a_pending_ban_must_be_escaped_and_the_impossible_is_far():
    assert need(Constraints((), ("painting",)), " painting") == 1  # "paintings" is another word
    assert need(Constraints((("medium", any_of("ink")),)), " fox") >= FAR  # no token writes it


def test_tables_of_proposals_are_what_reading_their_bytes_gives():
    wanted = (("a", any_of("art", "art nouveau", "🔥")), ("b", any_of("4k", "oil art", max_count=1)))
    machine = compile_constraints(Constraints(wanted, ("text", "a fox", "é")), vocabulary()).tracker.machine
    node = torch.arange(len(machine.delta))[:, None].expand(-1, machine.proposals.shape[1])
    after, bits = machine.read(node, vocabulary().token_bytes[machine.proposals[0]].expand(*node.shape, -1))
    assert torch.equal(after, machine.next_node) and torch.equal(bits, machine.next_gains)


def test_stacked_trackers_keep_their_own_states():
    trackers = [compile_constraints(constraints, vocabulary()).tracker for constraints in (
        Constraints((("a", any_of("art")), ("b", any_of("4k")))), Constraints((), ("text",)))]
    both = stack([*trackers, trackers[0]], fill_token=0)
    sizes = [len(tracker.machine.delta) for tracker in trackers]
    assert both.machine.root.tolist() == [0, sizes[0], 0] and both.goals.full.tolist() == [3, 0, 3]
    assert len(both.machine.delta) == sum(sizes)
    node, bits = both.machine.read(both.machine.root + START, torch.tensor(list(b"4k, text,")).expand(3, -1))
    assert [int(value) for value in bits] == [2, BAN, 2]
    needed = assess(both, node[:, None], (bits & both.goals.full)[:, None])
    alone = assess(trackers[0], node[:1, None], torch.tensor([[2]]))
    assert needed.flatten().tolist() == [int(alone), 0, int(alone)] and int(alone) > 0


# Capitals and blanks -------------------------------------------------------------------------------------------------
def test_a_phrase_is_written_as_given_small_or_capitalised():
    assert written_forms("Greg  rutkowski") == ("Greg rutkowski", "greg rutkowski", "Greg Rutkowski")
    assert written_forms("İznik") == ("İznik",)  # its small letters are two characters: another word


@pytest.mark.parametrize("char", ["k", "s", "i", "é", "å", "σ", "ß", "µ", "5", "城"])
def test_the_machine_and_the_finder_agree_on_capitals(char):
    other = {other for other in map(chr, range(0x2200)) if other.isprintable() and find(f"({char})", f"({other})")}
    assert {each.encode() for each in other} <= set(spellings(char))


def test_no_blank_but_one_plain_space_is_written():
    machine = compile_constraints(Constraints((), ("oil painting",)), vocabulary()).tracker.machine
    for blank in ("  ", *SPACES, "\u200b", "\u200d", "\ufeff"):
        assert machine.read_text(f"oil{blank}")[1] & BAN, repr(blank)
    assert not machine.read_text("oil ")[1]
    family = compile_constraints(Constraints((("c", any_of("\U0001f469\u200d\U0001f3a8")),), ("oil",)), vocabulary())
    assert not family.tracker.machine.read_text("\U0001f469\u200d\U0001f3a8")[1]  # a joiner that was asked for


def test_a_word_that_goes_on_begins_no_phrase():
    machine = compile_constraints(Constraints((("c", any_of("art")),), ("text",)), vocabulary()).tracker.machine
    _, bits = machine.read(torch.tensor(IN_WORD), torch.tensor(list(b"text, art,")))
    assert int(bits) == 1


# Letters that are not ASCII -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", [
    "a café,", "Pokémon,", "piñata,", "éart,", "artå,", "CAFÉ,", "жart ,", "artж,", "a caf,", "caf", "mon,", "art×,",
    "×art,", "art÷", "art—", "—art,", "é art,", "art é", "é, art,", "ÿmon,", "art¿", "·mon,", "🔥mon,", "caf’s,"])
def test_a_ban_beside_a_letter_that_is_not_ascii_is_what_the_finder_says(text):
    for wanted in ((), (("c", any_of("4k×2")),)):  # "×" begins with the byte of "é"; one that was asked for is written
        banned = bool(state(Constraints(wanted, ("caf", "mon", "pi", "art"), own_parts=False), text + " ")[0] & BAN)
        found = any(find(phrase, text) for phrase in ("caf", "mon", "pi", "art"))
        assert banned == (found or not wanted and bool({"×", "÷"} & set(text)))


# Commas --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("text", "banned"), [
    (", art", False), (",art", True), (", art,", False), (", art , 4k", False), (",,", True), (", ,", True),
    (",", False), (", ", False), (",4k", True), (", oil,art", False), (", oil,artist", False), (", oil,4k", True),
    (", a,art", True), (", oil,", False)])
def test_decoding_writes_a_space_and_a_part_behind_each_comma(text, banned):
    """But for a comma inside a phrase, which is written as it is given: "oil,art"."""
    wanted = (("c", any_of("art", "oil,art")), ("d", any_of("4k")))
    assert bool(state(Constraints(wanted), "a fox" + text)[0] & BAN) == banned
    assert bool(state(Constraints(), ", a fox,art")[0] & BAN)
    assert not state(Constraints(wanted, own_parts=False), "a fox" + text)[0] & BAN


@pytest.mark.parametrize(("form", "confirmed"), [("8K", 1), ("8k", 1), ("3D render", 2), ("3D Render", 2),
                                                 ("3d Render", 2), ("3D RENDER", 0), ("35mm", 4), ("35MM", 0)])
def test_a_letter_behind_digits_may_be_a_capital(form, confirmed):
    wanted = (("a", any_of("8k")), ("b", any_of("3d render")), ("c", any_of("35mm")))
    assert state(Constraints(wanted), f"a fox, {form},")[0] & ~BAN == confirmed

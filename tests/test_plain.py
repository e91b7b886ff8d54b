"""Plain SFT: merges, loss, step and draw of notebook 02, against the kit's own way of computing them."""
import math

import pytest
import torch

from npkit.study.profiles import PolicyConfig
from npkit.text import plain, policy

SIZES = PolicyConfig(num_layers=1, hidden_size=32, num_heads=2, vocab_size=300, max_prompt_tokens=64)
PROMPTS = ["a cat, oil painting, 8 k", "a red castle tower", "the moon at night, by alphonse mucha"]


@pytest.fixture
def built():
    return policy.build_policy(SIZES, PROMPTS * 5, seed=0)


def padded(built):
    model, tokenizer = built
    sequences = tokenizer(PROMPTS)["input_ids"]
    return sequences, *policy.pad(sequences, model, "right")


def test_the_most_frequent_pair_is_merged_wherever_it_stands():
    assert plain.best_pair({("l", "o", "w"): 2, ("n", "e", "w"): 3}) == ("n", "e")
    assert plain.merge(("a", "n", "a", "n", "a"), ("a", "n")) == ("an", "an", "a")
    assert plain.merge(("n",), ("a", "n")) == ("n",)
    assert plain.merge((), ("a", "n")) == ()


def test_the_loss_of_a_padded_batch_is_the_mean_over_its_real_tokens(built):
    sequences, ids, mask = padded(built)
    assert not mask.all()
    loss = plain.next_token_loss(built[0](ids, attention_mask=mask).logits, ids, mask)
    assert math.isclose(loss.item(), -torch.cat(policy.token_logprobs(built[0], sequences)).mean().item(), rel_tol=1e-5)


def test_steps_lower_the_loss_which_is_a_number(built):
    _, ids, mask = padded(built)
    optimizer = torch.optim.SGD(built[0].parameters(), lr=0.1)
    losses = [plain.sft_step(built[0], ids, mask, plain.next_token_loss, optimizer) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert isinstance(losses[0], float)


def test_draws_follow_the_tempered_softmax_and_the_generator():
    logits = torch.tensor([2.0, 1.0, 0.0]).repeat(20_000, 1)
    drawn, again = (plain.draw_token(logits, 0.5, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(drawn, again)
    shares = drawn.bincount(minlength=3) / len(drawn)
    assert torch.allclose(shares, torch.tensor([4.0, 2.0, 0.0]).softmax(-1), atol=0.02)

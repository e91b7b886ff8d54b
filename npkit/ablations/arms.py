"""Arms: what each ablation asks, what it compares, and what one run of it costs.

An arm is a set of settings of the study that differ, and options of the measurement. Every arm of an ablation is
measured on the same test prefixes and the same picture seeds, so that its runs are paired with the baseline's.
"""
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

from npkit.errors import NpkitError
from npkit.text.keywords import CATEGORIES

TINY_STEP = {"sft.max_steps": 1, "sft.learning_rate": 1e-9}  # the base model: one step that moves nothing


@dataclass(frozen=True)
class Arm:
    """One way of doing it: the settings of the study that differ, and what the measurement is told beside them."""
    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """A question, the arms that answer it, and the arm that the others are compared with.

    `measure` names the function that makes one row of a trial. `seconds` is what a run of one arm took in `tiny` on
    two idle cores; once there are rows, their own seconds are used in its place.
    """
    name: str
    question: str
    paper: str  # what the paper claims, or that it claims nothing
    measure: str
    baseline: str
    arms: tuple[Arm, ...]
    seconds: float
    named_by: str = ""  # a setting of section `ablation` whose names, separated by commas, are further arms


def short(**settings) -> dict[str, object]:
    """Return settings written `ppo__kl_coef=0.1`, as `ppo.kl_coef` has no place in a Python name."""
    return {name.replace("__", "."): value for name, value in settings.items()}


# 1. Arms that train --------------------------------------------------------------------------------------------------
PREFIX = tuple(Arm(rule, short(data__prefix_rule=rule), {"train": "sft"})
               for rule in ("first_comma", "full", "random_cut", "words:2", "words:4"))
STAGES = tuple(Arm(f"{name}{'+nl' if way == 'nl' else ''}", settings, {"train": stage, "way": way, "whole": True})
               for name, settings, stage in (("base", TINY_STEP, "sft"), ("sft", {}, "sft"),
                                             ("ppo without sft", TINY_STEP, "ppo"), ("sft, then ppo", {}, "ppo"))
               for way in ("sample", "nl"))
KL = tuple(Arm(f"kl {value:g}", short(ppo__kl_coef=value)) for value in (0.0, 0.03, 0.3, 1.0))
REWARD = (Arm("gain"), Arm("score", options={"payment": "score"}),
          Arm("aesthetic", short(ppo__reward_judge="aesthetic")),
          Arm("mixture", short(ppo__reward_weights="pickscore:1, aesthetic:1")),
          Arm("mean of three", options={"payment": "mean"}), Arm("worst of three", options={"payment": "worst"}), *KL,
          Arm("best-of-n", options={"train": "sft", "way": "best"}))
ALGORITHM = (Arm("ppo"), Arm("grpo", short(ppo__algorithm="grpo")), Arm("rloo", short(ppo__algorithm="rloo")),
             Arm("best-of-n", options={"train": "sft", "way": "best"}), Arm("sft", options={"train": "sft"}))
ARCHITECTURE = (*(Arm(name, short(policy__architecture=name)) for name in ("gpt2", "llama", "gpt_neox", "mamba")),
                Arm("gpt2, a quarter", short(policy__hidden_size=64)),
                Arm("gpt2, twice", short(policy__hidden_size=192)))
DRAWN = ({}, *(short(judges__oracle__model=f"npkit.glyphworld.people.drawings:public_{number}") for number in (1, 2)))
TASTES = tuple(Arm(f"tastes {number}: {name}", drawn | short(ppo__reward_judge="oracle"), {"train": train, "way": way})
               for number, drawn in enumerate(DRAWN) for name, train, way in (
                   ("sft", "sft", "sample"), ("ppo", "ppo", "sample"), ("ppo+nl", "ppo", "nl")))

# 2. Arms that only write ---------------------------------------------------------------------------------------------
DECODING = (
    Arm("kit"), Arm("greedy", options={"plain": "greedy"}), Arm("sampling", options={"plain": "sample"}),
    Arm("beam search", options={"plain": "beam"}), Arm("end forbidden", short(
        neurologic__partial_weight=0.0, neurologic__sat_tolerance=len(CATEGORIES))),
    Arm("lu2021", short(neurologic__compat="lu2021")), Arm("neuroprompts", short(neurologic__compat="neuroprompts")),
    *(Arm(f"beam of {size}", short(neurologic__beam_size=size)) for size in (1, 2, 10)),
    Arm("half the bonus", short(neurologic__partial_weight=1.0)),
    Arm("twice the bonus", short(neurologic__partial_weight=4.0)),
    Arm("only the foremost", short(neurologic__sat_tolerance=0)),
    Arm("the 20 likeliest", short(neurologic__prune_factor=20)),
    Arm("glued phrases", short(neurologic__own_parts=False)))
CONSTRAINTS = tuple(Arm(" + ".join(chosen) or "none", options={"categories": chosen})
                    for size in range(len(CATEGORIES) + 1) for chosen in combinations(CATEGORIES, size))

TRANSFER = tuple(map(Arm, ("sft", "human", "ppo", "ppo, other painter")))
REWRITERS = tuple(map(Arm, ("sft", "human", "prefix+boosters", "random", "frequent", "best-of-n", "ppo")))

ABLATIONS = {each.name: each for each in (
    Ablation("prefix", "Where should a prompt be cut into what the user says and what the policy adds?",
             "The paper cuts at the first comma, and gives no comparison.",
             "npkit.ablations.policies:measure", "first_comma", PREFIX, 90),
    Ablation("stages", "What do SFT, PPO and NeuroLogic each add?",
             "By the aesthetic score SFT gains over people's prompts, PPO over SFT, NeuroLogic a little over both.",
             "npkit.ablations.policies:measure", "sft", STAGES, 100),
    Ablation("reward", "What should PPO be paid, and how far may it leave SFT?",
             "The paper pays the difference of PickScores with a KL coefficient of 0.2, and gives no comparison.",
             "npkit.ablations.policies:measure", "gain", REWARD, 85),
    Ablation("algorithm", "Is PPO the right algorithm at this price?",
             "The paper uses PPO, and gives no comparison.",
             "npkit.ablations.policies:measure", "ppo", ALGORITHM, 75),
    Ablation("architecture", "Does it matter which language model is trained?",
             "The paper uses GPT-2, and gives no comparison.",
             "npkit.ablations.policies:measure", "gpt2", ARCHITECTURE, 150),
    Ablation("decoding", "Which part of the decoder earns what?",
             "The paper decodes by NeuroLogic, and compares it with no constraints at all.",
             "npkit.ablations.writing:measure_decoding", "kit", DECODING, 20),
    Ablation("constraints", "Which categories of clauses help, which cost, and which fight?",
             "The paper demands all six categories, and reports a gain of 0.05 in the aesthetic score.",
             "npkit.ablations.writing:measure_constraints", "none", CONSTRAINTS, 12),
    Ablation("rewriters", "What do plain recipes and other people's models reach?",
             "The paper compares with people's prompts alone.",
             "npkit.ablations.rewriters:measure", "sft", REWRITERS, 20, "rewriters"),
    Ablation("transfer", "Do prompts that PPO learned with one image model serve another?",
             "The paper paints with Stable Diffusion 1.4 alone, and compares no other image model.",
             "npkit.ablations.transfer:measure", "sft", TRANSFER, 120),
    Ablation("tastes", "Which findings keep their sign when the public has other tastes?",
             "The paper has one population of raters.",
             "npkit.ablations.policies:measure", "tastes 0: sft", TASTES, 70),
)}


def find_ablation(name: str) -> Ablation:
    """Return the ablation called `name`, or say which there are."""
    if name not in ABLATIONS:
        raise NpkitError(f"unknown ablation {name!r}; known: {', '.join(ABLATIONS)}")
    return ABLATIONS[name]

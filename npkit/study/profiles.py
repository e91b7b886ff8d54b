"""Profiles: every size and setting of a study, as frozen dataclasses read from `profiles.toml`."""
import difflib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

from npkit.errors import Faults, NpkitError
from npkit.study.contents import find_file, locate
from npkit.study.ranges import parse_weights, wrong_numbers

KINDS = {float: "a number", int: "a whole number", str: "a string", bool: "true or false"}
ARCHITECTURES = ("gpt2", "llama", "gpt_neox", "mamba")
JUDGE_KINDS = ("pickscore", "aesthetic", "clipscore", "picture_function", "text_function")
ALGORITHMS, FINAL_POLICIES = ("ppo", "grpo", "rloo"), ("last", "best")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where prompts come from, which are kept, how they are cut and split."""
    source: str                      # module:function(num_prompts, seed), or a file of prompts
    num_prompts: int = 20_000        # prompts taken from the source before cleaning
    max_chars: int = 400             # longer prompts are dropped
    min_words: int = 1               # shorter prompts are dropped
    max_nsfw: float = 0.5            # highest NSFW score kept (DiffusionDB's metadata.parquet has them)
    prefix_rule: str = "first_comma"  # first_comma, full, random_cut or words:k
    ppo_share: float = 0.2           # shares are of the distinct prefixes; what is left is for SFT
    validation_share: float = 0.05
    test_share: float = 0.1


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """The language model: a pretrained one, or one of these sizes from scratch."""
    pretrained: str = ""             # hub id or folder; empty: from scratch
    architecture: str = "gpt2"       # from scratch: gpt2, or llama, gpt_neox or mamba of as many weights (within 10 %)
    num_layers: int = 4
    hidden_size: int = 128
    num_heads: int = 4
    vocab_size: int = 1024           # of the byte-level BPE trained on the corpus
    max_prompt_tokens: int = 160     # prefix and completion together
    max_prefix_tokens: int = 80      # longer prefixes are refused


@dataclass(frozen=True, kw_only=True)
class SFTConfig:
    """Supervised fine-tuning on human prompts."""
    num_epochs: float = 1.0
    max_steps: int = 0               # 0: as many as num_epochs needs
    batch_size: int = 64
    learning_rate: float = 5e-5
    warmup_share: float = 0.05       # share of the steps with a rising learning rate
    weight_decay: float = 0.01
    save_steps: int = 100            # a checkpoint to resume from, every so many steps
    precision: str = "float32"       # or bfloat16 (by autocast; weights stay float32), the same on every device


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """One PPO run, or one of GRPO or RLOO in its place; names follow TRL's configs."""
    num_updates: int
    episodes_per_update: int
    minibatch_size: int
    max_new_tokens: int
    num_ppo_epochs: int = 4
    learning_rate: float = 5e-5
    max_grad_norm: float = 1.0       # a longer gradient of the policy is shortened to this
    kl_coef: float = 0.2             # weight of the log-ratio to the reference policy
    vf_coef: float = 0.5             # weight of the value loss; moves the critic alone, which shares nothing
    vf_learning_rate: float = 0.0    # of the critic; 0: learning_rate
    vf_max_grad_norm: float = 1.0    # a longer gradient of the critic is shortened to this
    cliprange: float = 0.2           # of the ratio of a token's new to old probability (PPO, GRPO)
    sequence_cliprange: float = 1.0  # of the ratio of a whole completion's (RLOO), a product of its tokens' ratios
    cliprange_value: float = 0.2
    gamma: float = 1.0
    lam: float = 0.95                # GAE's lambda
    temperature: float = 1.0
    missing_eos_penalty: float = 1.0  # subtracted from the score of a completion that never ends
    save_updates: int = 5            # a checkpoint to resume from, every so many updates
    reward_judge: str = "pickscore"  # name of the judge whose gain over the prefix is the score
    algorithm: str = "ppo"           # ppo, or without a critic grpo or rloo
    num_generations: int = 8         # grpo and rloo: completions a prefix, each other's baseline
    max_kl: float = 100.0            # nats an episode; a run that leaves SFT further behind is stopped; 0: never
    min_distinct_share: float = 0.05  # a run is stopped whose rollout has a smaller share of distinct completions
    eval_updates: int = 10           # held-out prefixes are scored every so many updates, the best policy kept; 0: off
    eval_prefixes: int = 32          # held-out prefixes scored; pictures are painted in whole batches anyway
    final_policy: str = "last"       # what later stages use: the last policy, or the best on held-out prefixes
    reward_weights: str = ""         # several judges: "pickscore:1, aesthetic:0.5"; empty: reward_judge alone
    precision: str = "float32"       # or bfloat16 (by autocast; weights stay float32), the same on every device

    @property
    def weights(self) -> dict[str, float]:
        """The judges whose gains over the prefix make the score, with their weights."""
        return parse_weights(self.reward_weights) if self.reward_weights else {self.reward_judge: 1.0}

    @property
    def critic_learning_rate(self) -> float:
        """The critic's learning rate: its own, or the policy's."""
        return self.vf_learning_rate or self.learning_rate


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """The text-to-image model: a folder or hub id that a diffusers pipeline loads, and how it samples."""
    model: str
    num_inference_steps: int
    guidance_scale: float
    height: int
    width: int
    batch_size: int
    dtype: str = "float32"
    revision: str = ""                # branch, tag or commit of a hub id; empty: main
    scheduler: str = ""               # a scheduler class of diffusers; empty: the one the pipeline was saved with


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """A judge: what scores a picture (or, for `text_function`, a prompt)."""
    name: str
    kind: str                        # pickscore, aesthetic, clipscore, picture_function or text_function
    model: str                       # hub id or folder of a CLIP model, or module:function
    head: str = ""                   # aesthetic: the file of LAION's linear layers; picture_function: weights
    processor: str = ""              # folder or hub id of tokenizer and image processor; empty: the model's


@dataclass(frozen=True, kw_only=True)
class NeurologicConfig:
    """NeuroLogic decoding; names follow the authors' code."""
    max_new_tokens: int
    beam_size: int = 5
    keywords: str = "npkit/text/keywords.toml"  # phrases of the six categories
    keywords_per_category: int = 5   # drawn at random to form a default clause
    block: str = ""                  # regular expression: keywords it finds are never drawn
    living_artists: bool = True      # False: they are neither drawn nor written, unless the user names them
    own_parts: bool = True           # a required phrase is a part between commas; False: whole words anywhere
    partial_weight: float = 2.0      # bonus for clauses met and the share of one in hand, in what they should cost
    sat_tolerance: int = 2           # keep hypotheses at most so many clauses behind the best
    prune_factor: int = 0            # keep candidates ranked above this by likelihood; 0: off
    length_penalty: float = 0.0      # a finished text scores its log-probability over its length to this power
    beam_temperature: float = 0.0    # of the noise by which the beam is sampled; 0: the best ones are kept
    look_ahead: float = 0.0          # weight of how likely a token comes next that brings a clause nearer; 0: off
    look_ahead_width: int = 2        # hypotheses looked at for each one kept, where `look_ahead` is on
    compat: str = ""                 # lu2021 or neuroprompts: decode as the published code does, defects and all

    @property
    def num_rows(self) -> int:
        """Hypotheses of a prefix that the model continues at once."""
        return self.beam_size * (self.look_ahead_width if self.look_ahead else 1)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Which prefixes, seeds and intervals the result table rests on."""
    max_new_tokens: int
    faithfulness: str                # says if a picture shows what was asked for: a judge's name, or a module:function
    #                                  of (prefixes, pictures, head); empty: whether the prompt keeps the prefix
    num_prefixes: int = 300
    num_seeds: int = 1               # pictures a prompt
    bootstrap_samples: int = 2000
    temperature: float = 1.0
    best_of_n: int = 4               # samples of SFT of which the baseline best-of-n keeps the one that is paid most
    faithfulness_head: str = ""      # of a module:function: the file or folder of its weights


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """How long the trainings of an ablation are, and on how many prompts its arms are compared."""
    num_updates: int = 40            # PPO updates of an arm, fewer than the study's
    num_prefixes: int = 100          # test prefixes, the same for every arm
    best_of: int = 16                # completions that the paid judge chooses from
    clause_draws: int = 10           # draws of the default clauses that each category is tried with
    prefixes_a_draw: int = 8         # test prefixes that meet every draw
    ensemble: str = ""               # folders or hub ids of further paid judges: "one, another"
    transfer_to: str                 # folder, hub id or module:class of a second image model
    rewriters: str = ""              # folders or hub ids of language models that other people trained for this: "a, b"


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """The preference study: what people, or simulated raters, choose between, and how often."""
    votes: str = ""                  # people's votes (.sqlite, .csv, .parquet); empty: simulated raters vote
    raters: str = ""                 # a module:function of what pictures are worth to them; empty: they follow judges
    num_prefixes: int = 150          # that pairs are made of; all where fewer are evaluated
    pairs_per_prefix: int = 3        # meetings of two variants on each
    votes_per_pair: int = 4          # simulated raters of each taste who see a pair
    pairs_per_rater: int = 20        # that a rater is asked about, or all where a study has fewer
    bootstrap_samples: int = 500     # resamples behind the intervals of strengths


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and how long; never part of an artifact's key."""
    device: str = "auto"             # auto, cpu, cuda or cuda:1
    cell_timeout: int                # seconds a notebook cell may take
    num_threads: int = 0             # CPU threads of torch; 0: torch decides


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One coherent set of sizes: tiny, small or paper."""
    name: str
    data: DataConfig
    policy: PolicyConfig
    sft: SFTConfig
    ppo: PPOConfig
    images: ImagesConfig
    judges: tuple[JudgeConfig, ...]
    neurologic: NeurologicConfig
    evaluation: EvaluationConfig
    ablation: AblationConfig
    preference: PreferenceConfig
    runtime: RuntimeConfig

    def judge(self, name: str) -> JudgeConfig:
        """Return the judge called `name`."""
        known = {judge.name: judge for judge in self.judges}
        return known.get(name) or _unknown("judge", name, known)

    @property
    def faithfulness_judge(self) -> JudgeConfig | None:
        """The judge of whether a picture shows what was asked for; None where the settings name none."""
        model = self.evaluation.faithfulness
        if ":" in model:
            return JudgeConfig(name=model.rpartition(":")[2], kind="picture_function", model=model,
                               head=self.evaluation.faithfulness_head)
        return self.judge(model) if model else None


COMPAT = ("", "lu2021", "neuroprompts")
SECTIONS = {field.name: field.type for field in fields(Profile) if is_dataclass(field.type)}


def load_profile(name: str, settings: Mapping[str, object] | None = None) -> Profile:
    """Return profile `name` with dotted `settings` such as `{"ppo.kl_coef": 0.1}` applied; None means unchanged.

    Paths are absolute in it; a file that the profile itself names may be absent as long as nobody asks for it.
    """
    tables = tomllib.loads(Path(__file__).with_name("profiles.toml").read_text(encoding="utf-8"))
    if name not in tables:
        _unknown("profile", name, tables)
    table = tables[name]
    sections = {section: kind(**table.get(section, {})) for section, kind in SECTIONS.items()}
    profile = Profile(name=name, judges=tuple(JudgeConfig(**judge) for judge in table["judges"]), **sections)
    faults = Faults()
    for setting, value in locate(settings or {}).items():
        with faults.noted():
            profile = _set(profile, setting, value)
    faults.tell()
    _check(profile)
    source = find_file(profile.data.source)
    return replace(profile, data=replace(profile.data, source=str(source))) if source else profile


def override(config, **changes):
    """Return `config` with `changes`; None means unchanged, unknown names and wrong types raise."""
    typed = {name: _typed(name, value, _field_type(type(config), name)) for name, value in changes.items()}
    return replace(config, **{name: value for name, value in typed.items() if value is not None})


def parse_setting(text: str) -> tuple[str, object]:
    """Return name and value of `"ppo.kl_coef=0.1"`, the value typed by the field it is meant for."""
    setting, equals, value = text.partition("=")
    if not equals:
        raise NpkitError(f"a setting is written section.name=value, such as ppo.kl_coef=0.1, got {text!r}")
    setting, value = setting.strip(), value.strip()
    kind = _field_type(_section_type(setting), setting)
    if kind is str:
        return setting, value
    try:
        (read,) = tomllib.loads(f"value = {value}").values()
    except ValueError:  # no TOML, or of more lines than one
        raise NpkitError(f"{setting} takes {KINDS[kind]}, got {value!r}") from None
    return setting, read


def parse_settings(texts: Iterable[str]) -> dict[str, object]:
    """Return the settings of `--set` options, their paths made absolute."""
    faults, settings = Faults(), {}
    for text in texts:
        with faults.noted():
            settings |= locate(dict([parse_setting(text)]))
    faults.tell()
    return settings


def _set(profile: Profile, setting: str, value) -> Profile:
    """Return `profile` with `section.name` or `judges.judge_name.name` changed."""
    value = _typed(setting, value, _field_type(_section_type(setting), setting))
    section, *judge_name, name = setting.split(".")
    if value is None:
        return profile
    if section != "judges":
        return replace(profile, **{section: replace(getattr(profile, section), **{name: value})})
    chosen = profile.judge(judge_name[0])
    judges = (replace(judge, **{name: value}) if judge is chosen else judge for judge in profile.judges)
    return replace(profile, judges=tuple(judges))


def _section_type(setting: str) -> type:
    known = SECTIONS | {"judges": JudgeConfig}
    section, *names = setting.split(".")
    if section not in known or len(names) != (2 if section == "judges" else 1):
        _unknown("setting", setting, [*(f"{name}.<name>" for name in SECTIONS), "judges.<judge>.<name>"])
    return known[section]


def _field_type(kind: type, setting: str) -> type:
    prefix, dot, name = setting.rpartition(".")
    known = {field.name: field.type for field in fields(kind)}
    return known.get(name) or _unknown("setting", setting, [f"{prefix}{dot}{field}" for field in known])


def _typed(setting: str, value, kind: type):
    """Return `value` as `kind`: a whole number may stand for a float, nothing else is converted."""
    if value is not None and type(value) not in ({int, float} if kind is float else {kind}):
        raise NpkitError(f"{setting} takes {KINDS[kind]}, got {value!r}")
    return float(value) if kind is float and value is not None else value


def _check(profile: Profile) -> None:
    """Raise where values have the right type and make no sense, with a sentence for each."""
    wrong = [*wrong_numbers(profile), *_wrong_names(profile), *_wrong_weights(profile), *_wrong_ppo(profile.ppo)]
    data, policy = profile.data, profile.policy
    if data.ppo_share + data.validation_share + data.test_share >= 1:
        wrong.append("data.ppo_share, data.validation_share and data.test_share leave nothing for SFT: their sum must "
                     "be below 1")
    if not re.fullmatch(r"first_comma|full|random_cut|words:[1-9][0-9]{0,3}", data.prefix_rule):
        wrong.append(f"data.prefix_rule is first_comma, full, random_cut or words:k (k from 1 to 9999), got "
                     f"{data.prefix_rule!r}")
    if policy.pretrained and policy.architecture != "gpt2":
        wrong.append(f"policy.architecture is for a policy from scratch: {policy.pretrained!r} has its own")
    if wrong:
        raise NpkitError("\n".join(wrong))


def _wrong_names(profile: Profile) -> Iterator[str]:
    """Yield a sentence for each setting that is none of the names there are."""
    choices = {"neurologic.compat": COMPAT, "policy.architecture": ARCHITECTURES, "sft.precision": PRECISIONS,
               "ppo.precision": PRECISIONS, "ppo.algorithm": ALGORITHMS, "ppo.final_policy": FINAL_POLICIES}
    for setting, known in choices.items():
        section, _, name = setting.partition(".")
        if (value := getattr(getattr(profile, section), name)) not in known:
            names = ", ".join(filter(None, known))
            yield f"{setting} is {'' if known[0] else 'empty or '}one of {names}, got {value!r}"
    for judge in profile.judges:
        if judge.kind not in JUDGE_KINDS:
            yield f"judges.{judge.name}.kind is one of {', '.join(JUDGE_KINDS)}, got {judge.kind!r}"
    if (faithful := profile.evaluation.faithfulness) and ":" not in faithful:
        try:
            profile.judge(faithful)
        except NpkitError as error:
            yield f"evaluation.faithfulness is a judge's name, a module:function or empty: {error}"


def _wrong_weights(profile: Profile) -> Iterator[str]:
    """Yield what is wrong with the judges that pay PPO."""
    try:
        for name in (profile.ppo.reward_judge, *profile.ppo.weights):
            profile.judge(name)
    except NpkitError as error:
        yield str(error)
        return
    if profile.ppo.reward_judge not in profile.ppo.weights:
        yield (f"ppo.reward_weights {profile.ppo.reward_weights!r} leaves out ppo.reward_judge "
               f"{profile.ppo.reward_judge!r}, the paid judge that figures show: weigh it, or name another")


def _wrong_ppo(ppo: PPOConfig) -> Iterator[str]:
    """Yield what does not go together in the settings of PPO, GRPO and RLOO."""
    if ppo.final_policy == "best" and not ppo.eval_updates:
        yield "ppo.final_policy best needs held-out scores: ppo.eval_updates must be 1 or more, got 0"
    if ppo.algorithm == "ppo":
        return
    if ppo.num_generations < 2:
        yield (f"ppo.num_generations must be 2 or more for {ppo.algorithm}, whose baseline is the other completions of "
               f"the prefix, got {ppo.num_generations}")
    for name in ("num_generations", "minibatch_size"):
        if ppo.episodes_per_update % max(1, getattr(ppo, name)):
            yield (f"{ppo.algorithm} needs ppo.episodes_per_update to be a multiple of ppo.{name}, got "
                   f"{ppo.episodes_per_update} and {getattr(ppo, name)}")


def _unknown(what: str, name: str, known) -> None:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise NpkitError(f"unknown {what} {name!r}; {hint}known: {', '.join(known)}")

"""The other sections of a search file: space, training, search, serving, reporting."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from shared.architecture import AttentionChoice, Quantization
from shared.messages import Engine, SpeedSpec, Workload
from shared.settings.values import ONE, SEVERAL, Real, Section, Whole, distinct

DepthRule = Literal["importance", "divergence", "first"]
DepthRules = Annotated[
    Annotated[DepthRule, Tag(ONE)]
    | Annotated[tuple[DepthRule, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True}), Tag(SEVERAL)],
    Discriminator(lambda value: SEVERAL if isinstance(value, list | tuple) else ONE),
]
"""One rule, or several to choose from."""
NeuronOrder = Literal["importance", "none"]
ImportanceOn = Literal["all", "responses"]
MemoryRecipe = Literal["full", "lean", "leanest"]
"""How a fine-tuning holds weights, gradients and the states of its optimiser."""
MemoryChoice = Literal["auto", "full", "lean", "leanest"]
SubnetSampling = Literal["uniform", "stratified"]
Distillation = Literal["none", "full", "all"]
StrategyName = Literal["bayesian", "linas", "nsga2", "random"]

LOAD = Workload()


class SpaceSettings(Section):
    """The search space: which sub-networks there are to choose from."""

    depths: Annotated[
        tuple[Whole, ...],
        Field(
            min_length=1,
            description="Numbers of layers to choose from. Any number of choices, none above the model's own.",
            examples=[[30, 29, 28]],
        ),
    ]
    mlp_widths: Annotated[
        tuple[Whole, ...],
        Field(
            min_length=1,
            description="Numbers of MLP neurons to choose from, layer by layer. Any number of choices, none above the "
            "model's own; multiples of 64 suit matrix units.",
            examples=[[1536, 1152, 768]],
        ),
    ]
    depth_rule: Annotated[
        DepthRules,
        Field(
            description="Which layers shallower networks drop: those of least influence, or with `first` the last "
            "ones. A layer's influence is one minus the similarity of its input and output. With `divergence` they are "
            "found one by one: that layer goes next without which predictions change least. It takes half a pass over "
            "a thousand tokens for each layer and drop. The LLaMA-NAS paper keeps the first layers. Of several rules, "
            "as in `[importance, divergence]`, each network goes by one, which the search chooses.",
            examples=["importance", ["importance", "divergence"]],
        ),
    ] = "importance"
    quantization: Annotated[
        tuple[Quantization, ...],
        Field(
            min_length=1,
            description="How weights may be held: none, int8 (LLM.int8()), or both to let each network choose. Both "
            "need an objective that sees the difference: bytes or seconds.",
            json_schema_extra={"uniqueItems": True},
            examples=[["none", "int8"]],
        ),
    ] = ("none",)

    attention: Annotated[
        tuple[AttentionChoice, ...],
        Field(
            description="Whether layers keep their attention: keep, or `[keep, skip]` to let each layer be its MLP "
            "alone. A layer without attention has no KV cache and takes less time. Not with engine vllm in `serving`.",
            json_schema_extra={"uniqueItems": True, "contains": {"const": "keep"}},
            examples=[["keep", "skip"]],
        ),
    ] = ("keep",)

    @property
    def depth_rules(self) -> tuple[DepthRule, ...]:
        """All rules that there are to choose from."""
        return (self.depth_rule,) if isinstance(self.depth_rule, str) else self.depth_rule

    @field_validator("depth_rule")
    @classmethod
    def _distinct_rules(cls, rules: DepthRules) -> DepthRules:
        """A list of one is that one, so that it changes no identity."""
        return rules if isinstance(rules, str) or len(distinct(rules, "a rule")) > 1 else rules[0]

    @field_validator("quantization")
    @classmethod
    def _distinct_choices(cls, choices: tuple[Quantization, ...]) -> tuple[Quantization, ...]:
        return distinct(choices, "a choice")

    @field_validator("attention")
    @classmethod
    def _with_whole_layers(cls, choices: tuple[AttentionChoice, ...]) -> tuple[AttentionChoice, ...]:
        if "keep" not in choices:
            raise ValueError("the largest network has all of its attention: list keep, too")
        return distinct(choices, "a choice")


class TrainingSettings(Section):
    """The one fine-tuning that turns the model into a super-network. All sub-networks share its weights."""

    data: Annotated[
        str,
        Field(
            description="Training data: alpaca, plain_facts (built in), a file, or a data set of the Hugging Face hub. "
            "Files are JSON Lines, JSON, CSV or Parquet; a data set is OWNER/NAME, with /CONFIGURATION or :SPLIT where "
            "it has several. Rows have instruction, input and output; messages or conversations, of which the answers "
            "are learnt; or text, of which all is.",
            examples=["alpaca", "plain_facts", "chats.jsonl", "HuggingFaceH4/ultrachat_200k:train_sft"],
        ),
    ] = "alpaca"
    steps: Annotated[
        Whole,
        Field(
            ge=0,
            description="Optimiser steps, each of the whole network or of random sub-networks; 0: no fine-tuning. "
            "The time of the fine-tuning grows with them.",
        ),
    ] = 400
    full_every: Annotated[
        Whole,
        Field(
            ge=2,
            description="Every so many steps the whole network is trained; the others train sub-networks. InstaTune's "
            "and LLaMA-NAS's is 2.",
        ),
    ] = 2
    tokens_per_step: Annotated[
        Whole,
        Field(ge=64, description="Tokens in each step. Memory for activations grows with it."),
    ] = 1024
    learning_rate: Annotated[
        Real,
        Field(
            gt=0,
            lt=1,
            description="Highest learning rate of AdamW. It falls to a tenth along a half cosine. Lower it if the loss "
            "is not finite.",
        ),
    ] = 3e-5
    warmup_steps: Annotated[
        Whole, Field(ge=0, description="Steps in which the learning rate rises linearly from near 0.")
    ] = 20
    weight_decay: Annotated[Real, Field(ge=0, description="AdamW's weight decay.")] = 0.0
    clip_norm: Annotated[
        Real, Field(gt=0, description="Gradients with a larger norm are scaled down to this norm.")
    ] = 1.0
    subnets_per_step: Annotated[
        Whole,
        Field(
            ge=1,
            description="Random sub-networks in each step that trains any: they share its examples. As many as there "
            "are processes cost nothing more, as each then trains its own; the outcome doesn't depend on how many "
            "processes there are.",
        ),
    ] = 1
    sampling: Annotated[
        SubnetSampling,
        Field(
            description="How sub-networks are drawn: every gene uniformly, or `stratified` over the whole range of "
            "sizes. Uniform genes make networks of nearly the same size. `stratified` trains the smallest and the "
            "largest every few steps, and sizes in between equally often. The LLaMA-NAS paper draws uniformly."
        ),
    ] = "uniform"
    distillation: Annotated[
        Distillation,
        Field(
            description="What teaches the sub-networks: the data, the whole network as well (`full`), or nothing but "
            "that (`all`). With `full` its predictions of response tokens make 0.7 of the loss, with `all` those of "
            "all tokens are the loss. They are computed with the weights of the step. LLaMA-NAS leaves out "
            "distillation, which InstaTune has."
        ),
    ] = "none"
    neuron_order: Annotated[
        NeuronOrder,
        Field(
            description="Sort each MLP's neurons by importance beforehand, or `none`. A narrower MLP keeps the first "
            "neurons, so the order decides which ones. The LLaMA-NAS paper leaves them as they are."
        ),
    ] = "importance"
    calibration_tokens: Annotated[
        Whole,
        Field(
            ge=256,
            description="Tokens of the training data with which the importance of layers and neurons is measured. With "
            "as many, projections are refitted.",
        ),
    ] = 8192
    importance_on: Annotated[
        ImportanceOn,
        Field(
            description="Tokens by which layers and neurons are ordered: `all`, or those that predict `responses`. "
            "Prompts are read all the same, and projections are refitted on all calibration tokens."
        ),
    ] = "all"
    refit: Annotated[
        bool,
        Field(
            description="Refit each MLP's down projection for each narrower width, after the fine-tuning. In closed "
            "form, so that a narrow MLP's output on training data is as close as can be to the whole one's. The "
            "projections lie beside the super-network's weights.",
        ),
    ] = False
    memory: Annotated[
        MemoryChoice,
        Field(
            description="How much memory the fine-tuning takes: full, lean, leanest, or auto for the first that fits. "
            "They take 18, 6 and 4 bytes a parameter. lean and leanest hold weights in bfloat16 and the optimiser's "
            "states in 8 bits, and make another super-network. leanest doesn't clip gradients."
        ),
    ] = "auto"
    checkpoint_every_seconds: Annotated[
        Real,
        Field(
            gt=0,
            description="Seconds between checkpoints, from which an interrupted fine-tuning resumes. More pass where "
            "they take long to write, so that training waits less than 5 % of the time. It changes nothing in the "
            "super-network.",
        ),
    ] = 120.0
    seed: Annotated[
        Whole, Field(description="Seed for the order of the training data and for the random sub-networks.")
    ] = 0


class StrategySettings(Section):
    """The search itself: which strategy, and how many networks it may measure."""

    strategy: Annotated[
        StrategyName,
        Field(
            description="Search strategy: bayesian, linas, nsga2 or random. bayesian predicts accuracy and measures "
            "what is expected to improve the front most, linas measures what is predicted best; nsga2 evolves measured "
            "networks, random draws them."
        ),
    ] = "linas"
    evaluations: Annotated[
        Whole,
        Field(
            ge=1,
            description="Networks to measure in all; raise it and run again to continue a finished search.",
        ),
    ] = 250
    population: Annotated[
        Whole,
        Field(
            ge=2,
            description="Networks in each generation. On a farm, set it to twice the number of evaluators or more. "
            "With `asynchronous` so many are always under way: the number of evaluators, then, or a few more.",
        ),
    ] = 50
    slices: Annotated[
        Whole,
        Field(
            ge=1,
            description="Slices of the search items; each network is measured on one of them. With several, more "
            "networks can be measured in the same time, and what their layers are worth is learnt on all items. Only "
            "for `bayesian`, which estimates what each network would have on all of them.",
        ),
    ] = 1
    seed: Annotated[Whole, Field(description="Seed for all random choices of the strategy.")] = 0
    overlap: Annotated[
        bool,
        Field(
            description="Choose the next generation while one is still being measured. No evaluator of a farm waits "
            "for a generation's last network then, but the strategy knows one generation less."
        ),
    ] = False
    asynchronous: Annotated[
        bool,
        Field(
            description="Ask for another network whenever one is measured, instead of for whole generations. For farms "
            "whose evaluators differ in speed: none waits for another. The order in which results come decides what is "
            "asked for, so the same search from the beginning may find other networks. A single evaluator never waits: "
            "it gains nothing. Not with `overlap`."
        ),
    ] = False

    @model_validator(mode="after")
    def _agreeing(self) -> Self:
        if self.slices > 1 and self.strategy != "bayesian":
            raise ValueError(
                f"slices: {self.strategy} compares networks by what was measured, which takes the same items for all; "
                "remove it, or choose strategy bayesian"
            )
        if self.overlap and self.asynchronous:
            raise ValueError("an asynchronous search has no generations to overlap; remove overlap or asynchronous")
        return self


class ServingSettings(Section):
    """How networks will be served: the engine and load with which speed is measured. Objectives in seconds need it;
    without such, the speeds of the front are measured with it."""

    engine: Annotated[
        Engine,
        Field(
            description="Engine that runs the networks: torch or vllm. vllm needs a GPU and the package's extra `vllm`."
        ),
    ] = "torch"
    batch: Annotated[Whole, Field(ge=1, description="Sequences that run together.")] = LOAD.batch
    prompt_tokens: Annotated[
        Whole, Field(ge=1, description="Length of each prompt in tokens, all read at once (prefill).")
    ] = LOAD.prompt_tokens
    generated_tokens: Annotated[
        Whole, Field(ge=1, description="Tokens generated after each prompt, one at a time (decode).")
    ] = LOAD.generated_tokens
    repeats: Annotated[
        Whole,
        Field(ge=1, description="Timed runs of each network. The report shows their median and range."),
    ] = 5

    @property
    def workload(self) -> Workload:
        """The load."""
        return Workload(batch=self.batch, prompt_tokens=self.prompt_tokens, generated_tokens=self.generated_tokens)

    @property
    def speed(self) -> SpeedSpec:
        """How the speed of one network is measured."""
        return SpeedSpec(engine=self.engine, workload=self.workload, repeats=self.repeats)


class ReportingSettings(Section):
    """What is measured on the report items, and what the report claims."""

    margin: Annotated[
        Real,
        Field(
            gt=0,
            le=50,
            description="Points of accuracy that a network may lose against the whole one and still count as good. "
            "Fixed when the search begins; showing a smaller loss takes more report items.",
        ),
    ] = 2.0
    networks: Annotated[
        Whole,
        Field(
            ge=2,
            description="Networks of the front to measure: both ends, the others spread evenly between them. They are "
            "spread by the first objective.",
        ),
    ] = 6
    random: Annotated[
        bool,
        Field(description="Measure a random network of the same size beside each. It shows what the search was worth."),
    ] = False

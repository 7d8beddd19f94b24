"""What the LLaMA-NAS paper reports of its model, to stand beside what is measured here: another model, another machine,
and items on which the networks were chosen as well."""

from services.reporting.study.study_data import PublishedFigure

MODEL = "LLaMA2-7B"
SOURCE = "LLaMA-NAS, arXiv 2405.18377"
FRONTS = f"{SOURCE}, figures 1 to 4 and table 2"
INT8 = f"{SOURCE}, figure 5 and table 5"

PUBLISHED: tuple[PublishedFigure, ...] = (
    PublishedFigure(
        section="fronts",
        task="mmlu",
        model=MODEL,
        what="1.1 points better than the base model at 1.5 times smaller",
        source=FRONTS,
        difference=0.011,
        times_smaller=1.5,
    ),
    PublishedFigure(
        section="fronts",
        task="arc_challenge",
        model=MODEL,
        what="As good as the base model at 1.1 times smaller",
        source=FRONTS,
        difference=0.0,
        times_smaller=1.1,
    ),
    PublishedFigure(
        section="fronts",
        task="arc_challenge",
        model=MODEL,
        what="1.9 points better than the base model at the same size",
        source=FRONTS,
        difference=0.019,
        times_smaller=1.0,
    ),
    PublishedFigure(
        section="fronts",
        task="winogrande",
        model=MODEL,
        what="As good as the base model at 1.1 times smaller",
        source=FRONTS,
        difference=0.0,
        times_smaller=1.1,
    ),
    PublishedFigure(
        section="fronts",
        task="winogrande",
        model=MODEL,
        what="1.4 points better than the base model at the same size",
        source=FRONTS,
        difference=0.014,
        times_smaller=1.0,
    ),
    PublishedFigure(
        section="throughput",
        task="mmlu",
        model=MODEL,
        what="1.1 points better than the base model at 1.3 times its throughput",
        source=f"{SOURCE}, figure 2",
        difference=0.011,
        times_smaller=1.5,
        times_faster=1.3,
    ),
    PublishedFigure(
        section="int8",
        task="mmlu",
        model=MODEL,
        what="2.5 times smaller in INT8",
        source=INT8,
        times_smaller=2.5,
    ),
    PublishedFigure(
        section="int8",
        task="winogrande",
        model=MODEL,
        what="0.2 points better at 1.8 to 2.0 times smaller in INT8",
        source=INT8,
        difference=0.002,
    ),
    PublishedFigure(
        section="int8",
        task="arc_easy",
        model=MODEL,
        what="Slightly better in INT8",
        source=INT8,
    ),
    PublishedFigure(
        section="int8",
        task=None,
        model=MODEL,
        what="Almost lossless on all tasks",
        source=INT8,
    ),
    PublishedFigure(
        section="narrow",
        task="arc_challenge",
        model=MODEL,
        what=(
            "The network with 32 layers and narrow MLPs in layers 3, 4, 18, 25, 26, 28, 29 and 32, counted from 1, has "
            "the base model's accuracy, 45.9 %, at 6.197 B parameters (computed from its shape)"
        ),
        source=f"{SOURCE}, figures 7 to 9 and their heuristic",
        difference=0.0,
        times_smaller=1.087,
    ),
)

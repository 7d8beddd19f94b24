"""Networks may only be compared on the same items: prompts, choices and data must not change under a search.

What the items are is no part of a measurement's identity (see shared.identity): whoever asks can't know. It is compared
here instead, by the digest of what was read, in every answer, also in those that the history holds.
"""

from shared.messages import EvaluationRequest, Measurement


class ItemConsistency:
    """Which items each task of the search was measured on; the first measurement decides."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def disagreement(self, request: EvaluationRequest, measurement: Measurement) -> str | None:
        """What is wrong with the items of a valid measurement, in a line for the user; None if nothing is."""
        digests = {
            asked.model_dump_json(): scores.items_digest
            for asked, scores in zip(request.spec.tasks, measurement.scores, strict=True)
        }
        for asked, digest in zip(request.spec.tasks, digests.values(), strict=True):
            if not digest:  # of an earlier release, which made digests in another way
                continue
            if self._digests.get(asked.model_dump_json(), digest) != digest:
                return (
                    f"tasks.{asked.task}: its data or prompts differ from those of earlier measurements of this "
                    "search; restore them (NASFARM_DATA, lm-eval's version), or change `name` to begin a new search"
                )
        self._digests |= {asked: digest for asked, digest in digests.items() if digest}
        return None

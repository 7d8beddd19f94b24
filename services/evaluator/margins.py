"""By how much the right choice of an item wins, as each of lm-eval's metrics compares choices."""

from collections.abc import Collection, Sequence


def margin(values: Sequence[float], golds: Collection[int]) -> float:
    """The value of the best right choice less that of the best wrong one; 0 where none is wrong."""
    right = max(values[index] for index in golds)
    return right - max((value for index, value in enumerate(values) if index not in golds), default=right)


def margins_by_metric(
    likelihoods: Sequence[float], choices: Sequence[str], golds: Collection[int], metrics: Collection[str]
) -> dict[str, float]:
    """The margins by those of `metrics` that don't compare log-likelihoods, in nats.

    `likelihoods` are those of the choices after their context and, for acc_mutual_info, then without it. A margin in
    nats per character or byte is multiplied by the length of the best right choice, so that it says as much of how sure
    the answer is as others do.
    """
    after = likelihoods[: len(choices)]
    found = {}
    for metric, lengths in _lengths(choices).items():
        if metric in metrics and all(lengths):
            values = [value / length for value, length in zip(after, lengths, strict=True)]
            found[metric] = margin(values, golds) * lengths[max(golds, key=lambda index: values[index])]
    if "acc_mutual_info" in metrics and len(likelihoods) == 2 * len(choices):
        without = likelihoods[len(choices) :]
        found["acc_mutual_info"] = margin([one - other for one, other in zip(after, without, strict=True)], golds)
    return found


def _lengths(choices: Sequence[str]) -> dict[str, list[int]]:
    return {
        "acc_norm": [len(choice) for choice in choices],
        "acc_bytes": [len(choice.encode()) for choice in choices],
    }

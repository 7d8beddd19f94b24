"""How a step is divided among sub-networks and processes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.trainer.examples import Example
from services.trainer.step_division import shares

BATCHES = st.lists(st.integers(2, 60), min_size=1, max_size=20).map(
    lambda lengths: [Example(tuple(range(number, number + length)), 1) for number, length in enumerate(lengths)]
)
FEW = st.integers(1, 6)


@given(BATCHES, FEW, FEW)
def test_every_example_is_trained_once_and_every_process_takes_part_in_every_pass(
    batch: list[Example], networks: int, processes: int
) -> None:
    passes = shares(batch, networks, processes)
    assert all(len(each) == processes for each in passes)
    assert len(passes) == -(-networks // processes)
    everything = [share for each in passes for share in each]
    assert {share.network for share in everything} == set(range(networks))
    assert Counter(example for share in everything for example in share.examples) == Counter(batch)
    assert sum(share.learnt_tokens(False) for share in everything) == sum(len(example.tokens) - 1 for example in batch)


@given(BATCHES, FEW)
def test_which_network_an_example_trains_doesn_t_depend_on_the_processes(batch: list[Example], networks: int) -> None:
    def divided(processes: int) -> dict[int, Counter[Example]]:
        found: dict[int, Counter[Example]] = {number: Counter() for number in range(networks)}
        for each in shares(batch, networks, processes):
            for share in each:
                found[share.network].update(share.examples)
        return found

    assert divided(1) == divided(2) == divided(3) == divided(7)


@given(BATCHES, FEW)
def test_processes_have_about_as_many_tokens_each(batch: list[Example], processes: int) -> None:
    (each,) = shares(batch, 1, processes)
    tokens = [sum(len(example.tokens) for example in share.examples) for share in each]
    assert max(tokens) - min(tokens) <= max(len(example.tokens) for example in batch)


@given(BATCHES)
def test_one_process_with_one_network_trains_on_the_batch_as_it_is(batch: list[Example]) -> None:
    ((share,),) = shares(batch, 1, 1)
    assert share.examples == batch

"""What fine-tuning and scoring take, computed from a network's shape."""

import pytest

from shared.memory_needs import RECIPES, SCRATCH, fine_tuning_needs, first_that_fits, recipes_for
from shared.network.config import network_of
from shared.network.shape import NetworkShape
from shared.network.sizes import parameters
from shared.settings import MemoryRecipe, TrainingSettings

FEW = TrainingSettings(tokens_per_step=64)


def llama2_7b() -> NetworkShape:
    config = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
    }
    return network_of(config, "config.json")


@pytest.mark.parametrize(("recipe", "most"), [("full", 18.0), ("lean", 6.5), ("leanest", 4.5)])
def test_a_seven_billion_model_takes_no_more_bytes_a_parameter_than_its_recipe_promises(
    recipe: MemoryRecipe, most: float
) -> None:
    network = llama2_7b()
    needs = fine_tuning_needs(network, FEW, recipe, "bfloat16")
    assert needs.weights + needs.copy + needs.optimizer + needs.gradients <= most * parameters(network)


def test_each_recipe_takes_less_than_the_one_before_it() -> None:
    needs = [fine_tuning_needs(llama2_7b(), TrainingSettings(), recipe, "bfloat16") for recipe in RECIPES]
    assert needs[0].device > needs[1].device > needs[2].device
    assert needs[0].disk > needs[1].disk == needs[2].disk


def test_more_tokens_a_step_take_more_memory_and_no_more_disk() -> None:
    for recipe in RECIPES:
        few, many = (
            fine_tuning_needs(llama2_7b(), TrainingSettings(tokens_per_step=tokens), recipe, "bfloat16")
            for tokens in (1024, 65536)
        )
        assert few.device < many.device and few.disk == many.disk


def test_each_of_several_processes_takes_its_part_of_all_that_is_held() -> None:
    alone = fine_tuning_needs(llama2_7b(), TrainingSettings(), "full", "bfloat16")
    shared = alone.shared_by(8)
    assert shared.device - SCRATCH == pytest.approx((alone.device - SCRATCH) / 8) and shared.disk == alone.disk


def test_sub_networks_that_share_a_step_leave_no_choice_of_leanest() -> None:
    alone, several = (recipes_for(TrainingSettings(subnets_per_step=number)) for number in (1, 2))
    assert alone == RECIPES and several == ("full", "lean")
    taken = first_that_fits(1, several, lambda recipe: fine_tuning_needs(llama2_7b(), FEW, recipe, "bfloat16"))
    assert taken == "lean", "the last one, where none fits"

"""What fine-tuning and scoring take, computed from a network's shape."""

import pytest

from shared.memory_needs import RECIPES, fine_tuning_needs, scoring_needs
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
    assert needs.weights + needs.optimizer + needs.gradients <= most * parameters(network)


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


def test_scoring_takes_the_weights_and_what_a_batch_makes() -> None:
    needs = scoring_needs(llama2_7b(), "bfloat16", 4096, 32768)
    assert needs.weights == 2 * parameters(llama2_7b())
    assert needs.weights < needs.device < 1.2 * needs.weights

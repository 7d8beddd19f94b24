"""Architectures as data: canonical, hashable, the same wherever they are written."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.architecture import Architecture
from shared.space import QUANTIZATIONS


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    layers = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=8)))
    widths = [draw(st.integers(1, 20000)) for _ in layers]
    without = sorted(draw(st.sets(st.sampled_from(layers))))
    return Architecture(
        layers=tuple(layers),
        mlp_widths=tuple(widths),
        quantization=draw(st.sampled_from(QUANTIZATIONS)),
        without_attention=tuple(without),
    )


@given(architectures())
def test_an_architecture_survives_json(architecture: Architecture) -> None:
    restored = Architecture.model_validate_json(architecture.model_dump_json())
    assert restored == architecture
    assert restored.digest == architecture.digest
    assert hash(restored) == hash(architecture)


@given(architectures())
def test_the_order_of_keys_and_the_white_space_of_the_json_do_not_matter(architecture: Architecture) -> None:
    values = architecture.model_dump(mode="json")
    text = json.dumps(dict(reversed(values.items())), indent=3)
    assert Architecture.model_validate_json(text).digest == architecture.digest


@given(architectures(), architectures())
def test_digests_are_equal_exactly_where_the_networks_are(one: Architecture, other: Architecture) -> None:
    assert (one.digest == other.digest) == (one == other)


@given(architectures(), st.data())
def test_any_other_width_makes_another_digest(architecture: Architecture, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, architecture.depth - 1))
    widths = list(architecture.mlp_widths)
    widths[place] += 1
    other = architecture.model_copy(update={"mlp_widths": tuple(widths)})
    assert Architecture.model_validate(other.model_dump()).digest != architecture.digest


@given(architectures())
def test_a_quantised_network_is_another_one_of_the_same_layers(architecture: Architecture) -> None:
    plain, int8 = architecture.quantized("none"), architecture.quantized("int8")
    assert architecture in (plain, int8) and plain != int8 and plain.digest != int8.digest
    assert int8.layer_choices == plain.layer_choices
    assert int8.quantized("none") == plain


def test_a_file_of_a_former_release_is_a_network_that_is_not_quantised() -> None:
    former = Architecture.model_validate_json('{"layers": [0, 2], "mlp_widths": [64, 32]}')
    assert former == Architecture(layers=(0, 2), mlp_widths=(64, 32), quantization="none")


def test_the_digest_is_the_same_in_every_process_and_release() -> None:
    program = (
        "from shared.architecture import Architecture\n"
        "import sys\n"
        "print(Architecture(layers=(0, 2, 3), mlp_widths=(64, 32, 64)).digest, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["13a915adff6063002e53252e3bb2e796", "False"]


def test_the_depth_is_the_number_of_kept_layers() -> None:
    assert Architecture(layers=(0, 4, 9), mlp_widths=(1, 2, 3)).depth == 3


def test_an_architecture_can_not_be_changed() -> None:
    architecture = Architecture(layers=(0,), mlp_widths=(8,))
    with pytest.raises(ValidationError):
        architecture.layers = (1,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"layers": [], "mlp_widths": []}, "at least 1 item"),
        ({"layers": [1, 0], "mlp_widths": [8, 8]}, "strictly ascending"),
        ({"layers": [0, 0], "mlp_widths": [8, 8]}, "strictly ascending"),
        ({"layers": [-1, 0], "mlp_widths": [8, 8]}, "greater than or equal to 0"),
        ({"layers": [0, 1], "mlp_widths": [8]}, "2 layers but 1 mlp_widths"),
        ({"layers": [0], "mlp_widths": [-1]}, "greater than or equal to 0"),
        ({"layers": [0.0], "mlp_widths": [8]}, "valid integer"),
        ({"layers": ["0"], "mlp_widths": [8]}, "valid integer"),
        ({"layers": [True], "mlp_widths": [8]}, "valid integer"),
        ({"layers": [0], "mlp_widths": [8], "heads": [4]}, "Extra inputs are not permitted"),
        ({"layers": [0, 2], "mlp_widths": [8, 8], "without_attention": [2, 0]}, "strictly ascending"),
        ({"layers": [0, 2], "mlp_widths": [8, 8], "without_attention": [1]}, "names layer 1, which is none of layers"),
        ({"layers": [0, 2], "mlp_widths": [8, 0], "without_attention": [2]}, "layer 2 has neither attention nor MLP"),
        ({"layers": [0]}, "Field required"),
        ({"layers": [0], "mlp_widths": [8], "quantization": "int4"}, "'none' or 'int8'"),
    ],
)
def test_what_is_no_architecture_is_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Architecture.model_validate(values)

"""Requests name no checkpoint but what the evaluator was started for."""

import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.evaluator.locations import AllowedLocations, is_below
from shared.digest import DIGEST_CHARACTERS
from shared.errors import UserError
from shared.messages import CheckpointRef
from shared.supernet.source import fetch_checkpoint
from shared.text import without_users

STEPS = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), max_size=3).map("/".join)


@pytest.mark.parametrize(
    ("location", "above"),
    [
        ("s3://bucket/nets/one", "s3://bucket/nets"),
        ("s3://bucket/nets", "s3://bucket/nets/"),
        ("org/model", "org/model"),
        ("org/model", "org"),
        ("/data/nets/one", "/data/nets/"),
        ("/data/nets/../nets/one", "/data/nets"),
        ("~/nets/one", "~/nets"),
    ],
)
def test_a_location_is_below_itself_and_what_it_lies_in(location: str, above: str) -> None:
    assert is_below(location, above)


@pytest.mark.parametrize(
    ("location", "above"),
    [
        ("s3://bucket/networks", "s3://bucket/net"),
        ("s3://bucket/nets/../secrets", "s3://bucket/nets"),
        ("s3://bucket/nets/%2e%2E/secrets", "s3://bucket/nets"),
        ("s3://bucket-of-another/nets", "s3://bucket"),
        ("https://bucket/nets", "s3://bucket/nets"),
        ("zip://x::s3://bucket/nets", "zip://x"),
        ("s3://bucket/nets/x::file:///etc", "s3://bucket/nets"),
        ("file:///etc", "/"),
        ("/etc", "s3://bucket"),
        ("org/model-2", "org/model"),
        ("org/../../etc", "org"),
        ("another/model", "org/model"),
        ("/etc", "org"),
        ("/data/nets/../../etc", "/data/nets"),
        ("/data/networks", "/data/net"),
    ],
)
def test_a_location_elsewhere_is_not_below(location: str, above: str) -> None:
    assert not is_below(location, above)


@given(STEPS, STEPS, st.sampled_from(["s3://bucket/", "/data/", "hf://", "org/"]))
def test_whatever_is_put_behind_is_below_and_what_leads_up_is_not(above: str, steps: str, root: str) -> None:
    here = f"{root}{above}/here"
    assert is_below(f"{here}/{steps}", here)
    assert not is_below(f"{here}/{steps}/../{quote('..')}/../../../elsewhere", here)


def test_a_link_that_leads_out_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "nets" / "one").symlink_to(tmp_path / "secret")
    (tmp_path / "there").symlink_to(tmp_path / "nets")
    assert not is_below(str(tmp_path / "nets" / "one"), str(tmp_path / "nets"))
    assert is_below(str(tmp_path / "nets"), str(tmp_path / "there"))


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}"])
def test_a_link_out_leads_nowhere_however_its_directory_is_named(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "one").mkdir(parents=True)
    (tmp_path / "models" / "link").symlink_to("/etc")
    for above in ("models", f"{tmp_path}/models"):
        assert is_below(form.format(f"{above}/one"), form.format(above))
        assert not is_below(form.format(f"{above}/link"), form.format(above))
        assert not is_below(form.format(f"{above}/link/apt"), form.format(above))


def test_what_leads_nowhere_is_below_nothing_and_what_can_be_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    for location in ("a\0b", "circle", "circle/x", "n" * 5000):
        for scheme in ("", "file://"):
            if len(location) < 5000:
                assert not is_below(f"{scheme}{tmp_path}/{location}", f"{scheme}{tmp_path}"), location
            with pytest.raises(UserError):
                fetch_checkpoint(f"{scheme}{tmp_path}/{location}", "d" * DIGEST_CHARACTERS, tmp_path / "cache")


@settings(deadline=None)
@given(st.sampled_from(["", "/", "/tmp/", "~", "./", "org/", "file://", "file:///tmp/", "memory://"]), st.text())
@example("/tmp/", "n" * 5000)
@example("/tmp/", "a\0b")
def test_any_text_as_a_location_is_answered_or_refused_in_an_error_of_ours(root: str, text: str) -> None:
    reference = CheckpointRef(location=f"{root}{text}", digest="d" * DIGEST_CHARACTERS)
    for allowed in ("/tmp", "models", "file:///tmp", "memory://", "org", reference.location):
        with suppress(UserError):
            assert AllowedLocations([allowed], {}).of(reference) == reference.location
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as cache, suppress(UserError):
        patched.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert fetch_checkpoint(reference.location, reference.digest, Path(cache)).is_dir()


def test_what_is_known_by_its_digest_is_found_at_a_place_of_our_own_and_the_rest_is_refused_in_one_line() -> None:
    locations = AllowedLocations(["s3://bucket/nets", "org/model"], {"base": "org/model"})
    assert locations.of(CheckpointRef(location="s3://bucket/nets/one", digest="any")) == "s3://bucket/nets/one"
    assert locations.of(CheckpointRef(location="/somebody's/path", digest="base")) == "org/model"
    with pytest.raises(UserError, match=r"^https://there/x: this evaluator may open no .* NASFARM_LOCATIONS$"):
        locations.of(CheckpointRef(location="https://user:secret@there/x", digest="any"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:secret@bucket/x: not there", "s3://bucket/x: not there"),
        ("amqp://u@there and ftp://me:p@ss@host/y", "amqp://there and ftp://host/y"),
        ("https://me:p/ss@host/y", "https://host/y"),
        ("hf://org/model@main", "hf://org/model@main"),
        ("nobody@nowhere", "nobody@nowhere"),
    ],
)
def test_user_and_password_in_urls_are_left_out(text: str, shown: str) -> None:
    assert without_users(text) == shown

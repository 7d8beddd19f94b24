"""Where a broker is, and the files that it is deployed with."""

import base64
import hashlib
import json
import stat
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.exceptions import AMQPConnectionError, StreamLostError

from shared.broker import REMEMBERED_SECONDS, BrokerUnreachableError
from shared.broker.__main__ import main
from shared.broker.address import BrokerAddress
from shared.broker.rabbitmq import remove_queues
from shared.broker.topology import RIGHTS, definitions, queue_arguments
from shared.errors import UserError
from shared.failure_policy import CONSUMER_TIMEOUT_SECONDS


def test_an_address_is_read_from_its_url_and_never_shows_user_and_password() -> None:
    address = BrokerAddress.parse("amqp://coordinator:s%2Fecret@there:1234/my%2Fhost")
    assert (address.host, address.port, address.vhost) == ("there", 1234, "my/host")
    assert (address.user, address.password, address.tls) == ("coordinator", "s/ecret", None)
    assert str(address) == "amqp://there:1234/my/host"
    assert "ecret" not in repr(address)
    assert BrokerAddress.parse("amqp://u:p@ss@there").password == "p@ss"


def test_ports_and_vhost_have_defaults_and_credentials_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("evaluator:a:b\n")
    address = BrokerAddress.parse("amqps://there", tmp_path / "credentials")
    assert (address.port, address.vhost, address.user, address.password) == (5671, "nasfarm", "evaluator", "a:b")
    assert address.tls is not None and address.tls.check_hostname
    assert BrokerAddress.parse("amqp://u:p@there").port == 5672


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("there:5672", "not a broker's URL"),
        ("http://u:p@there", "not a broker's URL"),
        ("amqp://u:p@there:99999", "the port is a number up to 65535"),
        ("amqp://u:p@there?heartbeat=1", "not a broker's URL"),
        ("amqp://there", "user or password is missing"),
        ("amqp://u@there", "user or password is missing"),
    ],
)
def test_an_address_that_makes_no_sense_is_explained_without_its_password(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        BrokerAddress.parse(url)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize(
    "password", ["p/sesame", "p#sesame", "p?sesame", "5672/sesame", "p/ses@ame", "[sesame", "p]sesame", "\u2100sesame"]
)
@pytest.mark.parametrize("user", ["", "somebody"])
def test_a_password_that_isn_t_percent_encoded_is_explained_and_nothing_of_it_shown(user: str, password: str) -> None:
    with pytest.raises(UserError, match="percent-encode") as refused:
        BrokerAddress.parse(f"amqp://{user}:{password}@there:5672/nasfarm")
    assert (
        "sesame" not in str(refused.value) and "@ame" not in str(refused.value) and "somebody" not in str(refused.value)
    )
    address = BrokerAddress.parse(f"amqp://somebody:{quote(password, safe='')}@there/nasfarm")
    assert (address.user, address.password, address.host) == ("somebody", password, "there")


@given(st.text(min_size=1), st.text(min_size=1))
def test_whatever_the_user_is_called_encoded_it_is_read_and_not_shown(user: str, password: str) -> None:
    address = BrokerAddress.parse(f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@there:99/nasfarm")
    assert (address.user, address.password) == (user, password)
    assert str(address) == "amqp://there:99/nasfarm"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_whatever_is_written_for_a_password_no_error_shows_it(password: str) -> None:
    try:
        shown = str(BrokerAddress.parse(f"amqp://somebody:SECRET{password}SECRET@there:99/nasfarm"))
    except UserError as error:
        shown = str(error)
    assert "SECRET" not in shown and "somebody" not in shown


def test_files_that_can_t_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with pytest.raises(UserError, match=r"empty: must hold user:password"):
        BrokerAddress.parse("amqp://there", tmp_path / "empty")
    with pytest.raises(UserError, match=r"missing: can't be read"):
        BrokerAddress.parse("amqp://there", tmp_path / "missing")
    for authority in ("empty", "missing"):
        with pytest.raises(UserError, match=f"{authority}: no certificates"):
            BrokerAddress.parse("amqps://u:p@there", authority=tmp_path / authority)
    with pytest.raises(UserError, match=r"certificates are for TLS"):
        BrokerAddress.parse("amqp://u:p@there", authority=tmp_path / "empty")


def test_generated_files_hold_hashes_only_and_passwords_are_kept_where_only_the_owner_reads(tmp_path: Path) -> None:
    assert main(["generate", str(tmp_path)]) == 0
    files = {user: tmp_path / "credentials" / user for user in RIGHTS}
    passwords = {user: file.read_text().strip().removeprefix(f"{user}:") for user, file in files.items()}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files.values())
    assert len(set(passwords.values())) == len(RIGHTS) and min(map(len, passwords.values())) >= 32

    text = (tmp_path / "definitions.json").read_text()
    assert not any(password in text for password in passwords.values())
    for user in json.loads(text)["users"]:
        salted = base64.b64decode(user["password_hash"])
        assert salted[4:] == hashlib.sha256(salted[:4] + passwords[user["name"]].encode()).digest()

    assert main(["generate", str(tmp_path), "--listen", "5671", "--server-directory", "/etc/rabbitmq", "--tls"]) == 0
    assert {user: file.read_text().strip().removeprefix(f"{user}:") for user, file in files.items()} == passwords
    configuration = (tmp_path / "rabbitmq.conf").read_text().splitlines()
    assert f"consumer_timeout = {CONSUMER_TIMEOUT_SECONDS * 1000}" in configuration
    assert "load_definitions = /etc/rabbitmq/definitions.json" in configuration
    assert "listeners.tcp = none" in configuration and "listeners.ssl.1 = 5671" in configuration
    assert "ssl_options.keyfile = /etc/rabbitmq/tls/key.pem" in configuration


def test_spoilt_credentials_are_named_rather_than_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "evaluator").write_text("somebody:else")
    assert main(["generate", str(tmp_path)]) == 2
    assert "evaluator: must hold evaluator:password; delete it" in capsys.readouterr().err
    assert not (tmp_path / "definitions.json").exists()


def test_adding_nothing_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", "amqp://u:p@there"]) == 2
    assert capsys.readouterr().err == "add: name a super-network (--supernet) or a search (--search)\n"


def test_a_super_network_is_named_by_its_directory_and_one_that_isn_t_there_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["add", "amqp://u:p@there", "--supernet", str(tmp_path / "missing")]) == 2
    assert f"{tmp_path}/missing/supernet.json: can't be read" in capsys.readouterr().err


def test_requests_may_be_held_as_long_as_the_node_allows_and_the_stream_forgets() -> None:
    assert queue_arguments("requests.net")["x-consumer-timeout"] == CONSUMER_TIMEOUT_SECONDS * 1000
    assert "x-consumer-timeout" not in queue_arguments("results.one")
    streams = [
        queue["arguments"]
        for queue in definitions(dict.fromkeys(RIGHTS, "secret"))["queues"]
        if queue["arguments"]["x-queue-type"] == "stream"
    ]
    assert [stream["x-max-age"] for stream in streams] == [f"{2 * REMEMBERED_SECONDS:.0f}s"]


class LostConnection:
    """A connection to a broker that dies as soon as something is asked of it."""

    is_open = True

    def channel(self) -> None:
        raise StreamLostError("Stream connection lost")

    def close(self) -> None:
        raise AMQPConnectionError("lost")


def test_a_broker_that_goes_away_meanwhile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pika.BlockingConnection", lambda _: LostConnection())
    address = BrokerAddress.parse("amqp://operator:secret@there/nasfarm")
    lost = r"amqp://there:5672/nasfarm: the connection was lost \(Stream connection lost\); try again"
    with pytest.raises(BrokerUnreachableError, match=lost):
        remove_queues(address, ["results.one"])

"""Properties of messages that pika can't decode."""

import struct

import pika
from hypothesis import given
from hypothesis import strategies as st
from pika import frame, spec

from shared.broker.rabbitmq.decoding import UNREADABLE, TolerantProperties, unreadable
from tests.support.poison import FAR, NESTED, Raw

NO_NUMBER = b"d" + struct.pack(">d", float("nan"))
"""RabbitMQ itself refuses it."""


def arrived(properties: pika.BasicProperties) -> spec.BasicProperties:
    """What pika makes of a message's header frame."""
    consumed, read = frame.decode_frame(frame.Header(1, 5, properties).marshal())
    assert read.body_size == 5 and consumed > 0
    return read.properties


def test_what_cannot_be_decoded_says_why_and_has_an_identity_of_its_own() -> None:
    found = [arrived(Raw(value)) for value in (FAR, NESTED, NO_NUMBER, b"?")]
    assert all("unreadable headers" in (unreadable(each) or "") for each in found)
    assert len({each.message_id for each in found}) == len(found)
    assert arrived(Raw(FAR)).message_id == found[0].message_id


def test_a_message_that_pretends_to_be_unreadable_is_none() -> None:
    sent = pika.BasicProperties(headers={UNREADABLE: "yes"}, message_id="mine")
    assert unreadable(arrived(sent)) is None and arrived(sent) == sent


@given(st.dictionaries(st.text(max_size=20), st.integers(-(2**31), 2**31 - 1) | st.text() | st.booleans()))
def test_properties_that_can_be_decoded_are_those_that_were_sent(headers: dict[str, int | str | bool]) -> None:
    sent = pika.BasicProperties(content_type="application/json", headers=headers, message_id="1")
    assert arrived(sent) == sent


@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange_to_be_decoded(table: bytes) -> None:
    encoded = struct.pack(">HI", spec.BasicProperties.FLAG_HEADERS, len(table)) + table
    TolerantProperties().decode(encoded)

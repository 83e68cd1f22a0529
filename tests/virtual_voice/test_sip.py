from __future__ import annotations

import asyncio
import socket

import pytest

from hil.virtual import addresses
from hil.virtual.phones import STANDARD_PHONES, CallState, Phone, PhoneSpec
from hil.virtual.provider_programs import ProgramError
from hil.virtual.provider_sip import asked_expiry_s

from .bed import NAT_PHONES
from .conftest import Voice

pytestmark = pytest.mark.bench


def test_all_phones_are_registered_with_the_expiry_they_asked_for(voice: Voice) -> None:
    bindings = {binding.user: binding for binding in voice.provider.bindings()}
    assert set(bindings) == {"far", *(spec.user for spec in STANDARD_PHONES)}
    for spec in STANDARD_PHONES:
        binding = bindings[spec.user]
        assert binding.transport == spec.transport
        assert abs(binding.granted_s - spec.expiry_s) <= 1
        assert spec.expiry_s - 30 <= binding.expires_s <= spec.expiry_s
        # The source is what the SBC saw: the router's address for phones behind NAT, while the contact stays private.
        natted = spec.address in NAT_PHONES
        assert binding.address == (addresses.PROVIDER_GATEWAY if natted else spec.address)
        assert spec.address in binding.contact


def test_registrations_are_told_as_events_on_the_monotonic_clock(voice: Voice) -> None:
    events = [event for event in voice.events("kamailio") if event["event"] == "registered"]
    bindings = {binding.user: binding for binding in voice.provider.bindings()}
    for spec in STANDARD_PHONES:
        event = [event for event in events if event["user"] == spec.user][-1]
        assert event["expires_s"] == spec.expiry_s
        assert event["transport"] == spec.transport
        assert (event["address"], event["port"]) == (bindings[spec.user].address, bindings[spec.user].port)
        assert isinstance(event["t"], float)
        # usrloc keeps whole seconds, taken from a clock that ticks once a second
        assert -0.1 <= event["t"] - bindings[spec.user].modified_t < 2.1


@pytest.mark.parametrize("name", ["p1", "p3", "p4", "p5", "p6"])
def test_a_call_is_answered_and_audio_flows_both_ways(voice: Voice, name: str) -> None:
    voice.runner.run(_call_out(voice, voice.phones[name]))
    told = [event["event"] for event in voice.events("kamailio") if event.get("user") == name]
    assert told[-4:] == ["invite", "answered", "ack", "bye"]


async def _call_out(voice: Voice, phone: Phone) -> None:
    far = voice.provider.far_end
    await phone.dial("far")
    await phone.wait_call(CallState.ESTABLISHED, 3)
    before = await _one_call(voice)
    await asyncio.sleep(1.0)
    after = await _one_call(voice)
    # G.711, 20 ms a packet: 50 in a second each way, counted by rtpengine; slack for a busy machine
    for early, late in zip(before, after, strict=True):
        assert 40 <= late - early <= 60
    await phone.hangup()
    await phone.wait_call(CallState.IDLE, 3)
    await far.wait_call(CallState.IDLE, 3)
    assert voice.provider.calls() == []


async def _one_call(voice: Voice) -> list[int]:
    calls = voice.provider.calls()
    assert len(calls) == 1
    assert len(calls[0].legs) == 2
    return [leg.packets for leg in calls[0].legs]


@pytest.mark.parametrize("name", ["p1", "p2", "p3", "p5", "p6"])
def test_the_far_end_can_call_a_phone(voice: Voice, name: str) -> None:
    voice.runner.run(_call_in(voice, voice.phones[name]))


async def _call_in(voice: Voice, phone: Phone) -> None:
    far = voice.provider.far_end
    await far.dial(phone.spec.user)
    await phone.wait_call(CallState.ESTABLISHED, 3)
    await far.wait_call(CallState.ESTABLISHED, 3)
    assert "ESTABLISHED" in await phone.calls()
    # hung up by the called side, so that its in-dialog request finds the way back too
    await phone.hangup()
    await far.wait_call(CallState.IDLE, 3)
    await phone.wait_call(CallState.IDLE, 3)


def test_two_phones_talk_to_the_far_end_at_once(voice: Voice) -> None:
    voice.runner.run(_two_calls(voice))


async def _two_calls(voice: Voice) -> None:
    phones = [voice.phones["p1"], voice.phones["p4"]]
    for phone in phones:
        await phone.dial("far")
        await phone.wait_call(CallState.ESTABLISHED, 3)
    before = {leg.tag: leg.packets for call in voice.provider.calls() for leg in call.legs}
    await asyncio.sleep(0.5)
    after = {leg.tag: leg.packets for call in voice.provider.calls() for leg in call.legs}
    assert len(after) == 4
    assert all(after[tag] - before[tag] >= 15 for tag in after)
    for phone in phones:
        await phone.hangup()
        await phone.wait_call(CallState.IDLE, 3)
    await voice.provider.far_end.wait_call(CallState.IDLE, 3)


def test_options_are_answered_until_told_to_ignore_them(voice: Voice) -> None:
    assert _options(voice, 0.5).startswith("SIP/2.0 200")
    voice.provider.sip.ignore_options(True)
    assert _options(voice, 0.3) == ""
    voice.provider.sip.ignore_options(False)
    assert _options(voice, 0.5).startswith("SIP/2.0 200")


def test_a_paused_provider_is_silent_and_keeps_its_bindings(voice: Voice) -> None:
    users = [binding.user for binding in voice.provider.bindings()]
    voice.runner.run(voice.provider.pause())
    try:
        assert _options(voice, 0.3) == ""
    finally:
        voice.runner.run(voice.provider.resume())
    assert _options(voice, 0.5).startswith("SIP/2.0 200")
    assert [binding.user for binding in voice.provider.bindings()] == users


def test_a_stopped_provider_comes_back_without_bindings_and_phones_register_anew(voice: Voice) -> None:
    """Phones are started afresh afterwards: the session's bed is left as it was found."""
    phone = voice.phones["p1"]
    voice.runner.run(voice.provider.stop_voice())
    assert "kamailio" not in voice.bed.processes()
    with pytest.raises(ProgramError, match="not running"):
        voice.provider.bindings()
    voice.runner.run(voice.provider.start_voice())
    assert [binding.user for binding in voice.provider.bindings()] == ["far"]
    voice.runner.run(phone.stop())
    voice.runner.run(phone.start())
    voice.runner.run(phone.wait_registered(3.0))
    assert [binding.user for binding in voice.provider.bindings()] == ["far", "p1"]
    for other in voice.phones.values():
        if other is not phone:
            voice.runner.run(other.stop())
            voice.runner.run(other.start())
            voice.runner.run(other.wait_registered(3.0))


def test_too_short_an_expiry_is_raised_to_the_least(voice: Voice) -> None:
    spec = PhoneSpec("short", "ph1", addresses.PHONES[0], "short", "udp", 5)
    voice.runner.run(_register_briefly(voice, spec))
    events = [event for event in voice.events("kamailio") if event.get("user") == "short"]
    assert events[0]["expires_s"] == 10
    assert events[-1]["event"] == "unregistered"


async def _register_briefly(voice: Voice, spec: PhoneSpec) -> None:
    await voice.phones["p1"].stop()  # one address, one SIP port
    phone = Phone(spec, voice.bed.spawn, voice.folder / "phones")
    await phone.start()
    await phone.wait_registered(3.0)
    (binding,) = [binding for binding in voice.provider.bindings() if binding.user == "short"]
    assert 9 <= binding.granted_s <= 11
    await phone.stop(unregister=True)
    await voice.phones["p1"].start()
    await voice.phones["p1"].wait_registered(3.0)


@pytest.mark.parametrize(
    ("header", "contact", "expected"),
    [
        ("<null>", "<sip:p1@192.168.88.11>;expires=60;+sip.instance=x", 60),
        ("120", "<sip:p1@192.168.88.11>", 120),
        ("120", "<sip:p1@192.168.88.11>; Expires=0", 0),
        ("<null>", "<sip:p1@192.168.88.11>", 3600),
    ],
)
def test_the_asked_expiry_is_the_contacts_own_first(header: str, contact: str, expected: int) -> None:
    assert asked_expiry_s(header, contact) == expected


def _options(voice: Voice, timeout_s: float) -> str:
    """The answer to one OPTIONS sent from the first phone's namespace; empty when there is none."""
    program = voice.phones["p1"].program
    with program.in_namespace(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as client:
        client.settimeout(timeout_s)
        client.connect((addresses.SBC, addresses.SIP_PORT))
        host, port = client.getsockname()
        lines = [
            f"OPTIONS sip:{addresses.SBC} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{port};rport",
            f"From: <sip:probe@{host}>;tag=1",
            f"To: <sip:{addresses.SBC}>",
            f"Call-ID: {port}@{host}",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        client.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        try:
            return client.recv(4096).decode()
        except TimeoutError:
            return ""

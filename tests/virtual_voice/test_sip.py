from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest

from hil.virtual import addresses
from hil.virtual.phones import STANDARD_PHONES, CallState, Phone, PhoneSpec, stop_phones
from hil.virtual.provider_programs import ProgramError, wait_until
from hil.virtual.provider_sip import asked_expiry_s

from .bed import NAT_PHONES
from .conftest import GUARD_S, Voice

pytestmark = pytest.mark.bench


def test_all_phones_are_registered_with_the_expiry_they_asked_for(voice: Voice) -> None:
    bindings = voice.bindings()
    assert set(bindings) == {"far", *(spec.user for spec in STANDARD_PHONES)}
    for spec in STANDARD_PHONES:
        binding = bindings[spec.user]
        assert binding.transport == spec.transport
        assert abs(binding.granted_s - spec.expiry_s) <= 1
        assert 0 < binding.expires_s <= spec.expiry_s
        # The source is what the SBC saw: the router's address for phones behind NAT, while the contact stays private.
        natted = spec.address in NAT_PHONES
        assert binding.address == (addresses.PROVIDER_GATEWAY if natted else spec.address)
        assert spec.address in binding.contact


def test_registrations_are_told_as_events_on_the_monotonic_clock(voice: Voice) -> None:
    bindings = voice.bindings()
    lags = []
    for spec in STANDARD_PHONES:
        binding = bindings[spec.user]
        events = voice.events_until("kamailio", bool, event="registered", user=spec.user)
        # A phone may have registered anew since.
        event = min(events, key=lambda event: abs(_time(event) - binding.modified_t))
        assert event["expires_s"] == spec.expiry_s
        assert event["transport"] == spec.transport
        assert (event["address"], event["port"]) == (binding.address, binding.port)
        lags.append(_time(event) - binding.modified_t)
    # usrloc keeps whole seconds, taken from a clock that ticks once a second; then Kamailio may be kept from telling
    assert min(lags) >= -0.1
    assert min(lags) < 2.1


def _time(event: dict[str, object]) -> float:
    assert isinstance(event["t"], float)
    return event["t"]


@pytest.mark.parametrize("name", ["p1", "p3", "p4", "p5", "p6"])
def test_a_call_is_answered_and_audio_flows_both_ways(voice: Voice, name: str) -> None:
    call_id = voice.runner.run(_call_out(voice, voice.phones[name]))
    kinds = {"invite", "answered", "ack", "bye"}
    told = voice.events_until(
        "kamailio", lambda found: {str(event["event"]) for event in found} >= kinds, call_id=call_id
    )
    assert {event["user"] for event in told} == {name}
    # An answer whose ACK is late comes again, and is acknowledged again.
    first = list(dict.fromkeys(event["event"] for event in told))
    # Kamailio's processes note ACK and BYE each for itself; what comes before is the cause of what comes after.
    assert [kind for kind in first if kind != "bye"] == ["invite", "answered", "ack"]
    assert [kind for kind in first if kind != "ack"] == ["invite", "answered", "bye"]


@contextlib.asynccontextmanager
async def _calling(voice: Voice, *phones: Phone) -> AsyncIterator[None]:
    """These phones in a call with the far end; however the test ends, it leaves none behind."""
    far = voice.provider.far_end
    try:
        for phone in phones:
            await phone.dial("far")
            await phone.wait_call(CallState.ESTABLISHED, GUARD_S)
        yield
    finally:
        for phone in phones:
            await phone.hangup()
            await phone.wait_call(CallState.IDLE, GUARD_S)
        await far.wait_call(CallState.IDLE, GUARD_S)
    await wait_until(lambda: not voice.provider.calls(), "the relay, which the phones may forestall")


async def _call_out(voice: Voice, phone: Phone) -> str:
    """Its Call-ID."""
    since_s = time.monotonic()
    async with _calling(voice, phone):
        (call,) = voice.provider.calls()
        assert len(call.legs) == 2
        await _audio_flows(voice, since_s=since_s, packets=40)
        assert phone.has_call(call.call_id)
    assert not phone.has_call(call.call_id), "an answer to it would come too late"
    return call.call_id


async def _audio_flows(voice: Voice, *, since_s: float, packets: int) -> None:
    """So many packets more from each side of each call, counted by rtpengine; and never more than G.711 has made.

    50 packets/s since ``since_s``, when the calls were not yet. A phone or a relay that was kept waiting catches up, so
    from one moment to the next the rate is no claim.
    """
    before = _packets(voice)
    wanted = {leg: count + packets for leg, count in before.items()}
    await wait_until(lambda: all(_packets(voice)[leg] >= wanted[leg] for leg in wanted), "audio on every leg")
    after = _packets(voice)
    assert after.keys() == before.keys()
    assert max(after.values()) <= 60 * (time.monotonic() - since_s)


def _packets(voice: Voice) -> dict[str, int]:
    return {leg.tag: leg.packets for call in voice.provider.calls() for leg in call.legs}


@pytest.mark.parametrize("name", ["p1", "p2", "p3", "p5", "p6"])
def test_the_far_end_can_call_a_phone(voice: Voice, name: str) -> None:
    voice.runner.run(_call_in(voice, voice.phones[name]))


async def _call_in(voice: Voice, phone: Phone) -> None:
    far = voice.provider.far_end
    try:
        await far.dial(phone.spec.user)
        await phone.wait_call(CallState.ESTABLISHED, GUARD_S)
        await far.wait_call(CallState.ESTABLISHED, GUARD_S)
        assert "ESTABLISHED" in await phone.calls()
    finally:
        # hung up by the called side, so that its in-dialog request finds the way back too
        await phone.hangup()
        await far.wait_call(CallState.IDLE, GUARD_S)
        await phone.wait_call(CallState.IDLE, GUARD_S)


def test_two_phones_talk_to_the_far_end_at_once(voice: Voice) -> None:
    voice.runner.run(_two_calls(voice))


async def _two_calls(voice: Voice) -> None:
    since_s = time.monotonic()
    async with _calling(voice, voice.phones["p1"], voice.phones["p4"]):
        assert len(_packets(voice)) == 4
        await _audio_flows(voice, since_s=since_s, packets=15)


def test_options_are_answered_until_told_to_ignore_them(voice: Voice) -> None:
    assert _options(voice, GUARD_S).startswith("SIP/2.0 200")
    voice.provider.sip.ignore_options(True)
    assert _options(voice, 0.3) == ""
    voice.provider.sip.ignore_options(False)
    assert _options(voice, GUARD_S).startswith("SIP/2.0 200")


def test_a_paused_provider_is_silent_and_keeps_its_bindings(voice: Voice) -> None:
    users = [binding.user for binding in voice.provider.bindings()]
    voice.runner.run(voice.provider.pause())
    try:
        assert _options(voice, 0.3) == ""
    finally:
        voice.runner.run(voice.provider.resume())
    assert _options(voice, GUARD_S).startswith("SIP/2.0 200")
    assert [binding.user for binding in voice.provider.bindings()] == users


def test_a_stopped_provider_comes_back_without_bindings_and_phones_register_anew(voice: Voice) -> None:
    """Phones are stopped first, lest one is due meanwhile, and started afterwards: the bed is left as it was found."""
    phones = list(voice.phones.values())
    voice.runner.run(stop_phones(phones))
    try:
        voice.runner.run(voice.provider.stop_voice())
        assert "kamailio" not in voice.bed.processes()
        with pytest.raises(ProgramError, match="not running"):
            voice.provider.bindings()
        voice.runner.run(voice.provider.start_voice())
        assert [binding.user for binding in voice.provider.bindings()] == ["far"]
        voice.runner.run(_start(phones[0]))
        assert [binding.user for binding in voice.provider.bindings()] == ["far", "p1"]
    finally:
        for phone in phones:
            if not phone.program.running:
                voice.runner.run(_start(phone))


async def _start(phone: Phone) -> None:
    await phone.start()
    await phone.wait_registered(GUARD_S)


def test_too_short_an_expiry_is_raised_to_the_least(voice: Voice) -> None:
    spec = PhoneSpec("short", "ph1", addresses.PHONES[0], "short", "udp", 5)
    voice.runner.run(voice.phones["p1"].stop())  # one address, one SIP port
    phone = Phone(spec, voice.bed.spawn, voice.folder / "phones")
    try:
        voice.runner.run(_start(phone))
        assert 9 <= voice.bindings()["short"].granted_s <= 11
    finally:
        voice.runner.run(phone.stop(unregister=True))
        voice.runner.run(_start(voice.phones["p1"]))
    events = voice.events_until("kamailio", lambda found: len(found) >= 2, user="short")
    assert events[0]["expires_s"] == 10
    assert events[-1]["event"] == "unregistered"


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

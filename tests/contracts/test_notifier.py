"""The notifier port: the fake, the log and a webhook deliver every part of a message."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from taxiway.adapters.notifiers import EveryChannel, LogChannel, Webhook, notifier_for
from taxiway.domain.values import Notification
from taxiway.errors import NotifierUnavailable, TransientError
from taxiway.ports import Notifier
from taxiway.spec import Notify
from tests.conftest import free_port
from tests.fakes import FakeNotifier

MESSAGE = Notification("flight_delays", "released", "Version 3 is in production", 'approved by dana: "größer"')


@dataclass
class Service:
    """A web service that remembers what it was sent, and answers with `status`."""

    url: str = ""
    status: int = 204
    received: list[dict[str, str]] = field(default_factory=list)


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/hook/s3cret"
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture(params=["fake", "log", "webhook"])
def channel(
    request: pytest.FixtureRequest, service: Service, caplog: pytest.LogCaptureFixture
) -> tuple[Notifier, Callable[[], str]]:
    """A notifier, and what has arrived at its other end as text."""
    if request.param == "fake":
        fake = FakeNotifier()
        return fake, lambda: str([asdict(message) for message in fake.sent])
    if request.param == "log":
        caplog.set_level(logging.INFO)
        return LogChannel(), lambda: caplog.text
    return Webhook(service.url), lambda: str(service.received)


def test_every_part_of_the_message_arrives(channel: tuple[Notifier, Callable[[], str]]) -> None:
    """Model, event, title and text of a notification all arrive."""
    notifier, arrived = channel
    notifier.notify(MESSAGE)
    for part in asdict(MESSAGE).values():
        assert part in arrived()


@pytest.mark.parametrize("kind", ["fake", "refusing", "silent"])
def test_failure_is_transient(kind: str, service: Service) -> None:
    """A channel that is down or refuses raises a TransientError."""
    if kind == "fake":
        notifier: Notifier = FakeNotifier()
        notifier.failing = True
    elif kind == "refusing":
        service.status = 500
        notifier = Webhook(service.url)
    else:
        notifier = Webhook(f"http://127.0.0.1:{free_port()}/hook")
    with pytest.raises(TransientError):
        notifier.notify(MESSAGE)


def test_a_failure_does_not_tell_the_secret_of_the_webhook(service: Service) -> None:
    """The error names the host, but not the path, which is often the webhook's secret."""
    service.status = 404
    with pytest.raises(NotifierUnavailable) as failure:
        Webhook(service.url).notify(MESSAGE)
    assert "127.0.0.1" in str(failure.value)
    assert "s3cret" not in str(failure.value)


def test_every_channel_is_told_although_one_fails() -> None:
    """One broken channel keeps no other from its message, and is still reported."""
    broken, first, last = FakeNotifier(), FakeNotifier(), FakeNotifier()
    broken.failing = True
    with pytest.raises(NotifierUnavailable):
        EveryChannel([first, broken, last]).notify(MESSAGE)
    assert (first.sent, last.sent) == ([MESSAGE], [MESSAGE])


def test_the_spec_names_the_channels(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """A spec with two channels makes a notifier that tells both; with none, one that tells nobody."""
    caplog.set_level(logging.INFO)
    notifier_for([Notify(), Notify(channel="webhook", url=service.url)]).notify(MESSAGE)
    notifier_for([]).notify(MESSAGE)
    assert service.received == [asdict(MESSAGE)]
    assert caplog.text.count(MESSAGE.title) == 1

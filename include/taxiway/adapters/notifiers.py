"""Channels that tell a model's owners what happened: the log, and webhooks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from urllib.parse import urlsplit

import httpx

from taxiway.domain.values import Notification
from taxiway.errors import NotifierUnavailable
from taxiway.ports import Notifier
from taxiway.spec import Notify

_log = logging.getLogger("taxiway.notifications")
_TIMEOUT_SECONDS = 10.0


def notifier_for(channels: Iterable[Notify]) -> Notifier:
    """Return one notifier for all the channels of a spec."""
    return EveryChannel([Webhook(item.url) if item.url else LogChannel() for item in channels])


class LogChannel:
    """Writes notifications to the log of the process (in a task: the task's log)."""

    def notify(self, notification: Notification) -> None:
        """Log the message."""
        _log.info("%s: %s: %s: %s", notification.model, notification.event, notification.title, notification.text)


class Webhook:
    """Posts notifications to a URL as JSON: {"model", "event", "title", "text"}."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._where = f"webhook at {urlsplit(url).hostname}"  # path and query of a webhook are often its secret

    def notify(self, notification: Notification) -> None:
        """Post the message; raises NotifierUnavailable unless the answer is 2xx."""
        try:
            answer = httpx.post(self._url, json=asdict(notification), timeout=_TIMEOUT_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._failed(str(error) or type(error).__name__) from error
        if not answer.is_success:
            raise self._failed(f"it answered {answer.status_code}")

    def _failed(self, detail: str) -> NotifierUnavailable:
        advice = "check notify.url in the model spec, and the service behind it."
        return NotifierUnavailable(f"the message was not delivered: {detail}", where=self._where, next_step=advice)


class EveryChannel:
    """Tells all of its channels, whatever happens to one of them."""

    def __init__(self, channels: Sequence[Notifier]) -> None:
        self._channels = channels

    def notify(self, notification: Notification) -> None:
        """Deliver the message to every channel; raises the first failure after all were tried."""
        failures = []
        for channel in self._channels:
            try:
                channel.notify(notification)
            except NotifierUnavailable as error:
                failures.append(error)
        if failures:
            raise failures[0]

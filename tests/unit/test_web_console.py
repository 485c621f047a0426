"""The console as browsers and scripts meet it: mounted below /taxiway, with a sign-in that it does not own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Header, HTTPException

from taxiway.bootstrap import Settings
from taxiway.domain.evidence import Evidence, Verdict
from taxiway.domain.values import CHALLENGER, CHAMPION
from taxiway.errors import NotFoundError, RegistryUnavailable, SettingsError
from taxiway.spec import ModelSpec
from taxiway.spec_files import Problem, SpecSet
from taxiway.web import create_app
from taxiway.web.access import Installation
from tests.fakes import NOW, FakeClock, FakeRegistry

MODEL = "churn"
HOSTILE = "<script>alert('x')</script>"
VERSION = f"/taxiway/models/{MODEL}/versions/2"
API_VERSION = f"/taxiway/api/models/{MODEL}/versions/2"
SIGN_OFF = f"{API_VERSION}/sign-offs/me"
ACCEPT = {"accepted": True, "rating": 4, "comments": "looks right"}
REJECT = {"accepted": False, "rating": 1, "comments": "wrong on new customers"}

DOCUMENT: dict[str, Any] = {
    "model": MODEL,
    "description": "Will this customer leave?",
    "owner": "crm",
    "repository": {"url": "https://robot:hunter2@git.example/churn.git"},
    "task": {"kind": "binary", "label": "left", "key": "customer", "timestamp": "asked_at"},
    "data": {"uri": "file:///data/churn", "features": ["plan", "months"]},
    "gates": {"metrics": {"roc_auc": {"min": 0.6}}},
    "uat": {"testers": ["ana", "ben", "carla"], "quorum": 2, "cases": 2},
    "approval": {"approvers": ["dana"]},
    "monitoring": {"performance": {"metric": "roc_auc", "max_drop": 0.05}},
}
SPEC = ModelSpec.model_validate(DOCUMENT)


@dataclass
class Place:
    """An installation in memory: the services that the console asks for."""

    settings: Settings
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    clock: FakeClock = field(default_factory=FakeClock)
    problems: tuple[Problem, ...] = ()
    model: ModelSpec = SPEC

    def specs(self) -> SpecSet:
        """Return the one spec and what was set as broken."""
        return SpecSet({MODEL: self.model}, self.problems)

    def spec(self, model: str) -> ModelSpec:
        """Return the spec; raises NotFoundError."""
        if model != MODEL:
            raise NotFoundError(f"there is no valid spec for model {model!r}")
        return self.model


class SilentRegistry(FakeRegistry):
    """A registry that does not answer."""

    def candidates(self, model: str) -> list[Any]:
        """Raise, with a URL that has a password in it."""
        raise RegistryUnavailable("MLflow did not answer", where="http://user:hunter2@mlflow:5000")


def user_of_header(x_user: Annotated[str | None, Header()] = None) -> str:
    """Stand in for Airflow's sign-in."""
    if x_user is None:
        raise HTTPException(401, "Not authenticated")
    return x_user


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Version 1 serves in production, version 2 waits for testers in staging."""
    settings = Settings(
        home=tmp_path,
        models=tmp_path,
        environments=tmp_path,
        mlflow_url="http://user:hunter2@mlflow.example:5000",
        airflow_url="http://airflow.example",
        signing_key=tmp_path,
        verify_key=tmp_path,
        variables={},
    )
    place = Place(settings)
    for state in ("production", "staging"):
        run = place.registry.open_build(MODEL, state, {})
        tags = {
            "taxiway.state": state,
            "taxiway.digest": f"sha256:{state}",
            "taxiway.commit": "4e58768",
            "taxiway.author": "Ines",
            "taxiway.approval": "signed-statement",
        }
        place.registry.register(MODEL, run, tags, "")
        golden = {"columns": ["customer", "plan"], "data": [["c1", "basic"], ["c2", "gold"], ["c3", None]]}
        place.registry.put_json(run, "taxiway/golden.json", {"inputs": golden, "predictions": [0.1, 0.25, 0.9]})
        gate = Evidence("gate", Verdict.PASSED, NOW, ("auc 0.712 reaches the minimum",), {}, {"auc": 0.71234})
        place.registry.put_json(run, "taxiway/gate.json", gate.to_json())
    place.registry.set_alias(MODEL, CHAMPION, 1)
    place.registry.set_alias(MODEL, CHALLENGER, 2)
    return place


@pytest.fixture
async def client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the console that is mounted as in Airflow; it signs in with the header X-User."""
    async with client_of(create_app(lambda: place, current_user=user_of_header)) as client:
        yield client


def client_of(console: FastAPI) -> httpx.AsyncClient:
    """Return a client of an app that has the console below /taxiway."""
    outer = FastAPI()
    outer.mount("/taxiway", console)
    transport = httpx.ASGITransport(outer, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://airflow.example")


def as_user(name: str, **headers: str) -> dict[str, str]:
    """Return the headers of a request that `name` sends."""
    return {"X-User": name, **headers}


def answers(document: dict[str, Any]) -> dict[str, Any]:
    """Return tester -> answer of a version that the API returned."""
    return {item["tester"]: item["answer"] for item in document["uat"]["answers"]}


async def test_strangers_are_refused_everywhere(client: httpx.AsyncClient) -> None:
    """No route answers a caller who is not signed in, and there is no documentation of routes to read."""
    console = create_app(lambda: None, current_user=user_of_header)  # type: ignore[arg-type, return-value]
    paths = [(method, route.path) for route in console.routes for method in route.methods]  # type: ignore[attr-defined]

    for method, path in paths:
        url = "/taxiway" + path.format(model=MODEL, version=2, name="console.css")
        assert (await client.request(method, url, json=ACCEPT)).status_code == 401, url
    assert len(paths) >= 8
    for path in ("docs", "redoc", "openapi.json"):
        assert (await client.get(f"/taxiway/{path}")).status_code == 404


async def test_strangers_find_the_way_to_sign_in(client: httpx.AsyncClient) -> None:
    """The page for somebody who is not signed in leads to Airflow's sign-in and back to where it was."""
    assert f'href="/api/v2/auth/login?next={VERSION}"' in (await client.get(VERSION)).text


async def test_overview_says_who_serves_and_for_whom_it_waits(client: httpx.AsyncClient) -> None:
    """The first page and the API name champion and challenger, and the testers who have not answered."""
    await client.put(SIGN_OFF, json=ACCEPT, headers=as_user("ben"))

    page = (await client.get("/taxiway/", headers=as_user("zoe"))).text
    model = (await client.get("/taxiway/api/models", headers=as_user("zoe"))).json()["models"][0]

    assert "sign-off by ana, carla" in page
    assert (model["champion"], model["challenger"]) == (1, 2)
    assert model["versions"][0]["waiting"] == {"what": "sign-off", "people": ["ana", "carla"]}


async def test_version_page_shows_cases_evidence_and_links(client: httpx.AsyncClient) -> None:
    """A tester sees the newest cases with predictions, the gate's figures, and links without passwords."""
    page = (await client.get(VERSION, headers=as_user("ana"))).text

    assert all(text in page for text in ("c3", "0.90", "auc 0.712 reaches the minimum", "0.7123"))
    assert "c1" not in page  # the spec asks for two cases
    assert f'href="http://mlflow.example:5000/#/models/{MODEL}/versions/2"' in page
    assert f'href="/dags/{MODEL}.delivery/runs/candidate-2"' in page
    assert 'action="/taxiway/models/churn/versions/2/sign-off"' in page


async def test_version_page_leads_to_the_evaluation(client: httpx.AsyncClient, place: Place, tmp_path: Path) -> None:
    """The page with the charts is linked as soon as it is drawn."""
    before = (await client.get(VERSION, headers=as_user("ana"))).text
    (tmp_path / "evaluation.html").write_text("<!doctype html>")
    run = place.registry.candidate(MODEL, 2).run_id
    place.registry.put_file(run, "taxiway/evaluation.html", tmp_path / "evaluation.html")

    after = (await client.get(VERSION, headers=as_user("ana"))).text

    assert "Evaluation with charts" not in before
    assert f'href="memory://runs/{run}/taxiway/evaluation.html">Evaluation with charts' in after


async def test_a_tester_accepts_and_changes_the_answer(client: httpx.AsyncClient, place: Place) -> None:
    """A named tester's answer is stored with time and digest, and a new one replaces it while others are awaited."""
    first = await client.put(SIGN_OFF, json=ACCEPT, headers=as_user("ana"))
    second = await client.put(SIGN_OFF, json=REJECT, headers=as_user("ana"))

    stored = answers((await client.get(API_VERSION, headers=as_user("ana"))).json())
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["saw"] == "sha256:staging"
    assert stored["ana"] == {"tester": "ana", **REJECT, "at": "2013-07-01T12:00:00Z", "saw": "sha256:staging"}
    assert stored["ben"] is None


async def test_the_form_signs_off(client: httpx.AsyncClient, place: Place) -> None:
    """The form of the page stores the answer and leads back to the version."""
    form = {"accepted": "false", "rating": "2", "comments": "no"}
    answer = await client.post(f"{VERSION}/sign-off", data=form, headers=as_user("carla"))

    assert (answer.status_code, answer.headers["location"]) == (303, f"{VERSION}#uat")
    assert "carla rejected: no" in (await client.get(VERSION, headers=as_user("carla"))).text


async def test_only_named_testers_sign_off(client: httpx.AsyncClient) -> None:
    """Somebody whom the spec does not name sees no form, and gets 403 with the names of the testers."""
    page = (await client.get(VERSION, headers=as_user("dana"))).text
    answer = await client.put(SIGN_OFF, json=ACCEPT, headers=as_user("dana"))

    assert "<form" not in page
    assert answer.status_code == 403
    assert "ana, ben, carla" in answer.json()["next_step"]


@pytest.mark.parametrize("state", ["candidate", "tested", "approved", "production", "rejected"])
async def test_sign_offs_are_taken_in_staging_only(client: httpx.AsyncClient, place: Place, state: str) -> None:
    """Before and after UAT an answer is refused with 409 and changes nothing."""
    await client.put(SIGN_OFF, json=ACCEPT, headers=as_user("ana"))
    place.registry.set_tags(MODEL, 2, {"taxiway.state": state})

    answer = await client.put(SIGN_OFF, json=REJECT, headers=as_user("ana"))

    assert (answer.status_code, state in answer.json()["detail"]) == (409, True)
    assert answers((await client.get(API_VERSION, headers=as_user("ana"))).json())["ana"]["accepted"] is True


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://airflow.example"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_other_sites_cannot_sign_off(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """A form or script of another site is refused although the browser sends the cookie."""
    form = {"accepted": "true", "rating": "5"}
    posted = await client.post(f"{VERSION}/sign-off", data=form, headers=as_user("ana", **headers))
    put = await client.put(SIGN_OFF, json=ACCEPT, headers=as_user("ana", **headers))

    assert (posted.status_code, put.status_code) == (403, 403)
    assert answers((await client.get(API_VERSION, headers=as_user("ana"))).json())["ana"] is None


@pytest.mark.parametrize("headers", [{"Origin": "http://airflow.example"}, {"Sec-Fetch-Site": "same-origin"}])
async def test_our_own_pages_can_sign_off(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """A browser that says the request comes from the console itself is let through."""
    assert (await client.put(SIGN_OFF, json=ACCEPT, headers=as_user("ana", **headers))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"accepted": True, "rating": 6},
        {"accepted": True, "rating": 0},
        {"rating": 3},
        {"accepted": True, "comments": "x" * 4001},
        {"accepted": True, "tester": "ben"},
    ],
)
async def test_wrong_answers_are_named(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """An answer that is not what the API asks for is refused with the name of the field."""
    answer = await client.put(SIGN_OFF, json=body, headers=as_user("ana"))

    assert answer.status_code == 422
    assert any(name in answer.json()["detail"] for name in ("accepted", "rating", "comments", "tester"))


async def test_hostile_texts_are_shown_as_texts(client: httpx.AsyncClient, place: Place) -> None:
    """Markup in tags, comments, cases, reasons and figures never becomes markup of the page."""
    names = ("author", "commit", "state", "verdict", "requested_by", "build_reason", "reason", "trained_until")
    run = place.registry.candidate(MODEL, 2).run_id
    await client.put(SIGN_OFF, json={**ACCEPT, "comments": HOSTILE}, headers=as_user("ana"))
    place.registry.set_tags(MODEL, 2, {f"taxiway.{name}": HOSTILE for name in names})
    golden = {"inputs": {"columns": [HOSTILE], "data": [[HOSTILE]]}, "predictions": [HOSTILE]}
    place.registry.put_json(run, "taxiway/golden.json", golden)
    figures: dict[str, Any] = {HOSTILE: HOSTILE, "rows": [{HOSTILE: HOSTILE}]}
    gate = Evidence(HOSTILE, Verdict.FAILED, NOW, (HOSTILE,), {}, figures)
    place.registry.put_json(run, "taxiway/gate.json", gate.to_json())

    version = await client.get(VERSION, headers=as_user(HOSTILE))
    overview = await client.get("/taxiway/", headers=as_user(HOSTILE))

    for page in (version, overview):
        assert page.status_code == 200
        assert "<script>" not in page.text
        assert "&lt;script&gt;" in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]


async def test_unknown_things_are_not_found(client: httpx.AsyncClient) -> None:
    """Unknown models and versions are 404: a page for people, JSON for the API."""
    page = await client.get("/taxiway/models/nothing/versions/1", headers=as_user("ana"))
    document = await client.get(f"/taxiway/api/models/{MODEL}/versions/99", headers=as_user("ana"))

    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert (document.status_code, document.json()["title"]) == (404, "Not found")


async def test_a_silent_registry_is_a_page_without_its_password(client: httpx.AsyncClient, place: Place) -> None:
    """When MLflow does not answer, the page says so with 503 and without the password of its URL."""
    place.registry = SilentRegistry()

    page = await client.get("/taxiway/", headers=as_user("ana"))

    assert (page.status_code, "MLflow did not answer" in page.text) == (503, True)
    assert "hunter2" not in page.text


async def test_one_unreadable_model_hides_no_page(client: httpx.AsyncClient, place: Place) -> None:
    """A forged sign-off is named where it is; broken specs are named without their values."""
    place.registry.set_tags(MODEL, 2, {"taxiway.signoff.ben": '{"tester": "ana"}'})
    place.problems = (Problem(Path("fraud.yaml"), "notify.0.url", "is wrong (value: 'https://hooks/hunter2')"),)

    page = await client.get("/taxiway/", headers=as_user("ana"))
    version = await client.get(VERSION, headers=as_user("ana"))

    assert page.status_code == 200
    assert "taxiway.signoff.ben is no sign-off" in page.text
    assert "fraud.yaml: notify.0.url" in page.text
    assert "hunter2" not in page.text
    assert version.status_code == 409


async def test_a_bare_airflow_explains_what_is_missing() -> None:
    """Without TAXIWAY_HOME the pages and the API answer 503 and say what to set."""

    def nothing() -> Installation:
        raise SettingsError("TAXIWAY_HOME is not set", next_step="start Taxiway with `taxiway up`, or set it.")

    async with client_of(create_app(nothing, current_user=user_of_header)) as client:
        page = await client.get("/taxiway/", headers=as_user("ana"))
        document = await client.get("/taxiway/api/models", headers=as_user("ana"))

    assert (page.status_code, document.status_code) == (503, 503)
    assert "TAXIWAY_HOME is not set" in page.text
    assert "taxiway up" in document.json()["next_step"]


async def test_a_defect_shows_no_details() -> None:
    """An error that nobody expected is a page without its text."""

    def broken() -> Installation:
        raise RuntimeError("hunter2")

    async with client_of(create_app(broken, current_user=user_of_header)) as client:
        page = await client.get("/taxiway/", headers=as_user("ana"))

    assert page.status_code == 500
    assert "hunter2" not in page.text


async def test_snapshots_hold_no_secrets(client: httpx.AsyncClient) -> None:
    """Neither the repository's password nor the signed approval reaches page or API."""
    texts = [(await client.get(path, headers=as_user("ana"))).text for path in (VERSION, API_VERSION, "/taxiway/")]

    assert not [text for text in texts if "hunter2" in text or "signed-statement" in text]

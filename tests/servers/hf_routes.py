"""The answers of the loopback Hub: what it takes, refuses and does. What it does not know it refuses."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

TOKEN = "hf_" + "loopback" * 4  # no real token looks like this
USER, ORG = "me", "my-lab"
COMMIT = "c0ffee" + 34 * "0"  # the only one that every repository has
FILTERS = True  # a server may be older than its client's filters
REQUIRED = {"command", "arguments", "environment", "flavor", "timeoutSeconds", "labels", "dockerImage"}
FIELDS = REQUIRED | {"secrets", "attempts", "volumes"}
LONGEST_S = 30.0  # that a test waits for what never comes
ENDED = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
#: faults that are no HTTP status: before the server acts, or after it, or in the middle of what it sends
KINDS = ("dropped-before", "dropped-after", "hangs-before", "hangs-after", "html-before", "html-after", "cut", "torn", "none")

HARDWARE = [
    {"name": "cpu-basic", "prettyName": "CPU Basic", "cpu": "2 vCPU", "ram": "16 GB", "ephemeralStorage": "50 GB", "accelerator": None,
     "unitCostMicroUSD": 167, "unitCostUSD": 0.000167, "unitLabel": "minute"},
    {"name": "l4x1", "prettyName": "1x Nvidia L4", "cpu": "8 vCPU", "ram": "30 GB", "ephemeralStorage": "400 GB",
     "accelerator": {"type": "gpu", "model": "L4", "quantity": "1", "vram": "24 GB", "manufacturer": "Nvidia"},
     "unitCostMicroUSD": 13333, "unitCostUSD": 0.013333, "unitLabel": "minute"},
    {"name": "a10g-largex2", "prettyName": "2x Nvidia A10G", "cpu": "24 vCPU", "ram": "92 GB", "ephemeralStorage": "200 GB",
     "accelerator": {"type": "gpu", "model": "A10G", "quantity": "2", "vram": "48 GB", "manufacturer": "Nvidia"},
     "unitCostMicroUSD": 50000, "unitCostUSD": 0.05, "unitLabel": "minute"},
]  # fmt: skip


WHO = {
    "type": "user", "name": USER, "canPay": True, "auth": {"accessToken": {"role": "write"}},
    "orgs": [{"name": ORG, "roleInOrg": "write", "canPay": True}, {"name": "readers", "roleInOrg": "read", "canPay": False}],
}  # fmt: skip


@dataclass
class Running:
    """A job on the server."""

    id: str
    namespace: str
    body: dict[str, Any]
    stage: str = "SCHEDULING"
    message: str | None = None
    running_s: int | None = None
    lines: list[str] = field(default_factory=list)
    metrics: dict[str, Any] | None = None

    @property
    def printed(self) -> list[str]:
        """Its log, with the service's own first line."""
        return ["===== Job started at …", *self.lines]

    def info(self) -> dict[str, Any]:
        return {
            "id": self.id, "owner": {"id": "1", "name": self.namespace, "type": "user" if self.namespace == USER else "org"},
            "status": {"stage": self.stage, "message": self.message}, "createdAt": f"2026-01-01T00:00:{int(self.id[3:]):02}.000Z",
            "dockerImage": self.body["dockerImage"], "command": self.body["command"], "arguments": [], "flavor": self.body["flavor"],
            "environment": self.body["environment"], "labels": self.body["labels"], "retry": self.body.get("attempts", 1) - 1,
            "durations": {"schedulingSecs": 40, "runningSecs": self.running_s, "totalSecs": 40 + (self.running_s or 0)},
        }  # fmt: skip


@dataclass
class Fault:
    """`what` is a status or one of KINDS; it happens `times` times to requests of `route`."""

    route: str
    what: str
    times: int


@dataclass
class Hub:
    """The server's state, and what it saw. `refused` holds the reason of every answer of 4xx that no fault asked for."""

    url: str = ""
    jobs: dict[str, Running] = field(default_factory=dict)
    repos: dict[str, dict[str, Any]] = field(default_factory=dict)  # "datasets/me/pick" → {"private", "tags", "files": {name: bytes}}
    hardware: list[dict[str, Any]] = field(default_factory=lambda: [dict(one) for one in HARDWARE])
    who: dict[str, Any] = field(default_factory=lambda: dict(WHO))
    bills: list[dict[str, Any]] = field(default_factory=list)
    received: list[tuple[str, str, bytes]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)  # the bytes from which files were asked for
    faults: list[Fault] = field(default_factory=list)
    page: int = 100  # items of a page of the list of jobs
    live: bool = False  # a log stays open until its job has ended, as the service's does
    healed: threading.Event = field(default_factory=threading.Event)  # lets what hangs go
    changed: threading.Condition = field(default_factory=threading.Condition)  # something came in, or a job moved
    closed: bool = False
    answering: int = 0  # connections that were taken and are not closed yet

    def fail(self, route: str, what: str, times: int = 1000) -> None:
        assert what in KINDS or what.isdigit(), what
        assert route in {name for _, _, name, _ in ROUTES}, route
        self.faults.append(Fault(route, what, times))

    def heal(self) -> None:
        self.faults.clear()
        self.healed.set()
        self.healed = threading.Event()

    def fault(self, route: str) -> str | None:
        for one in self.faults:
            if one.route == route and one.times > 0:
                one.times -= 1
                return one.what
        return None

    def advance(self, job: str, stage: str, *lines: str, message: str | None = None, running_s: int | None = None) -> None:
        one = self.jobs[job]
        with self.changed:
            one.lines += lines
            one.running_s = running_s if running_s is not None else one.running_s
            one.stage, one.message = stage, message
            self.changed.notify_all()

    def asked(self, method: str, path: str) -> int:
        return sum((how, where.split("?")[0]) == (method, path) for how, where, _ in self.received)

    def wait_asked(self, method: str, path: str, times: int = 1) -> None:
        """Until this was asked so often."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.asked(method, path) >= times, LONGEST_S), f"nobody asked {method} {path}"

    def wait_quiet(self) -> None:
        """Until all that was ever sent here has been acted upon, also by a process that is dead by now."""
        with urlopen(f"{self.url}/api/agent-harnesses") as reply:  # taken after every earlier connection
            reply.read()
        with self.changed:
            assert self.changed.wait_for(lambda: self.answering == 0, LONGEST_S)


class Refusal(Exception):
    """An answer of 4xx."""

    def __init__(self, status: int, why: str, code: str | None = None) -> None:
        super().__init__(why)
        self.status, self.code = status, code


Answer = Any  # JSON, or ("stream", events) or ("file", bytes, headers)


def _whoami(hub: Hub, ask: Ask) -> Answer:
    return hub.who


def _hardware(hub: Hub, ask: Ask) -> Answer:
    return hub.hardware


def _submit(hub: Hub, ask: Ask) -> Answer:
    body = ask.json()
    if unknown := set(body) - FIELDS:
        raise Refusal(400, f"unknown fields {sorted(unknown)}")
    if absent := REQUIRED - set(body):
        raise Refusal(400, f"no {sorted(absent)}")
    if ask.match["ns"] not in (USER, ORG):
        raise Refusal(403, f"you may not run jobs for {ask.match['ns']}")
    if not (isinstance(body["command"], list) and body["command"] and all(isinstance(word, str) for word in body["command"])):
        raise Refusal(400, "command must be a list of strings")
    if type(body["timeoutSeconds"]) is not int or body["timeoutSeconds"] < 1:
        raise Refusal(400, "timeoutSeconds must be given as whole seconds")
    if type(body.get("attempts", 1)) is not int or body.get("attempts", 1) < 1:
        raise Refusal(400, "attempts must be a whole number")
    if body["flavor"] not in {one["name"] for one in hub.hardware}:
        raise Refusal(400, f"unknown flavor {body['flavor']}")
    for volume in body.get("volumes", []):
        if set(volume) - {"type", "source", "mountPath", "revision", "readOnly", "path"} or not volume["mountPath"].startswith("/"):
            raise Refusal(400, f"bad volume {volume}")
    for key, value in body["labels"].items():
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", key) or not re.fullmatch(r"[A-Za-z0-9_.-]{1,100}", value):
            raise Refusal(400, f"bad label {key}={value}")
    job = Running(f"job{len(hub.jobs) + 1}", ask.match["ns"], body)
    hub.jobs[job.id] = job
    return job.info()


def _list(hub: Hub, ask: Ask) -> Answer:
    if unknown := set(ask.query) - {"label", "stage", "cursor"}:
        raise Refusal(400, f"unknown query {sorted(unknown)}")
    wanted = [tuple(one.split("=", 1)) for one in ask.query.get("label", [])] if FILTERS else []
    every = [job.info() for job in hub.jobs.values()
             if job.namespace == ask.match["ns"] and all((key, value) in job.body["labels"].items() for key, value in wanted)]  # fmt: skip
    start = int(ask.query.get("cursor", ["0"])[0])
    if start + hub.page < len(every):
        labels = "".join(f"label={key}%3D{value}&" for key, value in wanted)
        ask.headers["Link"] = f'<{hub.url}/api/jobs/{ask.match["ns"]}?{labels}cursor={start + hub.page}>; rel="next"'
    return every[start : start + hub.page]


def _job(hub: Hub, ask: Ask) -> Running:
    job = hub.jobs.get(ask.match["id"])
    if job is None or job.namespace != ask.match["ns"]:
        raise Refusal(404, "Job not found")
    return job


def _inspect(hub: Hub, ask: Ask) -> Answer:
    return _job(hub, ask).info()


def _logs(hub: Hub, ask: Ask) -> Answer:
    if hub.live:
        return "live", _job(hub, ask)
    events = [{"data": line, "timestamp": "2026-01-01T00:00:00.000Z"} for line in _job(hub, ask).printed]
    return "stream", [f"data: {json.dumps(event)}" for event in events]


def _metrics(hub: Hub, ask: Ask) -> Answer:
    job = _job(hub, ask)
    if job.stage in ENDED:
        raise Refusal(406, "the job has finished")
    return "stream", [] if job.metrics is None else ["event: metric", f"data: {json.dumps(job.metrics)}"]


def _cancel(hub: Hub, ask: Ask) -> Answer:
    job = _job(hub, ask)
    if job.stage in ENDED:
        raise Refusal(409, "the job has ended")
    job.stage = "CANCELED"
    return job.info()


def _billing(hub: Hub, ask: Ask) -> Answer:
    return {"hasAccess": True, "usage": {"periodStart": "", "periodEnd": "", "totalMinutes": 0, "usedMicroUsd": 0, "jobDetails": hub.bills}}


def _key(match: dict[str, str]) -> str:
    return f"{match['kind']}/{match['repo']}"


def _repo(hub: Hub, ask: Ask) -> dict[str, Any]:
    if _key(ask.match) not in hub.repos:
        raise Refusal(404, "Repository not found", "RepoNotFound")
    return hub.repos[_key(ask.match)]


def _info(hub: Hub, ask: Ask) -> Answer:
    repo = _repo(hub, ask)
    return {"id": ask.match["repo"], "_id": "1", "sha": COMMIT, "private": repo["private"], "tags": [], "downloads": 0, "likes": 0,
            "siblings": [{"rfilename": name, "size": len(data), "blobId": "b"} for name, data in repo["files"].items()]}  # fmt: skip


def _refs(hub: Hub, ask: Ask) -> Answer:
    return {"branches": [], "converts": [], "tags": [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": COMMIT}
                                                      for tag in _repo(hub, ask)["tags"]]}  # fmt: skip


def _create(hub: Hub, ask: Ask) -> Answer:
    body = ask.json()
    key = f"{body.get('type', 'model')}s/{body['organization']}/{body['name']}"
    if body.get("visibility") != "private":
        raise Refusal(400, "a public repository")
    if body["organization"] not in (USER, ORG):
        raise Refusal(403, f"you may not write in {body['organization']}")
    if key in hub.repos:
        raise Refusal(409, "You already created this repository")
    hub.repos[key] = {"private": True, "tags": [], "files": {}}
    return {"url": f"{hub.url}/{key}", "id": "1"}


def _preupload(hub: Hub, ask: Ask) -> Answer:
    """Every file is to come inside the commit: what goes through Xet cannot be received here."""
    _repo(hub, ask)
    return {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for one in ask.json()["files"]]}


def _commit(hub: Hub, ask: Ask) -> Answer:
    repo = _repo(hub, ask)
    for line in filter(None, ask.body.decode().splitlines()):
        entry = json.loads(line)
        if entry["key"] == "file":
            assert entry["value"]["encoding"] == "base64"
            repo["files"][entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        elif entry["key"] != "header":
            raise Refusal(400, f"unexpected {entry['key']}")
    return {"commitUrl": f"{hub.url}/{_key(ask.match)}/commit/{COMMIT}", "commitOid": COMMIT, "success": True}


def _tag(hub: Hub, ask: Ask) -> Answer:
    repo, name = _repo(hub, ask), ask.json()["tag"]
    if name in repo["tags"]:
        raise Refusal(409, "Reference already exists")
    repo["tags"].append(name)
    return {}


def _file(hub: Hub, ask: Ask) -> Answer:
    repo = hub.repos.get(f"models/{ask.match['repo']}")
    if repo is None:
        raise Refusal(404, "Repository not found", "RepoNotFound")
    data = repo["files"].get(ask.match["path"])
    if data is None:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    return "file", data


def _dataset_file(hub: Hub, ask: Ask) -> Answer:
    """As planning asks for it: by the tag of the format, or by the commit."""
    repo = hub.repos.get(f"datasets/{ask.match['repo']}")
    if repo is None:
        raise Refusal(404, "Repository not found", "RepoNotFound")
    if ask.match["revision"] not in (*repo["tags"], "main", COMMIT):
        raise Refusal(404, "Revision not found", "RevisionNotFound")
    data = repo["files"].get(ask.match["path"])
    if data is None:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    return "file", data


Route = tuple[str, str, str, Callable[[Hub, "Ask"], Answer]]
_NAME, _REPO = r"[A-Za-z0-9_.-]+", r"(?P<kind>models|datasets)/(?P<repo>[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)"
ROUTES: list[Route] = [
    ("GET", "/api/whoami-v2", "whoami", _whoami),
    ("GET", "/api/jobs/hardware", "hardware", _hardware),
    ("POST", f"/api/jobs/(?P<ns>{_NAME})", "submit", _submit),
    ("GET", f"/api/jobs/(?P<ns>{_NAME})", "list", _list),
    ("GET", f"/api/jobs/(?P<ns>{_NAME})/(?P<id>(?!hardware$){_NAME})", "inspect", _inspect),
    ("GET", f"/api/jobs/(?P<ns>{_NAME})/(?P<id>{_NAME})/logs", "logs", _logs),
    ("GET", f"/api/jobs/(?P<ns>{_NAME})/(?P<id>{_NAME})/metrics", "metrics", _metrics),
    ("POST", f"/api/jobs/(?P<ns>{_NAME})/(?P<id>{_NAME})/cancel", "cancel", _cancel),
    ("GET", "/api/settings/billing/usage/jobs", "billing", _billing),
    ("GET", f"/api/{_REPO}", "repo", _info),
    ("GET", f"/api/{_REPO}/revision/{COMMIT}", "repo", _info),
    ("GET", f"/api/{_REPO}/refs", "refs", _refs),
    ("POST", "/api/repos/create", "create", _create),
    ("POST", f"/api/{_REPO}/preupload/main", "preupload", _preupload),
    ("POST", f"/api/{_REPO}/commit/main", "commit", _commit),
    ("POST", f"/api/{_REPO}/tag/main", "tag", _tag),
    ("GET", f"/datasets/(?P<repo>{_NAME}/{_NAME})/resolve/(?P<revision>{_NAME})/(?P<path>.+)", "dataset-file", _dataset_file),
    ("GET", f"/(?P<repo>{_NAME}/{_NAME})/resolve/{COMMIT}/(?P<path>.+)", "file", _file),
    ("HEAD", f"/(?P<repo>{_NAME}/{_NAME})/resolve/{COMMIT}/(?P<path>.+)", "head", _file),
]


@dataclass
class Ask:
    """One request."""

    match: dict[str, str]
    query: dict[str, list[str]]
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)  # of the answer

    def json(self) -> Any:
        return json.loads(self.body)

"""A dataset's facts from the Hugging Face Hub, asked through `huggingface_hub` with the user's token, and kept (`planner.facts`).

Two small answers a dataset: `meta/info.json` of the revision that LeRobot would read, whose headers name its commit, and the size.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, TypeVar

from planner import facts, metadata
from planner.datasets import NO_PARQUET, HubName
from planner.deadline import Deadline, Late
from planner.errors import NotAuthorised, PlanError, Unreachable, UsageError
from planner.facts import Facts
from planner.metadata import CODEBASE, Dataset
from planner.request import DATASET_AGE_S

#: larger episode lists are not fetched: v3 keeps statistics beside the lengths
MAX_EPISODES_BYTES = 32 * 2**20

INFO, EPISODES_V2 = "meta/info.json", "meta/episodes.jsonl"
EPISODES_V3, FILES_A_CHUNK = "meta/episodes/chunk-{:03d}/file-{:03d}.parquet", 1000  # LeRobot's DEFAULT_EPISODES_PATH
WAY_OUT = ", or plan with --frames N"

T = TypeVar("T")
Warning = tuple[str, str]


class Answer(NamedTuple):
    """A dataset, and what to know about how it was read: (code, text)."""

    dataset: Dataset
    warnings: tuple[Warning, ...]


def read(name: HubName, *, part: bool, now: datetime, deadline: Deadline, offline: bool, max_age_s: float) -> Answer:
    """The dataset's facts: the kept ones while they are younger than `max_age_s`, else the Hub's.

    `part`: the lengths of the episodes are needed too. Kept facts of any age are better than none where nothing may be asked
    or the Hub does not answer, and a warning says how old they are. Raises PlanError, in one line, where there are none.
    """
    hub = _Hub(name, deadline)
    kept, warnings = _kept(hub), list[Warning]()
    switch = "--offline" if offline else _switch()
    if kept is not None and (name.revision == kept[0].commit or 0 <= (now - kept[0].asked).total_seconds() < max_age_s):
        known, found = kept
    elif switch:
        if kept is None:
            raise UsageError("offline", f"{name.repo} was not read from the Hub before, and {switch} asks for no network: "
                             f"leave {switch} out once{WAY_OUT}")
        known, found = kept
        if not 0 <= (now - known.asked).total_seconds() < DATASET_AGE_S:
            warnings.append(_old(name, known, now, switch))
    else:
        try:
            known, found = _asked(hub, now, kept[0] if kept else None)
        except Unreachable as error:
            if kept is None:
                raise
            known, found = kept
            warnings.append(_old(name, known, now, error.text.removesuffix(WAY_OUT)))
            switch = "the Hub"  # is not asked again
    if part and found.lengths is None:
        found = _with_lengths(hub, known, found, ask=not switch)
    if found.size_bytes is None:
        warnings.append(("dataset-size", f"the Hub did not say how large {name.repo} is: "
                         "its download is estimated from frames and cameras"))
    return Answer(found, tuple(warnings))


def unread(error: PlanError, trains_all: bool) -> Warning:
    """(code, text) of a plan that is made from the user's own numbers because the dataset could not be read."""
    text = error.text.removesuffix(WAY_OUT).removesuffix(metadata.WAY_OUT)
    told = "" if isinstance(error, Unreachable) or error.code == "offline" else "the training would stop: "
    every = ", and the command trains every episode of the dataset" if trains_all else ""
    return error.code, f"{told}{text}. Frames, episodes and cameras are those given or assumed{every}"


def _old(name: HubName, known: Facts, now: datetime, why: str) -> Warning:
    when = _ago((now - known.asked).total_seconds())
    return "dataset-age", f"{name.repo} is planned as the Hub described it {when} (commit {known.commit[:7]}): {why}"


def _ago(seconds: float) -> str:
    if seconds < 0:
        return "at a time that this clock has yet to reach"
    size, unit = next(((size, unit) for size, unit in ((86_400, "days"), (3600, "hours")) if seconds >= 2 * size), (60, "minutes"))
    return f"{seconds / size:.0f} {unit} ago"


def _switch() -> str | None:
    """The variable that keeps huggingface_hub off the network, read as it reads it."""
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        value = os.environ.get(variable, "")
        if value.upper() in ("1", "ON", "YES", "TRUE"):
            return f"{variable}={value}"
    return None


def _kept(hub: _Hub) -> tuple[Facts, Dataset] | None:
    """What is kept of the dataset; None where nothing is, or nothing that can be read."""
    known = facts.load(hub.endpoint, *hub.name)
    try:
        return known and (known, _dataset(hub, known))
    except UsageError:
        return None


def _dataset(hub: _Hub, known: Facts) -> Dataset:
    return metadata.dataset(known.info, hub.where(INFO), name=hub.name.repo, root=None, size_bytes=known.size_bytes,
                            revision=known.commit, lengths=known.lengths)


def _asked(hub: _Hub, now: datetime, known: Facts | None) -> tuple[Facts, Dataset]:
    """The Hub's answer, checked and kept. What is known of the same commit is not asked again."""
    commit, data = hub.info()
    if known is None or known.commit != commit:
        known = Facts(commit, now, {})
    fresh = known._replace(asked=now, info=metadata.kept(metadata.load(data, hub.where(INFO))))
    _dataset(hub, fresh)  # what is malformed is not kept
    if fresh.size_bytes is None:
        fresh = fresh._replace(size_bytes=hub.size(commit))
    facts.save(hub.endpoint, *hub.name, fresh)
    return fresh, _dataset(hub, fresh)


def _with_lengths(hub: _Hub, known: Facts, found: Dataset, ask: bool) -> Dataset:
    """The dataset with the lengths of its episodes, or with the reason why they are not known."""
    if not found.codebase_version.startswith("v2.") and not metadata.can_read_parquet():
        return found._replace(lengths_unread=NO_PARQUET)
    if not ask:
        return found._replace(lengths_unread="their lengths were not read before")
    try:
        lengths = hub.lengths(found, known.commit)
    except PlanError as error:
        return found._replace(lengths_unread=error.text.removesuffix(WAY_OUT).removesuffix(metadata.WAY_OUT))
    facts.save(hub.endpoint, *hub.name, known._replace(lengths=lengths))
    return found._replace(lengths=lengths)


class _Hub:
    """One dataset on the Hub. Every method asks, within what is left of the deadline, and raises PlanError."""

    def __init__(self, name: HubName, deadline: Deadline) -> None:
        self.name, self.deadline = name, deadline
        self.endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")

    def where(self, file: str) -> str:
        """A file's name for an error."""
        return f"{self.name.repo}/{file} on the Hub"

    def info(self) -> tuple[str, bytes]:
        """(commit, text) of meta/info.json: of the revision that was said, else of the tag that LeRobot asks for, else of main."""
        from huggingface_hub.errors import RevisionNotFoundError

        def asked() -> tuple[str, bytes]:
            try:
                return self._file(self.name.revision or CODEBASE, INFO, metadata.MAX_INFO_BYTES)
            except RevisionNotFoundError:
                if self.name.revision is not None:
                    raise
                return self._file("main", INFO, metadata.MAX_INFO_BYTES)

        return self._ask(asked, INFO)

    def size(self, commit: str) -> int | None:
        """Bytes of all files at this commit; None where the Hub does not say."""
        from huggingface_hub import HfApi

        def asked() -> int:
            api = HfApi(endpoint=self.endpoint)
            brief = api.dataset_info(self.name.repo, expand=["sha", "mainSize"])
            if brief.sha == commit and type(brief.main_size) is int:
                return brief.main_size
            whole = api.dataset_info(self.name.repo, revision=commit, files_metadata=True)
            return sum(file.size or 0 for file in whole.siblings or ())

        try:
            return self._ask(asked, "its files") or None
        except PlanError:
            return None

    def lengths(self, found: Dataset, commit: str) -> tuple[int, ...]:
        """Frames of each episode: v2 lists them in meta/episodes.jsonl, v3 in parquet files that are filled one after the other."""
        if found.codebase_version.startswith("v2."):
            return metadata.lengths_of_lines(self._content(commit, EPISODES_V2).decode("utf-8", "replace"), self.where(EPISODES_V2))

        from io import BytesIO

        lengths: tuple[int, ...] = ()
        files: list[BytesIO] = []
        while len(lengths) < found.episodes:
            name = EPISODES_V3.format(*divmod(len(files), FILES_A_CHUNK))
            files.append(BytesIO(self._content(commit, name)))
            lengths = metadata.lengths_of_parquet(files, self.where(name))
        return lengths

    def _content(self, commit: str, file: str) -> bytes:
        return self._ask(lambda: self._file(commit, file, MAX_EPISODES_BYTES)[1], file)

    def _file(self, revision: str, file: str, most: int) -> tuple[str, bytes]:
        """(commit, content of at most this many bytes). Raises what the client raises."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

        url = hf_hub_url(self.name.repo, file, repo_type="dataset", revision=revision, endpoint=self.endpoint)
        with get_session().stream("GET", url, headers=build_hf_headers(), timeout=self.deadline.remaining()) as response:
            if response.is_error:
                response.read()  # for the client, which looks into it
            hf_raise_for_status(response)
            content = bytearray()
            for part in response.iter_bytes():
                content += part
                if len(content) > most:
                    raise UsageError("dataset", f"{self.where(file)} is larger than {most / 2**20:.0f} MiB{WAY_OUT}")
        for one in (response, *response.history):  # a redirect to where the file lies names the commit, and that place does not
            if commit := one.headers.get("X-Repo-Commit"):
                return commit, bytes(content)
        raise Unreachable("hub", self._failed("answers otherwise than a Hub does (a proxy or a login page in between?)"))

    def _ask(self, call: Callable[[], T], file: str) -> T:
        import huggingface_hub.hf_api  # noqa: F401  loading the client is not the Hub's time

        try:
            return self.deadline.run(call)
        except PlanError:
            raise
        except Exception as error:  # the client's own errors and those of its HTTP library have no base in common
            raise self._error(error, file) from None

    def _error(self, error: Exception, file: str) -> PlanError:
        """One line for whatever the client raised. Its own texts stay out: they are long, and may hold what was sent."""
        from huggingface_hub import errors

        repo, status = self.name.repo, getattr(getattr(error, "response", None), "status_code", None)
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, errors.GatedRepoError):
            return NotAuthorised("dataset-gated", f"{repo} is gated: accept its terms at {self.endpoint}/datasets/{repo} and use the "
                                 f"token of that account (hf auth login){WAY_OUT}")
        if isinstance(error, errors.RevisionNotFoundError):
            return UsageError("dataset", f"{repo} has no revision {self.name.revision} on the Hub: check its name{WAY_OUT}")
        if isinstance(error, errors.EntryNotFoundError):
            therefore = ", so it is no LeRobotDataset: check its name" if file == INFO else ""
            return UsageError("dataset", f"{repo} on the Hub has no {file}{therefore}{WAY_OUT}")
        if isinstance(error, errors.DisabledRepoError):
            return UsageError("dataset-missing", f"{repo} is disabled on the Hub: take another dataset{WAY_OUT}")
        if isinstance(error, errors.HFValidationError):
            return UsageError("dataset", f"{repo} cannot be an id of the Hub: check its name{WAY_OUT}")
        if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
            return UsageError("dataset-missing", f"{repo} is not on the Hub, or is private and this login may not read it: check the "
                              f"name, or log in with an account that may (hf auth login){WAY_OUT}")
        if status == 401:
            return NotAuthorised("token", f"the Hub refuses the token sent for {repo}: log in again (hf auth login), or mend "
                                 f"HF_TOKEN where it is set{WAY_OUT}")
        if status == 403:
            return NotAuthorised("token", f"this token may not read {repo}: give it read access to the repository "
                                 f"({self.endpoint}/settings/tokens){WAY_OUT}")
        if status == 429:
            return Unreachable("hub", self._failed("allows no more requests for now (429)"))
        if status is not None:
            return Unreachable("hub", self._failed(f"answers {status}"))
        if isinstance(error, Late) or "TimeoutException" in kinds:
            return Unreachable("hub", self._failed(f"does not answer within {self.deadline.seconds:g} s"))
        if "ProtocolError" in kinds or "ReadError" in kinds:
            return Unreachable("hub", self._failed("breaks its answer off"))
        if "NetworkError" in kinds or "ProxyError" in kinds:
            return Unreachable("hub", self._failed("cannot be reached"))
        if isinstance(error, ValueError):
            return Unreachable("hub", self._failed("answers with something that is not JSON (a proxy or a login page in between?)"))
        return Unreachable("hub", self._failed(f"cannot be asked ({type(error).__name__})"))

    def _failed(self, what: str) -> str:
        host = self.endpoint.partition("://")[2].rpartition("@")[2] or self.endpoint
        return f"{self.name.repo} is not read: {host} {what}: try again{WAY_OUT}"

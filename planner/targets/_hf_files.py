"""Data sets to the Hub and results from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from planner.errors import Unreachable, UsageError
from planner.targets import _hf_api as hub


def fetch(repo: str, to: Path, progress: Callable[[str], None]) -> tuple[Path, ...]:
    """The files of a model repository as it is now: final model and checkpoints.

    A transfer that is cut goes on where it was; fetching again later begins with the first file that had not arrived (the client
    keeps no part of a file from one call to the next).
    """
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    client = hub.client()
    with hub.asking(f"show {repo}"):
        try:
            info = client.model_info(repo, files_metadata=True)
        except Exception as error:
            if missing(error):
                raise Unreachable("no-results", f"hf has no {repo}, or hides it from this login: the run pushed nothing yet; "
                                  "`plan logs` says how far it is") from None
            raise
    files = [(one.rfilename, one.size) for one in info.siblings or () if one.rfilename != ".gitattributes"]
    if not files:
        raise Unreachable("no-results", f"{repo} holds nothing yet: `plan logs` says how far the run is")
    noisy = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return tuple(_file(client, repo, info.sha, name, size, to, progress) for name, size in files)
    finally:
        if noisy:
            enable_progress_bars()


def _file(
    client: Any, repo: str, sha: str | None, name: str, size: int | None, to: Path, progress: Callable[[str], None],
) -> Path:  # fmt: skip
    path = to / name
    if not path.resolve().is_relative_to(to.resolve()):
        raise Unreachable("garbage", f"{repo} names a file outside its folder ({hub.redacted(name)}): nothing of it was written")
    for again in (False, True):
        with hub.asking(f"send {repo}/{name}"):
            client.hf_hub_download(repo, name, revision=sha, local_dir=to, force_download=again)
        if size is None or path.stat().st_size == size:
            progress(name if size is None else f"{name} ({size:,} bytes)")
            return path
    raise Unreachable("incomplete", f"{path} has {path.stat().st_size} bytes, {size} were announced: run `plan fetch` again")


def push_dataset(root: Path, repo_id: str, namespace: str | None = None) -> str:
    """Upload a local LeRobotDataset to a private repository, with the tag of its format that LeRobot looks for; its id.

    Never writes into a public repository or one that is complete; an upload that was cut is continued. Raises UsageError for a
    folder that is no LeRobotDataset.
    """
    try:
        version = json.loads((root / "meta" / "info.json").read_text(encoding="utf-8"))["codebase_version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError("dataset", f"{root} is no LeRobotDataset (meta/info.json has no codebase_version): name its folder") from None
    client = hub.client()
    repo = repo_id if "/" in repo_id else f"{hub.account(namespace)}/{repo_id}"
    if (there := dataset(repo)) is not None:
        if tagged(repo):
            raise UsageError("dataset", f"{repo} is on the Hub already: leave out --push-dataset, or name another --dataset")
        if not there.private:
            raise UsageError("dataset", f"{repo} is public: nothing was pushed to it; name another --dataset")
    with hub.asking(f"take the dataset {repo}", repo.split("/")[0]):
        if there is None:
            client.create_repo(repo, repo_type="dataset", private=True)
        client.upload_folder(repo_id=repo, folder_path=root, repo_type="dataset", commit_message="Upload dataset",
                             ignore_patterns=["images/**", ".cache/**", ".git/**"])  # fmt: skip
        client.create_tag(repo, tag=str(version), repo_type="dataset", exist_ok=True)  # last: it says that all is there
    return repo


def dataset(repo: str) -> Any:
    """What the Hub says of a dataset; None where it has none for this login."""
    client = hub.client()
    with hub.asking(f"show the dataset {repo}"):
        try:
            return client.dataset_info(repo)
        except Exception as error:
            if missing(error):
                return None
            raise


def missing(error: Exception) -> bool:
    """Whether a repository is not there. The Hub may say so with 401; a gated one is there."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    return isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError)


def tagged(repo: str) -> bool:
    """Whether a dataset carries the tag of a LeRobotDataset's format (v2.1, v3.0), without which LeRobot does not read it."""
    client = hub.client()
    with hub.asking(f"show the tags of {repo}"):
        return any(tag.name.startswith("v") for tag in client.list_repo_refs(repo, repo_type="dataset").tags)

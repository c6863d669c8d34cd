"""A loopback Modal that takes apps and calls as the real client sends them; a call moves when the test moves it, or runs for real.

`serve_jobs()` adds to the strict server of `modal.py` what a detached launch and its later life ask. With `Cloud.execute` a call's
body is run in a process: the very script that was uploaded, its volumes as folders below `Cloud.folder`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from tests.servers.modal import Modal, serve

DRIVER = Path(__file__).parent.parent / "drivers" / "modal_container.py"
OUTPUTS, CACHE, DATASETS = "lerobot-outputs", "huggingface-cache", "lerobot-datasets"
GPUS = ("T4", "L4", "A10", "L40S", "A100", "A100-40GB", "A100-80GB", "RTX-PRO-6000", "H100", "H100!", "H200", "B200", "B200+")
BLOCK = 8 * 2**20
_SUCCESS, _FAILURE, _TERMINATED, _TIMEOUT = (api_pb2.GenericResult.GENERIC_STATUS_SUCCESS, api_pb2.GenericResult.GENERIC_STATUS_FAILURE,
                                             api_pb2.GenericResult.GENERIC_STATUS_TERMINATED,
                                             api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT)  # fmt: skip


@dataclass
class App:
    id: str
    description: str
    tags: dict[str, str]
    state: int
    created_at: float
    functions: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    id: str
    app: App
    function: api_pb2.Function
    result: api_pb2.GenericResult | None = None
    process: subprocess.Popen[str] | None = None
    log: list[tuple[float, str]] = field(default_factory=list)
    attempts: int = 0
    ordered: str = ""  # preempted, timed out, cancelled: why its process was told to end
    over: threading.Event = field(default_factory=threading.Event)


class Cloud:
    """Apps, calls, volumes (as folders), secrets by name with their keys, and the bill."""

    def __init__(self, server: Modal, folder: Path) -> None:
        self.server, self.folder, self.execute = server, folder, False
        self.apps: dict[str, App] = {}
        self.calls: dict[str, Call] = {}
        self.functions: dict[str, api_pb2.Function] = {}
        self.images: list[api_pb2.Image] = []
        self.stored: dict[str, bytes] = {}  # uploaded source files, by their hash
        self.mounts: dict[str, dict[str, str]] = {}  # mount -> path in the container -> hash
        self.secrets = {"huggingface-secret": {"HF_TOKEN"}, "wandb-secret": {"WANDB_API_KEY"}}
        self.bills: list[api_pb2.WorkspaceBillingReportItem] = []
        self.image_fails = False
        self.environment: dict[str, str] = {}  # of the containers, as from their secrets
        self.called, self.line = threading.Event(), threading.Condition()
        self.files_url = ""
        self._clock = 0
        names = [name.removeprefix("_on_") for name in dir(self) if name.startswith("_on_")]
        server.answers |= {name: getattr(self, f"_on_{name}") for name in names}

    def volume(self, name: str) -> Path:
        return self.folder / "volumes" / name

    @property
    def script(self) -> str:
        """The newest script that was uploaded."""
        return list(self.stored.values())[-1].decode()

    # -------------------------------------------------------------------------------- a call's life, by hand

    def put(self, volume: str, path: str, data: bytes | dict[str, Any]) -> None:
        file = self.volume(volume) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())

    def says(self, call: str, *pieces: str) -> None:
        """Pieces of the log, as printed now."""
        self.calls[call].log += [(time.time(), piece) for piece in pieces]

    def ends(self, call: str, status: int = _SUCCESS, value: object = None, said: str = "") -> None:
        one = self.calls[call]
        one.result = api_pb2.GenericResult(status=status, data=b"" if value is None else pickle.dumps(value), exception=said)  # type: ignore[arg-type]
        one.app.state = api_pb2.APP_STATE_STOPPED
        one.over.set()

    # -------------------------------------------------------------------------------- a call's life, for real

    def printed(self, call: str, text: str, seconds: float) -> bool:
        """Wait until its container has printed a line with `text`."""
        with self.line:
            return self.line.wait_for(lambda: any(text in line for _, line in self.calls[call].log), seconds)

    def preempt(self, call: str) -> None:
        """As Modal does: SIGINT, and the same input again, whatever the retries."""
        self._order(call, "preempted", signal.SIGINT)

    def time_out(self, call: str) -> None:
        self._order(call, "timed out", signal.SIGKILL)

    def _order(self, call: str, why: str, number: int) -> None:
        one = self.calls[call]
        assert one.process is not None
        one.ordered = why
        one.process.send_signal(number)

    def _execute(self, call: Call) -> None:
        container = self.folder / "containers" / call.id
        for mount in call.function.volume_mounts:
            link, name = container / mount.mount_path.strip("/"), mount.volume_id.removeprefix("vo-")
            self.volume(name).mkdir(parents=True, exist_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.volume(name))
        paths = {path: sha for mount in call.function.mount_ids for path, sha in self.mounts.get(mount, {}).items()}
        source = container / f"{call.function.module_name}.py"
        source.write_bytes(self.stored[paths[f"/root/{call.function.module_name}.py"]])
        retries = call.function.retry_policy.retries
        while True:
            call.attempts += 1
            answer = container / f"answer-{call.attempts}"
            call.ordered = ""
            call.process = subprocess.Popen(
                [sys.executable, str(DRIVER), str(source), call.function.function_name, call.app.id, call.id, str(answer)],
                env={**os.environ, **self.environment, "PLAN_MOUNT_ROOT": str(container)}, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip
            assert call.process.stdout is not None
            for line in call.process.stdout:
                with self.line:
                    call.log.append((time.time(), line))
                    self.line.notify_all()
            call.process.wait()
            with contextlib.suppress(ProcessLookupError):  # a container takes along what it has started
                os.killpg(call.process.pid, signal.SIGKILL)
            if call.ordered == "preempted":
                continue
            if call.ordered == "cancelled":
                return self.ends(call.id, _TERMINATED, said="Function call was cancelled")
            good, value = pickle.loads(answer.read_bytes()) if answer.exists() else (False, None)
            if good:
                return self.ends(call.id, value=value)
            if retries:
                retries -= 1
                continue
            if call.ordered == "timed out":
                return self.ends(call.id, _TIMEOUT, said="Task's current input hit its timeout")
            return self.ends(call.id, _FAILURE, value, repr(value))

    # -------------------------------------------------------------------------------- the service

    def _id(self, kind: str) -> str:
        self._clock += 1
        return f"{kind}-{self._clock:022d}"

    def _on_AppCreate(self, request: Any) -> Any:
        app = App(self._id("ap"), request.description, dict(request.tags), request.app_state, time.time() + self._clock / 1000)
        self.apps[app.id] = app
        return api_pb2.AppCreateResponse(app_id=app.id, app_page_url=f"https://modal.invalid/{app.id}")

    def _on_EnvironmentGetOrCreate(self, request: Any) -> Any:
        settings = api_pb2.EnvironmentSettings(image_builder_version="2025.06")
        return api_pb2.EnvironmentGetOrCreateResponse(
            environment_id="en-1", metadata=api_pb2.EnvironmentMetadata(name=request.deployment_name or "main", settings=settings)
        )

    def _on_EnvironmentList(self, request: Any) -> Any:
        return api_pb2.EnvironmentListResponse(items=[api_pb2.EnvironmentListItem(name="main", default=True)])

    def _on_AppHeartbeat(self, request: Any) -> Any:
        from google.protobuf.empty_pb2 import Empty

        return Empty()

    def _on_FunctionPrecreate(self, request: Any) -> Any:
        function = self._id("fu")
        self._known(self.apps, request.app_id).functions[request.function_name] = function
        metadata = self._metadata(request.app_id, request.function_name)
        return api_pb2.FunctionPrecreateResponse(function_id=function, handle_metadata=metadata)

    def _metadata(self, app: str, name: str) -> Any:
        return api_pb2.FunctionHandleMetadata(
            function_name=name, function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION, app_id=app,
            supported_input_formats=[api_pb2.DATA_FORMAT_PICKLE], supported_output_formats=[api_pb2.DATA_FORMAT_PICKLE],
        )  # fmt: skip

    def _on_SecretGetOrCreate(self, request: Any) -> Any:
        if request.object_creation_type or request.env_dict:
            raise GRPCError(Status.INVALID_ARGUMENT, "a launch makes no secret")
        if request.deployment_name not in self.secrets:
            raise GRPCError(Status.NOT_FOUND, f"Secret '{request.deployment_name}' not found")
        if lacking := set(request.required_keys) - self.secrets[request.deployment_name]:
            raise GRPCError(Status.NOT_FOUND, f"Secret is missing key(s): {', '.join(lacking)}")
        return api_pb2.SecretGetOrCreateResponse(secret_id=f"st-{request.deployment_name}")

    def _on_VolumeGetOrCreate(self, request: Any) -> Any:
        folder = self.volume(request.deployment_name)
        if request.object_creation_type:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            raise GRPCError(Status.NOT_FOUND, f"Volume '{request.deployment_name}' not found")
        metadata = api_pb2.VolumeMetadata(version=api_pb2.VOLUME_FS_VERSION_V1, name=request.deployment_name)
        return api_pb2.VolumeGetOrCreateResponse(volume_id=f"vo-{request.deployment_name}", metadata=metadata)

    def _on_MountGetOrCreate(self, request: Any) -> Any:
        if request.deployment_name:
            return api_pb2.MountGetOrCreateResponse(mount_id=f"mo-{request.deployment_name}")
        mount = self._id("mo")
        self.mounts[mount] = {file.filename: file.sha256_hex for file in request.files}
        return api_pb2.MountGetOrCreateResponse(mount_id=mount)

    def _on_MountBatchedCheckExistence(self, request: Any) -> Any:
        return api_pb2.MountBatchedCheckExistenceResponse(
            missing_sha256_hex_hashes=[sha for sha in request.sha256_hex_hashes if sha not in self.stored])

    def _on_MountPutFile(self, request: Any) -> Any:
        if request.data:
            if hashlib.sha256(request.data).hexdigest() != request.sha256_hex:
                raise GRPCError(Status.INVALID_ARGUMENT, "another file than announced")
            self.stored[request.sha256_hex] = request.data
        return api_pb2.MountPutFileResponse(exists=request.sha256_hex in self.stored)

    def _on_ImageGetOrCreate(self, request: Any) -> Any:
        self.images.append(request.image)
        status = _FAILURE if self.image_fails else _SUCCESS
        result = api_pb2.GenericResult(status=status, exception="Image build terminated: no such package" if self.image_fails else "")
        return api_pb2.ImageGetOrCreateResponse(
            image_id=f"im-{len(self.images)}", result=result, metadata=api_pb2.ImageMetadata(python_version_info="3.12"))

    def _on_FunctionCreate(self, request: Any) -> Any:
        """Refuses what the client lets through: unknown GPUs, too many, timeouts beyond a day."""
        function = request.function
        for ranked in request.function_data.ranked_functions or [api_pb2.FunctionData.RankedFunction(function=function)]:
            gpu = ranked.function.resources.gpu_config
            if gpu.gpu_type.upper() not in GPUS or not 1 <= gpu.count <= (4 if gpu.gpu_type.upper() == "A10" else 8):
                raise GRPCError(Status.INVALID_ARGUMENT, f"GPU {gpu.gpu_type}:{gpu.count} is not offered")
        if not 1 <= function.timeout_secs <= 86_400:
            raise GRPCError(Status.INVALID_ARGUMENT, "timeout must be between 1 and 86400 seconds")
        name = self._id("fu") if not request.existing_function_id else request.existing_function_id
        self.functions[name] = function
        self._known(self.apps, request.app_id).functions[function.function_name] = name
        data = api_pb2.FunctionData()
        data.ranked_functions.add(function=function)
        return api_pb2.FunctionCreateResponse(
            function_id=name, function=function, function_data=data, handle_metadata=self._metadata(request.app_id, function.function_name))

    def _on_AppPublish(self, request: Any) -> Any:
        self._known(self.apps, request.app_id).state = request.app_state
        return api_pb2.AppPublishResponse(url="https://modal.invalid")

    def _on_FunctionMap(self, request: Any) -> Any:
        function = self._known(self.functions, request.function_id)
        app = next(app for app in self.apps.values() if request.function_id in app.functions.values())
        call = Call(self._id("fc"), app, function)
        self.calls[call.id] = call
        self.called.set()
        if self.execute:
            threading.Thread(target=self._execute, args=(call,), daemon=True).start()
        item = api_pb2.FunctionPutInputsResponseItem(idx=0, input_id=self._id("in"))
        return api_pb2.FunctionMapResponse(function_call_id=call.id, pipelined_inputs=[item])

    def _on_AppClientDisconnect(self, request: Any) -> Any:
        """A detached app lives while it has a call."""
        from google.protobuf.empty_pb2 import Empty

        app = self._known(self.apps, request.app_id)
        busy = any(call.app is app and call.result is None for call in self.calls.values())
        goes_on = busy and app.state == api_pb2.APP_STATE_DETACHED
        app.state = api_pb2.APP_STATE_DETACHED_DISCONNECTED if goes_on else api_pb2.APP_STATE_STOPPED
        return Empty()

    def _on_AppList(self, request: Any) -> Any:
        items = []
        for app in self.apps.values():
            lifecycle = api_pb2.AppLifecycle(app_state=app.state, created_at=app.created_at)  # type: ignore[arg-type]
            metadata = api_pb2.AppHandleMetadata(description=app.description, lifecycle=lifecycle, functions=app.functions)
            items.append(api_pb2.AppListResponse.AppListItem(
                app_id=app.id, description=app.description, state=app.state, created_at=app.created_at, metadata=metadata))  # type: ignore[arg-type]
        return api_pb2.AppListResponse(apps=items)

    def _on_AppStop(self, request: Any) -> Any:
        from google.protobuf.empty_pb2 import Empty

        for call in [call for call in self.calls.values() if call.app.id == request.app_id and call.result is None]:
            self._stop(call)
        return Empty()

    def _on_AppGetInfo(self, request: Any) -> Any:
        app = self._known(self.apps, request.app_id)
        lifecycle = api_pb2.AppLifecycle(app_state=app.state, created_at=app.created_at)  # type: ignore[arg-type]
        return api_pb2.AppGetInfoResponse(
            metadata=api_pb2.AppHandleMetadata(description=app.description, lifecycle=lifecycle, functions=app.functions))

    def _on_FunctionGetOutputs(self, request: Any) -> Any:
        call = self._known(self.calls, request.function_call_id)
        if call.result is None and request.timeout > 1:
            raise GRPCError(Status.UNIMPLEMENTED, "nobody waits here")
        if call.result is None:
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=1)
        if call.ordered == "forgotten":
            return api_pb2.FunctionGetOutputsResponse(num_unfinished_inputs=0)
        item = api_pb2.FunctionGetOutputsItem(result=call.result, data_format=api_pb2.DATA_FORMAT_PICKLE, idx=0)
        return api_pb2.FunctionGetOutputsResponse(outputs=[item])

    def _on_FunctionCallFromId(self, request: Any) -> Any:
        call = self._known(self.calls, request.function_call_id)
        metadata = api_pb2.FunctionCallHandleMetadata(app_id=call.app.id)
        return api_pb2.FunctionCallFromIdResponse(function_call_id=call.id, num_inputs=1, metadata=metadata)

    def _on_FunctionCallCancel(self, request: Any) -> Any:
        from google.protobuf.empty_pb2 import Empty

        call = self._known(self.calls, request.function_call_id)
        if call.result is not None:
            raise GRPCError(Status.FAILED_PRECONDITION, "the call has ended")
        self._stop(call)
        return Empty()

    def _stop(self, call: Call) -> None:
        if call.process is None:
            self.ends(call.id, _TERMINATED, said="Function call was cancelled")
        else:
            call.ordered = "cancelled"
            call.process.send_signal(signal.SIGINT)

    def _log(self, request: Any) -> list[tuple[float, str]]:
        since, until = request.since.ToNanoseconds() / 1e9, request.until.ToNanoseconds() / 1e9
        return [(at, text) for at, text in self._known(self.calls, request.function_call_id).log if since <= at < until]

    def _on_AppCountLogs(self, request: Any) -> Any:
        buckets: dict[int, int] = {}
        start, end = int(request.since.seconds // request.bucket_secs), int(request.until.seconds // request.bucket_secs)
        buckets = dict.fromkeys(range(start, end + 1), 0)
        for at, _ in self._log(request):
            buckets[int(at // request.bucket_secs)] += 1
        out = api_pb2.AppCountLogsResponse()
        for number, count in buckets.items():
            bucket = out.buckets.add(stdout_logs=count)
            bucket.bucket_start_at.seconds = number * request.bucket_secs
        return out

    def _on_AppFetchLogs(self, request: Any) -> Any:
        found = sorted(self._log(request), key=lambda one: one[0])
        items = [api_pb2.TaskLogs(data=text, timestamp=at, timestamp_ns=int(at * 1e9), file_descriptor=api_pb2.FILE_DESCRIPTOR_STDOUT)
                 for at, text in found]  # fmt: skip
        return api_pb2.AppFetchLogsResponse(batches=[api_pb2.TaskLogsBatch(items=items)])

    def _on_AppGetLogs(self, request: Any) -> Any:
        return [api_pb2.TaskLogsBatch(app_done=True)]

    def _on_VolumeListFiles(self, request: Any) -> Any:
        root = self.volume(request.volume_id.removeprefix("vo-"))
        top = root / request.path.strip("/")
        if not top.exists():
            raise GRPCError(Status.NOT_FOUND, f"path {request.path} not found")
        entries = []
        for path in sorted(top.rglob("*") if request.recursive else top.iterdir()):
            kind = (api_pb2.FileEntry.FileType.SYMLINK if path.is_symlink() else api_pb2.FileEntry.FileType.DIRECTORY if path.is_dir()
                    else api_pb2.FileEntry.FileType.FILE)  # fmt: skip
            entries.append(api_pb2.FileEntry(path=str(path.relative_to(root)), type=kind, size=0 if path.is_dir() else path.stat().st_size))
        return [api_pb2.VolumeListFilesResponse(entries=entries[start : start + 2]) for start in range(0, len(entries), 2)]

    def _on_VolumeGetFile2(self, request: Any) -> Any:
        name = request.volume_id.removeprefix("vo-")
        file = self.volume(name) / request.path.strip("/")
        if not file.is_file():
            raise GRPCError(Status.NOT_FOUND, f"file {request.path} not found")
        size = file.stat().st_size
        urls = [f"{self.files_url}/{quote(name)}/{quote(request.path.strip('/'))}?block={number}" for number in range(-(-size // BLOCK))]
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=size, start=0, len=size)

    def _on_WorkspaceBillingReport(self, request: Any) -> Any:
        assert request.resolution == "h" and list(request.tag_names)
        return self.bills

    def _known(self, things: dict[str, Any], name: str) -> Any:
        if name not in things:
            raise GRPCError(Status.NOT_FOUND, f"{name} not found")
        return things[name]


class _Files(BaseHTTPRequestHandler):
    """The blocks of volumes' files: GET /VOLUME/PATH?block=N."""

    folder: Path

    def do_GET(self) -> None:
        path, _, number = self.path.partition("?block=")
        with (self.folder / unquote(path).lstrip("/")).open("rb") as file:
            file.seek(int(number) * BLOCK)
            data = file.read(BLOCK)
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve_jobs(folder: Path) -> Iterator[Cloud]:
    """A running Modal on a free port, with its volumes below `folder`."""
    (folder / "volumes").mkdir(parents=True)
    files = ThreadingHTTPServer(("127.0.0.1", 0), type("Files", (_Files,), {"folder": folder / "volumes"}))
    threading.Thread(target=files.serve_forever, args=(0.02,), daemon=True).start()
    with serve() as server:
        cloud = Cloud(server, folder)
        cloud.files_url = f"http://127.0.0.1:{files.server_port}"
        try:
            yield cloud
        finally:
            for call in cloud.calls.values():
                if call.process is not None and call.process.poll() is None:
                    call.ordered = "cancelled"
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(call.process.pid, signal.SIGKILL)
            files.shutdown()
            files.server_close()

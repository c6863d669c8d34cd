"""Fake tensors that are counted: live bytes and FLOPs of a training step that allocates nothing.

Fake tensors live on the device "cpu", because a torch without CUDA cannot host fake "cuda" ones. Where CUDA would keep
other bytes than a CPU does, `imitate_cuda` makes the CPU do as CUDA does.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

#: CUDA's caching allocator rounds every block up to this many bytes.
BLOCK = 512


class LiveBytes(TorchDispatchMode):
    """`current` and `peak` bytes of live storages while active: what torch.cuda.max_memory_allocated() would report."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._live: dict[int, tuple[int, Any]] = {}
        self._count(tensors)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._count(leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        return out

    def restart(self) -> None:
        """Start a new peak from what is live now."""
        self.peak = self.current

    def _count(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._live:
                continue
            size = -(-storage.nbytes() // BLOCK) * BLOCK
            self._live[key] = (size, weakref.ref(storage, lambda _, key=key: self._free(key)))
            self.current += size
            self.peak = max(self.peak, self.current)

    def _free(self, key: int) -> None:
        self.current -= self._live.pop(key, (0, None))[0]


def flop_counter() -> FlopCounterMode:
    """Counts 2 FLOPs a multiply-add, forward and backward, recomputation included."""
    cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return FlopCounterMode(display=False, custom_mapping={
        cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        back: lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v),
    })  # fmt: skip


def autocast(enabled: bool) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast; imitate_cuda() lays CUDA's float32 list over the CPU's."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if enabled else contextlib.nullcontext()


class Never:
    """The probability 0, for a random number which, among fake tensors, has no value."""

    def __gt__(self, other: object) -> bool:
        return False


def imitate_cuda() -> None:
    """Patch torch in this process, once, so that LeRobot's policies run on fake tensors and keep what CUDA would keep."""
    _answer_reads()
    _read_whole_masks()
    for place, name in ((F, "softmax"), (torch.Tensor, "softmax"), (F, "layer_norm"), (F, "mse_loss")):
        setattr(place, name, _in_float32(getattr(place, name)))
    torch.nn.init._no_grad_trunc_normal_ = lambda tensor, *_, **__: tensor  # rejection sampling never ends on fake data
    torch.nn.Module._apply = _replace_parameters
    FakeTensor.__deepcopy__ = _copy

    def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        """CUDA's fused dropout saves a one-byte mask; the CPU's saves a float one."""
        return torch.native_dropout(input, p, True)[0] if training and p > 0 and input.numel() else input

    F.dropout = dropout
    torch.dropout = dropout


def _in_float32(original: Callable[..., Any]) -> Callable[..., Any]:
    """`original` as CUDA's autocast runs it. It asks at each call, because checkpointing calls it again in the backward pass."""

    def wide(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_autocast_enabled("cpu"):
            return original(*args, **kwargs)
        return original(*map(wide, args), **{name: wide(value) for name, value in kwargs.items()})

    return call


def real(value: Any) -> torch.Tensor:
    """A tensor with a value, for code that branches on it."""
    with _disable_current_modes():
        return torch.tensor(value)


def _answer_reads() -> None:
    """`.item()` and its kin answer one, or true, where a fake tensor has no value."""

    def one(tensor: torch.Tensor) -> Any:
        return 1.0 if tensor.is_floating_point() else (True if tensor.dtype == torch.bool else 1)

    def ones(tensor: torch.Tensor) -> Any:
        return np.full(tuple(tensor.shape), one(tensor)).tolist()

    def guard(name: str, answer: Callable[[torch.Tensor], Any]) -> None:
        original = getattr(torch.Tensor, name)

        def read(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(self, FakeTensor):
                with _disable_current_modes():
                    return original(self, *args, **kwargs)
            try:
                return original(self, *args, **kwargs)
            except Exception:  # whatever torch raises for a value that does not exist
                return answer(self)

        setattr(torch.Tensor, name, read)

    guard("item", one)
    guard("tolist", ones)
    guard("__bool__", lambda tensor: True)
    guard("__float__", lambda tensor: 1.0)
    guard("__int__", lambda tensor: 1)
    guard("__index__", lambda tensor: 1)
    guard("numpy", lambda tensor: np.ones(tuple(tensor.shape), dtype=np.float32))


def _read_whole_masks() -> None:
    """A boolean index selects everything, and what is selected keeps a static shape: all images and tokens are valid."""
    get, put, unique = torch.Tensor.__getitem__, torch.Tensor.__setitem__, torch.unique

    def masked(tensor: torch.Tensor, index: Any) -> bool:
        return isinstance(tensor, FakeTensor) and isinstance(index, torch.Tensor) and index.dtype == torch.bool

    def getitem(self: torch.Tensor, index: Any) -> torch.Tensor:
        return self.reshape(-1, *self.shape[index.dim() :]) if masked(self, index) else get(self, index)

    def setitem(self: torch.Tensor, index: Any, value: Any) -> None:
        if masked(self, index) and isinstance(value, torch.Tensor):
            self.copy_(value.reshape(self.shape))
        else:
            put(self, index, value)

    torch.Tensor.__getitem__, torch.Tensor.__setitem__ = getitem, setitem
    torch.unique = lambda x, *args, **kwargs: x.flatten() if isinstance(x, FakeTensor) else unique(x, *args, **kwargs)


def _copy(self: torch.Tensor, memo: dict[int, Any]) -> torch.Tensor:
    """Without a look at the address of the data, which makes torch write to it."""
    if id(self) not in memo:
        with torch.no_grad():
            copied = self.detach().clone()
        parameter = isinstance(self, torch.nn.Parameter)
        memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if parameter else copied.requires_grad_(self.requires_grad)
    return memo[id(self)]


def _replace_parameters(self: torch.nn.Module, function: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> torch.nn.Module:
    """Module._apply: fake parameters cannot be swapped in place, so Module.to() makes new ones, tied ones once."""
    made: dict[int, tuple[Any, Any]] = {}
    for module in self.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                with torch.no_grad():
                    new = function(parameter)
                same = new.dtype == parameter.dtype and new.device == parameter.device
                kept = parameter if same else torch.nn.Parameter(new.detach(), parameter.requires_grad)
                made[id(parameter)] = (parameter, kept)  # the old one is kept alive: its id stays its own
            module._parameters[name] = made[id(parameter)][1]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = function(buffer)
    return self

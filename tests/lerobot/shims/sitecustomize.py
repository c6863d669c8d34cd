"""Lets LeRobot import where its wheels do not quite fit. On PYTHONPATH of the test environments, never of the product.

Two gaps, each closed only where it exists, with nothing changed on disk:

- LeRobot 0.6.1 is written for Python 3.12, but only for PEP 695 type parameters in five files. On 3.11 they are
  rewritten while they are imported.
- torchvision built for CUDA does not import beside a CPU build of torch, because its C++ operators do not load.
  The operators that its Python code names at import are declared without a body: training a policy needs none.
"""

import importlib.abc
import importlib.machinery
import re
import sys


class Torchvision(importlib.abc.MetaPathFinder):
    """Declares the missing operators just before torchvision is imported."""

    def find_spec(self, fullname, path, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None and "+cpu" not in self._version():
                library = torch.library.Library("torchvision", "DEF")
                library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                library.define(
                    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height,"
                    " SymInt pooled_width, int sampling_ratio, bool aligned) -> Tensor"
                )
                torch._lerobot_tests_library = library  # lives as long as torch does
        return

    @staticmethod
    def _version():
        from importlib.metadata import version

        return version("torchvision")


class Python311Loader(importlib.machinery.SourceFileLoader):
    """`class A[T: X](B)`, `def f[T](…)` and `type X = …` become TypeVars, Generic and an assignment."""

    def get_code(self, fullname):  # no .pyc: the file on disk stays as it is
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def source_to_code(self, data, path, *, _optimize=-1):
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return super().source_to_code(self.rewrite(text).encode("utf-8"), path, _optimize=_optimize)

    @staticmethod
    def rewrite(text):
        names = []

        def declare(parameters):
            found = [item.split(":")[0].strip() for item in parameters.split(",")]
            names.extend(name for name in found if name not in names)
            return ", ".join(found)

        def a_class(match):
            bases = [base for base in [(match[4] or "").strip()] if base]
            bases.append(f"_Generic[{declare(match[3])}]")
            return f"{match[1]}class {match[2]}({', '.join(bases)}):"

        def a_function(match):
            declare(match[3])
            return f"{match[1]}def {match[2]}("

        text = re.sub(r"^([ \t]*)class (\w+)\[([^\]]+)\](?:\(([^)]*)\))?:", a_class, text, flags=re.M)
        text = re.sub(r"^([ \t]*(?:async )?)def (\w+)\[([^\]]+)\]\(", a_function, text, flags=re.M)
        text = re.sub(r"^type (\w+) = ", r"\1 = ", text, flags=re.M)
        if not names:
            return text
        head = "from typing import Generic as _Generic, TypeVar as _TypeVar\n"
        head += "".join(f"{name} = _TypeVar({name!r})\n" for name in names)
        start = list(re.finditer(r"^from __future__ import .*\n", text, flags=re.M))
        at = start[-1].end() if start else re.search(r"^(?:import|from) ", text, flags=re.M).start()
        return text[:at] + head + text[at:]


class Python311(importlib.abc.MetaPathFinder):
    """Loads LeRobot's own modules through the rewriting loader."""

    def find_spec(self, fullname, path, target=None):
        if fullname.partition(".")[0] != "lerobot":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Python311Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, Torchvision())
if sys.version_info < (3, 12):
    import typing

    typing.override = getattr(typing, "override", lambda function: function)
    sys.meta_path.insert(0, Python311())

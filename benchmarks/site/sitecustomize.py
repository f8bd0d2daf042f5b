"""What every Python process of a check does at its start, as this folder is on its PYTHONPATH.

It has resnet10 as torchvision's resnet34, with the same layers and four times faster, and can sleep under libfaketime.
"""

import importlib.util
import os
import select
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PATCHED = "torchvision.models.resnet"


class _SmallNetwork(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != PATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)

            def resnet10(weights: None = None, num_classes: int = 1000) -> Any:
                return module.ResNet(module.BasicBlock, [1, 1, 1, 1], num_classes=num_classes)

            module.resnet34 = resnet10

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


sys.meta_path.insert(0, _SmallNetwork())

if "libfaketime" in os.environ.get("LD_PRELOAD", ""):  # 0.9.10 also shifts the end of sleeps by the monotonic clock

    def _sleep(seconds: float) -> None:
        select.select([], [], [], seconds)

    time.sleep = _sleep  # type: ignore[assignment]

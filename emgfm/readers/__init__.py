"""One module for each dataset, over the machinery of `base`, `signs`, `strides`, `check` and `lab`.

`emgfm.readers()` lists the datasets that can be read. The package is callable for that, because Python puts a package
in the place of a function of the same name as soon as one of its modules is imported.
"""
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


class _Reader(ModuleType):
    "A module of this package; in version 0.2.0 `write_lookalike` was a function of the reader, and old code still finds it"

    def __getattr__(self, name: str):
        writer = self.__name__.replace(".readers.", ".lookalike.")
        if name == "write_lookalike" and find_spec(writer):
            return import_module(writer).write_lookalike
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Readers(ModuleType):
    "This package"

    def __call__(self) -> list[str]:  # sorted names of datasets
        return import_module(f"{__name__}.base").readers()

    def __setattr__(self, name: str, value: object):  # Python sets every module of a package once it is imported
        if isinstance(value, ModuleType):
            value.__class__ = _Reader
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Readers

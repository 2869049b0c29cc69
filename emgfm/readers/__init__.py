"""One module for each dataset, over the machinery of `base`, `signs`, `strides`, `check` and `lab`.

`emgfm.readers()` lists the datasets that can be read. The package has to be callable for that, because Python puts
a package of that name in the place of a function as soon as one of its modules is imported.
"""
import sys
from types import ModuleType


class _Readers(ModuleType):
    "The package, which lists its readers when it is called"

    def __call__(self) -> list[str]:  # sorted names of datasets
        from .base import readers

        return readers()


sys.modules[__name__].__class__ = _Readers

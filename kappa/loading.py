"""Finding the pipeline object that ``-p`` names."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from kappa.repeated_names import refuse_repeated_names
from serving.pipeline import Pipeline
from streams.errors import ConfigurationError


def load_pipeline(name: str) -> Pipeline:
    """Return the :class:`Pipeline` of a module (``examples.citibike``) or file (``my/pipe.py``).

    A module is looked up from the working folder first. The object is called ``pipeline``, or
    otherwise is the module's only Pipeline.

    Raises:
        ConfigurationError: there is no such module or file, or no (single) pipeline in it.
        DefinitionError: it declares what can't work.
    """
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module_name = name
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise ConfigurationError(f"-p {name}: there is no such file")
        sys.path.insert(0, str(path.parent))
        module_name = path.stem
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.startswith(error.name):
            raise ConfigurationError(
                f"-p {name}: no module of this name in {folder} or among the installed packages; "
                "name a module (examples.citibike) or a file (pipelines/mine.py)"
            ) from None
        raise
    pipeline = _pipeline_of(name, module)
    for file in _files_of(module, pipeline):
        refuse_repeated_names(file)
    return pipeline


def _pipeline_of(name: str, module: ModuleType) -> Pipeline:
    declared = getattr(module, "pipeline", None)
    if isinstance(declared, Pipeline):
        return declared
    found = [value for value in vars(module).values() if isinstance(value, Pipeline)]
    if len(found) != 1:
        raise ConfigurationError(
            f"-p {name}: {len(found)} pipelines in {module.__file__}; declare one, named `pipeline`"
        )
    return found[0]


def _files_of(module: ModuleType, pipeline: Pipeline) -> list[Path]:
    """Return the files in which the pipeline and its definitions are declared."""
    names = [module.__file__]
    for definition in pipeline.definitions:
        place = definition.declared_at
        names.append(place.rpartition(":")[0] if place else None)
    return [Path(name) for name in dict.fromkeys(names) if name and Path(name).is_file()]

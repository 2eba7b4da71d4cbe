"""Running a script as under python, in a process where `mindspore` is paramesh."""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import jax

from paramesh import child_processes, compat
from paramesh.errors import ContextError
from paramesh.providers import providers
from paramesh.scripts import absent, deferred, numpy_names, printing

#: Backends that a script may set on a machine with another one.
_ELSEWHERE = ("Ascend", "Davinci", "GPU")
_INTERRUPTED = 130


class _Under(types.ModuleType):
    """A module of paramesh under MindSpore's path.

    It is not a copy: each name is looked up in paramesh when it is accessed.

    Args:
        name: MindSpore's path.
        target: the module.
        others: modules that have the rest of the names that MindSpore has there.
    """

    def __init__(self, name: str, target: types.ModuleType, others: Sequence[str] = ()) -> None:
        super().__init__(name, f"{target.__name__} under MindSpore's name.")
        self._target, self._others = target, tuple(others)

    def __getattr__(self, name: str) -> Any:
        if name == "__all__":
            return _public(self._target)
        if name.startswith("__"):
            return getattr(self._target, name)
        path = f"{self.__name__}.{name}"
        try:
            value = self._value_of(name)
        except AttributeError:
            waiting = isinstance(sys.modules.get(path), deferred.Deferred)
            if waiting and deferred.caught(sys._getframe(1)):
                del sys.modules[path]  # so that this import raises its error
            found = absent.about(path)
            what = f"module '{self.__name__}' has no attribute '{name}'."
            text = " ".join(filter(None, (what, found.origin, found.advice)))
            # Without `obj`, so that python does not add its own suggestions.
            raise AttributeError(text, name=name) from None
        if isinstance(value, types.ModuleType) and value.__name__.startswith("paramesh"):
            return importlib.import_module(path)
        if callable(value):
            setattr(self, name, value)
        return value

    def _value_of(self, name: str) -> Any:
        try:
            return getattr(self._target, name)
        except AttributeError:
            for other in self._others:
                module = importlib.import_module(other)
                if name in getattr(module, "__all__", ()):
                    return getattr(module, name)
            raise

    def __setattr__(self, name: str, value: object) -> None:
        # Python makes an imported module an attribute of its package. A missing name stays
        # missing: `hasattr` is how scripts ask for it.
        if not isinstance(value, deferred.Deferred):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return dir(self._target)


class _CallableUnder(_Under):
    """A module that is also a function: `common.initializer`.

    In MindSpore the package has the function in the place of the module of that name, so that
    `import mindspore.common.lazy_inline as lazy_inline` is the function.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        target = self._target
        function = target if callable(target) else _of_its_name(target, self.__name__)
        return function(*args, **kwargs)  # type: ignore[operator]


def _of_its_name(target: types.ModuleType, path: str) -> object:
    """What a module has under the last part of its path; None if it is nothing to call."""
    name = path.rpartition(".")[2]
    found = getattr(target, name) if name in getattr(target, "__all__", ()) else None
    return found if callable(found) else None


def _public(module: types.ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    return list(listed) if listed else [n for n in dir(module) if not n.startswith("_")]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `mindspore` and its modules.

    Args:
        say: called with a line about each missing name whose import is deferred.
        strict: whether an import of a missing name is an error at once.
    """

    def __init__(self, say: Callable[[str], object], strict: bool) -> None:
        self._say = say
        self._strict = strict
        self._said: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        top, _, rest = fullname.partition(".")
        if top != "mindspore":
            return None
        if rest and not compat.is_path(rest):
            self._defer(fullname)
        # Always a package: python then calls this finder for names that `from` does not find.
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def _defer(self, path: str) -> None:
        """Let the script import a missing name, or raise its error."""
        package = sys.modules.get(path.rpartition(".")[0])
        if isinstance(package, deferred.Deferred):
            return
        if self._strict or not deferred.may_be(path, sys._getframe(2)):
            raise absent.error(path)
        if path not in self._said:
            self._said.add(path)
            self._say(f"{absent.about(path)} The script runs on, and using it is an error.")

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        if not compat.is_path(spec.name.partition(".")[2]) and spec.name != "mindspore":
            return deferred.Deferred(spec.name)
        target = importlib.import_module(f"paramesh{spec.name.removeprefix('mindspore')}")
        others = compat.PATHS.get(spec.name.partition(".")[2], ())[1:]
        is_called = callable(target) or _of_its_name(target, spec.name) is not None
        module = (_CallableUnder if is_called else _Under)(spec.name, target, others)
        module.__file__ = getattr(target, "__file__", None)
        if spec.name == "mindspore":
            module.__version__ = absent.FOLLOWED  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: the names are those of paramesh."""


def become_mindspore(say: Callable[[str], object], strict: bool = False) -> None:
    """Make `import mindspore` in this process give paramesh, even if MindSpore is installed.

    Args:
        say: called with a line about each deviation from what the script says.
        strict: whether an unavailable `device_target`, the import of a missing name, and names that
            NumPy lost are errors.

    Raises:
        ImportError: MindSpore is imported already.
    """
    if "mindspore" in sys.modules:
        raise ImportError("the real 'mindspore' is imported in this process already")
    if importlib.util.find_spec("mindspore") is not None:
        say(
            "MindSpore is installed here too, but `import mindspore` gives paramesh here: "
            "this is `paramesh run`. To run the script with MindSpore, use `python`."
        )
    # First, since python's own finder would find MindSpore itself.
    sys.meta_path.insert(0, _Finder(say, strict))
    if not strict:
        numpy_names.restore(say)
        providers.by_operators = True
        printing.install()
    child_processes.add("paramesh.scripts.running:as_the_parent")
    providers.device_target = _target(say, strict)


def as_the_parent() -> None:
    """`become_mindspore` in a process that one started which has said all there is to say."""
    become_mindspore(lambda line: None)


def _target(say: Callable[[str], object], strict: bool) -> Callable[[Any], Any]:
    """The function that maps a `device_target` of a script to the available one."""
    said: set[str] = set()

    def here(target: object) -> Any:
        if target not in _ELSEWHERE:
            return target
        providers.join_processes()
        running = jax.default_backend().upper()
        if target == running:
            return target
        if strict:
            raise ContextError(
                f"set_context: device_target={target!r}, but JAX runs on {running} here, and "
                "--strict rejects other targets. Run without --strict, or change the script."
            )
        if target not in said:
            said.add(target)
            say(
                f"device_target={target!r}: this machine has {running}, so the script runs on that."
            )
        return running

    return here


def prepare(program: str, arguments: Sequence[str], module: bool) -> Callable[[], None]:
    """Set this process up as `python program arguments` before the first line of the program.

    Args:
        program: path of a script, or the name of a module.
        arguments: the rest of `sys.argv`.
        module: whether `program` is a module, as for `python -m`.

    Returns:
        A function that runs the program; it can be called once.

    Raises:
        OSError: the script cannot be read.
        ImportError: there is no such module, or it cannot be run.
        SyntaxError: as from python.
    """
    main = types.ModuleType("__main__")
    space = vars(main)
    space["__builtins__"] = builtins
    if module:
        _first_on_path(os.getcwd())
        path, code, spec = _of_module(program)
        space.update(__spec__=spec, __package__=spec.parent, __loader__=spec.loader)
    else:
        path = os.path.abspath(program)
        _first_on_path(str(Path(program).resolve().parent))
        code = compile(Path(program).read_bytes(), path, "exec", dont_inherit=True)
        loader = importlib.machinery.SourceFileLoader("__main__", path)
        space.update(__spec__=None, __package__=None, __loader__=loader)
    space.update(__file__=path, __cached__=None)
    sys.argv = [path if module else program, *arguments]
    former = sys.modules["__main__"]
    sys.modules["__main__"] = main
    # The old main module is kept alive: this call came from there.
    return lambda former=former: exec(code, space)


def _first_on_path(folder: str) -> None:
    """Set the first folder of sys.path, which is that of the program, unless -P is given."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


class CannotRun(ModuleNotFoundError):
    """There is no module of the name that `-m` was given, or it is a package without `__main__`."""


def _of_module(name: str) -> tuple[str, types.CodeType, importlib.machinery.ModuleSpec]:
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        name = f"{name}.__main__"
        spec = importlib.util.find_spec(name)
    code = getattr(spec.loader, "get_code", lambda _: None)(name) if spec is not None else None
    if spec is None or spec.origin is None or code is None:
        raise CannotRun(f"No module named {name!r} that can be run", name=name)
    return spec.origin, code, spec


def run(program: Callable[[], None]) -> int:
    """Run a prepared program to its end.

    Returns:
        The exit code: 0, 1 after an exception, which is printed as by python, or 130 after Ctrl-C.
        `sys.exit` of the program is passed on.
    """
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:
        trace = _of_program(error.__traceback__)
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    return 0


def exit_code(end: SystemExit) -> int:
    """The exit code of a program that called `sys.exit`, whose message is shown as by python."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    sys.stderr.write(f"{end.code}\n")
    return 1


def _of_program(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of this folder at its start, and of this file at its end."""
    here = os.path.dirname(__file__)
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == here:
        trace = trace.tb_next
    last = trace
    raising = (__file__, deferred.__file__)
    while last is not None and last.tb_next is not None:
        if last.tb_next.tb_next is None and last.tb_next.tb_frame.f_code.co_filename in raising:
            last.tb_next = None
        else:
            last = last.tb_next
    return trace

# SPDX-License-Identifier: Apache-2.0
"""_native.py - librerank through ctypes.  ctypes lets go of the GIL during every call."""
import asyncio
import contextlib
import ctypes as c
import itertools
import os
import re
import threading
import weakref
from typing import (Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple,
                    Union)

from . import _structs as s
from .errors import RerankError

_SURROGATE = re.compile("[\ud800-\udfff]")
_POOLING = {"max": 0, "mean": 1, "first": 2}


class Score(NamedTuple):
    """One document: probability, logit, length in tokens, whether it was cut."""

    score: float
    logit: float
    tokens: int
    truncated: bool


class Scores(NamedTuple):
    """Of one request: documents in the order of the input, and their indices best first."""

    scores: List[Score]
    order: List[int]
    tokens: int
    cached: int


# Of the header that _structs.py follows.
LIBRARY = "librerank.so.0.1"


def _find_library() -> str:
    """RERANK_LIBRARY, else the one in this package, else the system's."""
    asked = os.environ.get("RERANK_LIBRARY")
    if asked:
        return asked
    own = os.path.join(os.path.dirname(os.path.abspath(__file__)), LIBRARY)
    return own if os.path.exists(own) else LIBRARY


def _load() -> c.CDLL:
    path = _find_library()
    try:
        lib = c.CDLL(path)
    except OSError as e:
        raise ImportError("cannot load %s: %s (set RERANK_LIBRARY to the file, or install librerank "
                          "and its libraries: jansson, utf8proc, xxhash, pcre2, hiredis)"
                          % (path, e)) from e
    engine, err = c.c_void_p, c.POINTER(s.rr_error)
    for name, result, arguments in [
            ("rr_options_init_sized", None, [c.POINTER(s.rr_options), c.c_size_t]),
            ("rr_open", c.c_int, [c.POINTER(c.c_void_p), c.POINTER(s.rr_options), err]),
            ("rr_close", None, [engine]),
            ("rr_submit", c.c_int, [engine, c.POINTER(s.rr_request), s.rr_done_fn, c.c_void_p,
                                    c.POINTER(c.c_void_p), err]),
            ("rr_result_free", None, [c.c_void_p]),
            ("rr_engine_info", c.POINTER(s.rr_info), [engine]),
            ("rr_status_name", c.c_char_p, [c.c_int]),
            ("rr_version", c.c_char_p, [])]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


_lib: Optional[c.CDLL] = None
_lib_lock = threading.Lock()


def library() -> c.CDLL:
    """Loaded at the first use, so that the client works without it."""
    global _lib
    with _lib_lock:
        if _lib is None:
            _lib = _load()
        return _lib


def version() -> str:
    """Of the library."""
    return str(library().rr_version().decode())


def _error(err: s.rr_error) -> RerankError:
    return RerankError(err.msg.decode("utf-8", "replace"), library().rr_status_name(err.code).decode())


def _encode(text: str) -> bytes:
    """UTF-8; halves of surrogate pairs become U+FFFD, as the server does it."""
    if not isinstance(text, str):
        raise TypeError("found %s, expected a text" % type(text).__name__)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


class _Job:
    """A request with what it points to, which has to stay until it is done."""

    def __init__(self, query: str, documents: Sequence[str], done: Callable[..., None]) -> None:
        if isinstance(documents, str):  # a sequence of letters, too
            raise TypeError("documents: found one text, expected a list of texts")
        self.done = done
        self.texts = [_encode(query), *map(_encode, documents)]
        views = [s.rr_text(c.cast(c.c_char_p(t), c.c_void_p), len(t)) for t in self.texts]
        self.array = (s.rr_text * len(documents))(*views[1:])
        self.request = s.rr_request(query=views[0], documents=self.array, n_documents=len(documents))


def _choose(request: s.rr_request, choices: Dict[str, Any]) -> None:
    """The keyword arguments of Engine.score."""
    for name, value in choices.items():
        if value is None:
            continue
        if name == "truncate":
            request.no_truncate = not value
        elif name == "timeout":
            request.timeout_ns = max(1, int(value * 1e9))
        elif name == "window":
            size, stride, pooling = (*value, 0, "max") if len(value) == 1 else (*value, "max")[:3]
            if pooling not in _POOLING:
                raise ValueError("window: pooling is %r, known are max, mean and first" % (pooling,))
            request.window = s.rr_window(size, stride, _POOLING[pooling])
        elif name == "truncate_left":
            request.truncate_side = 1 if value else 2  # enum rr_truncate_side
        elif name in ("max_length", "no_cache", "priority", "exact_top_k"):
            setattr(request, name, value)
        else:
            raise TypeError("unknown argument %s; known are truncate, timeout, window, max_length, "
                            "truncate_left, no_cache, priority and exact_top_k" % name)


class _Result:
    """A result of the library, freed with this object: also where nobody waits for it any more."""

    def __init__(self, address: int) -> None:
        self._address, self._free = address, library().rr_result_free

    def __del__(self) -> None:
        self._free(self._address)

    def scores(self) -> Scores:
        """As Python objects."""
        r = s.rr_result.from_address(self._address)
        n = r.n_documents
        return Scores([Score(x.score, x.logit, x.tokens, x.truncated) for x in r.scores[:n]],
                      r.order[:n], r.tokens, r.n_cached)


_calling = threading.local()  # .back: this thread is an engine's, in a callback


def _close_here(handle: c.c_void_p, keep: Any) -> None:
    library().rr_close(handle)


def _close(handle: c.c_void_p, keep: Any, pid: int) -> None:
    """A child of fork has the memory, but none of the threads that closing would wait for.  Where
    the garbage collector runs in a callback, that is one of them."""
    if os.getpid() != pid:
        return
    if getattr(_calling, "back", False):
        threading.Thread(target=_close_here, args=(handle, keep)).start()
    else:
        _close_here(handle, keep)


class Engine:
    """A model that is open.  Any thread may use it; close it, or use it in a with statement."""

    def __init__(self, model: Union[str, "os.PathLike[str]"], *, device: Optional[str] = None,
                 dtype: Optional[str] = None, max_length: Optional[int] = None,
                 threads: Optional[int] = None, cache_bytes: int = 0,
                 rescore_dtype: Optional[str] = None) -> None:
        lib, err, handle = library(), s.rr_error(), c.c_void_p()
        options = s.rr_options()
        lib.rr_options_init_sized(c.byref(options), c.sizeof(options))
        options.model = os.fsencode(model)
        for name, value in (("device", device), ("dtype", dtype), ("rescore_dtype", rescore_dtype)):
            if value is not None:
                setattr(options, name, value.encode())
        options.max_length, options.threads = max_length or 0, threads or 0
        options.cache_bytes = cache_bytes
        # Who calls is in this process and waits: there is nobody to be refused.
        options.queue_tokens = options.queue_bytes = 1 << 62
        options.queue_requests = 1 << 30
        if lib.rr_open(c.byref(handle), c.byref(options), c.byref(err)):
            raise _error(err)
        self._handle: Optional[c.c_void_p] = handle
        self._lock = threading.RLock()  # held from a look at the handle to the end of its use
        self._jobs: Dict[int, _Job] = {}
        self._serial = itertools.count(1)
        jobs = self._jobs  # not self: the callback must not keep the engine alive

        def on_done(user: int, result: Optional[int], error: Any) -> None:
            _calling.back = True
            try:
                job = jobs.pop(user)
                if result:
                    job.done(_Result(result), None)
                else:
                    job.done(None, _error(error.contents))
            finally:
                _calling.back = False

        self._callback = s.rr_done_fn(on_done)
        self._pid = os.getpid()
        # The callback outlives the engine: closing finishes what was accepted.
        self._finalizer = weakref.finalize(self, _close, handle, self._callback, self._pid)

    def close(self) -> None:
        """Finishes what was accepted and frees the model.  May be called twice."""
        if self._pid == os.getpid():
            with self._lock:
                self._handle = None
        self._finalizer()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def info(self) -> Dict[str, Any]:
        """Model, device, limits, memory: the fields of struct rr_info."""
        with self._open() as handle:
            raw = library().rr_engine_info(handle).contents
            values = {name: getattr(raw, name) for name, *_ in s.rr_info._fields_}
        return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}

    def score(self, query: str, documents: Sequence[str], **choices: Any) -> Scores:
        """Scores documents and waits.  choices: truncate=False, timeout=seconds, max_length,
        window=(size, stride, pooling), truncate_left, no_cache, priority, exact_top_k."""
        return self.score_many([(query, documents)], **choices)[0]

    def score_many(self, requests: Sequence[Tuple[str, Sequence[str]]],
                   **choices: Any) -> List[Scores]:
        """Several requests at once, in the same batches; their results in the same order."""
        finished = threading.Semaphore(0)
        outcomes: List[Any] = [None] * len(requests)

        def done_for(i: int) -> Callable[..., None]:
            def done(result: Optional[_Result], error: Optional[RerankError]) -> None:
                outcomes[i] = result if error is None else error
                finished.release()
            return done

        failure: Optional[BaseException] = None
        submitted = 0
        for i, (query, documents) in enumerate(requests):
            try:
                self._submit(query, documents, done_for(i), choices)
                submitted += 1
            except BaseException as e:  # those before it have to be waited for
                failure = e
                break
        for _ in range(submitted):
            finished.acquire()
        results = [x.scores() if isinstance(x, _Result) else x for x in outcomes[:submitted]]
        failure = failure or next((x for x in results if isinstance(x, RerankError)), None)
        if failure is not None:
            raise failure
        return results

    async def ascore(self, query: str, documents: Sequence[str], **choices: Any) -> Scores:
        """As score, without holding up the event loop or a thread."""
        loop = asyncio.get_running_loop()
        future: "asyncio.Future[Scores]" = loop.create_future()

        def settle(result: Optional[_Result], error: Optional[RerankError]) -> None:
            if future.cancelled():
                return
            if error is not None:
                future.set_exception(error)
            elif result is not None:
                future.set_result(result.scores())

        def done(result: Optional[_Result], error: Optional[RerankError]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, result, error)

        self._submit(query, documents, done, choices)
        return await future

    @contextlib.contextmanager
    def _open(self) -> Iterator[c.c_void_p]:
        """The handle; another thread that closes the engine waits meanwhile."""
        if self._pid != os.getpid():
            raise RerankError("the engine was opened before fork, and its threads are not in this "
                              "process: open the model here", "RR_ECLOSED")
        with self._lock:
            if self._handle is None:
                raise RerankError("the engine is closed", "RR_ECLOSED")
            yield self._handle

    def _submit(self, query: str, documents: Sequence[str], done: Callable[..., None],
                choices: Dict[str, Any]) -> None:
        err = s.rr_error()
        job = _Job(query, documents, done)
        _choose(job.request, choices)
        with self._open() as handle:
            serial = next(self._serial)
            self._jobs[serial] = job
            if library().rr_submit(handle, c.byref(job.request), self._callback, serial, None,
                                   c.byref(err)):
                del self._jobs[serial]
                raise _error(err)

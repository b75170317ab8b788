# SPDX-License-Identifier: Apache-2.0
"""client.py - a client for the server: standard library, or httpx for asyncio."""
import asyncio
import http.client
import json
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .errors import ServerError

_AGAIN = (429, 503)


@dataclass(frozen=True)
class Result:
    """One document: its place in the input, its score, its text."""

    index: int
    score: float
    text: str


def _body(query: str, documents: Sequence[str], top_n: Optional[int],
          options: Dict[str, Any]) -> Dict[str, Any]:
    body = {**options, "query": query, "documents": list(documents), "return_documents": False}
    if top_n is not None:
        body["top_n"] = top_n
    return body


def _read(status: int, headers: Any, data: bytes, documents: Sequence[str]) -> List[Result]:
    """The results, or a ServerError with the server's own words."""
    if 200 <= status < 300:
        try:
            return [Result(x["index"], x["relevance_score"], documents[x["index"]])
                    for x in json.loads(data)["results"]]
        except (ValueError, KeyError, TypeError, IndexError) as e:
            raise ServerError("the answer is not a rerank reply: %r" % e, status) from e
    try:
        message = str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        message = data[:200].decode("utf-8", "replace")
    try:
        wait: Optional[float] = float(headers.get("Retry-After", ""))
    except ValueError:
        wait = None
    raise ServerError("status %d: %s" % (status, message), status, wait)


class _Common:
    def __init__(self, url: str, api_key: Optional[str], timeout: float, retries: int) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url: found %r, expected http://HOST:PORT" % url)
        self._parts = parts
        self._path = parts.path.rstrip("/") + "/v1/rerank"
        self._timeout, self._retries = timeout, retries
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = "Bearer " + api_key

    def _pause(self, e: ServerError, tried: int) -> Optional[float]:
        """How long to wait before the next try; None: no further one."""
        if e.status not in _AGAIN or tried >= self._retries:
            return None
        return min(e.retry_after if e.retry_after is not None else 0.5 * 2 ** tried, self._timeout)


class Reranker(_Common):
    """rank over HTTP; one connection per thread, kept open.  What is refused with 429 or 503 is tried
    again after the server's Retry-After, retries times."""

    def __init__(self, url: str = "http://localhost:8002", *, api_key: Optional[str] = None,
                 timeout: float = 60.0, retries: int = 2) -> None:
        super().__init__(url, api_key, timeout, retries)
        self._local = threading.local()

    def rank(self, query: str, documents: Sequence[str], top_n: Optional[int] = None,
             **options: Any) -> List[Result]:
        """Best first.  options: further keys of the request, such as score_threshold or window."""
        if not documents:
            return []
        data = json.dumps(_body(query, documents, top_n, options)).encode()
        tried = 0
        while True:
            try:
                return _read(*self._post(data), documents)
            except ServerError as e:
                pause = self._pause(e, tried)
                if pause is None:
                    raise
                tried += 1
                time.sleep(pause)

    def close(self) -> None:
        """Closes this thread's connection."""
        connection = self._local.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def __enter__(self) -> "Reranker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connection(self) -> Tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        old = getattr(self._local, "connection", None)
        if old is not None:
            return old, True
        kind = (http.client.HTTPSConnection if self._parts.scheme == "https"
                else http.client.HTTPConnection)
        self._local.connection = kind(str(self._parts.hostname), self._parts.port,
                                      timeout=self._timeout)
        return self._local.connection, False

    def _post(self, data: bytes) -> Tuple[int, Any, bytes]:
        while True:
            connection, used = self._connection()
            try:
                connection.request("POST", self._path, data, self._headers)
                answer = connection.getresponse()
                return answer.status, answer.headers, answer.read()
            except (http.client.HTTPException, OSError) as e:
                self.close()
                # The server closes connections that are silent for long: one more try, on a new one.
                if used and isinstance(e, (http.client.RemoteDisconnected, ConnectionError)):
                    continue
                raise ServerError("%s: %s" % (self._parts.netloc, e or type(e).__name__), 0) from e


class AsyncReranker(_Common):
    """The same for asyncio, with httpx."""

    def __init__(self, url: str = "http://localhost:8002", *, api_key: Optional[str] = None,
                 timeout: float = 60.0, retries: int = 2) -> None:
        super().__init__(url, api_key, timeout, retries)
        import httpx
        self._httpx = httpx
        self._client = httpx.AsyncClient(timeout=timeout, headers=self._headers)
        self._url = "%s://%s%s" % (self._parts.scheme, self._parts.netloc, self._path)

    async def rank(self, query: str, documents: Sequence[str], top_n: Optional[int] = None,
                   **options: Any) -> List[Result]:
        """As Reranker.rank."""
        if not documents:
            return []
        body = _body(query, documents, top_n, options)
        tried = 0
        while True:
            try:
                try:
                    r = await self._client.post(self._url, json=body)
                except self._httpx.HTTPError as e:
                    raise ServerError("%s: %s" % (self._parts.netloc, e), 0) from e
                return _read(r.status_code, r.headers, r.content, documents)
            except ServerError as e:
                pause = self._pause(e, tried)
                if pause is None:
                    raise
                tried += 1
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> "AsyncReranker":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

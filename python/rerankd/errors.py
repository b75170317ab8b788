# SPDX-License-Identifier: Apache-2.0
"""errors.py - what this package raises."""
from typing import Optional


class RerankError(Exception):
    """The library or the server said no; name is the library's ("RR_EBUSY"), or "" for a server's."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class ServerError(RerankError):
    """An answer other than 2xx, or none: then status is 0."""

    def __init__(self, message: str, status: int, retry_after: Optional[float] = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

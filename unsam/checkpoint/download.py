"""Weights from a path, a URL or the Hugging Face hub: kept in a cache, whole, and checked.

A URL's file lies in the cache under its host and path, so that it can also be put there by hand::

    ~/.cache/unsam/weights/HOST/PATH/file.pth          ($UNSAM_CACHE in place of ~/.cache/unsam)
    ~/.cache/unsam/weights/HOST/PATH/file.pth.sha256   its checksum, written at the first download

Files of the hub lie in the hub's own cache, and HF_HUB_OFFLINE is respected.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import logging
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from unsam.checkpoint.atomic import StorageError, atomic_writer, write_text_atomic
from unsam.errors import CheckpointError

TIMEOUT_SECONDS = 30.0
_CHUNK = 1 << 20
_HUB = "hf://"

logger = logging.getLogger(__name__)


def fetch_weights(source: str, sha256: str = "", cache_dir: str | None = None) -> Path:
    """Return the local path of a weights file, after a download if it has to be.

    Args:
        source: a path, a ``file://`` or ``http(s)://`` URL, or ``hf://owner/name/path/in/repo``.
        sha256: the file's checksum in hexadecimal. "" trusts the first download of a URL and then
            keeps to it, and takes local and hub files as they are.
        cache_dir: where downloads are kept; None takes ``$UNSAM_CACHE`` or ``~/.cache/unsam``
            (for the hub its own cache).

    Raises:
        CheckpointError: no such file, it cannot be downloaded, or its checksum differs. The text
            says what was tried and where to put the file by hand.
        StorageError: the cache cannot be written.
    """
    expected = sha256.strip().lower()
    if expected and not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise CheckpointError(f"SHA-256 '{sha256}': expected 64 hexadecimal digits")
    if not source:
        raise CheckpointError("no weights given; name a file, a URL or hf://owner/name/file")
    if source.startswith(_HUB):
        path = _from_hub(source, cache_dir)
    elif source.startswith(("http://", "https://")):
        return _from_url(source, expected, _cache_path(source, cache_dir))
    else:
        path = _local_path(source)
        if not path.is_file():
            raise CheckpointError(f"{source}: no such weights file")
    if expected:
        _check(path, _checksum(path), expected, "get the right file or mend the checksum")
    return path


def _local_path(source: str) -> Path:
    if source.startswith("file:"):
        return Path(urllib.request.url2pathname(urllib.parse.urlsplit(source).path))
    return Path(source).expanduser()


def _cache_path(url: str, cache_dir: str | None) -> Path:
    """Return where a URL's file is kept: its host and path, and a mark for its query if any."""
    root = cache_dir or os.environ.get("UNSAM_CACHE") or "~/.cache/unsam"
    parts = urllib.parse.urlsplit(url)
    names = [urllib.parse.unquote(name) for name in parts.path.split("/")]
    safe = [re.sub(r"[^\w.@+-]", "_", name) for name in names if name not in ("", ".", "..")]
    if not safe or not parts.hostname:
        raise CheckpointError(f"{url}: not the URL of a file")
    if parts.query:
        safe[-1] = f"{hashlib.sha256(parts.query.encode()).hexdigest()[:12]}-{safe[-1]}"
    host = parts.hostname if parts.port is None else f"{parts.hostname}_{parts.port}"
    return Path(root).expanduser().joinpath("weights", host, *safe)


def _from_url(url: str, expected: str, path: Path) -> Path:
    """Return the cached file of a URL, downloaded if it is not there or damaged."""
    if path.is_file() and _is_intact(path, expected):
        return path
    with _lock(path):
        # Another process may have brought it while this one waited.
        if path.is_file():
            if _is_intact(path, expected):
                return path
            logger.warning("%s: its checksum has changed; downloading it again", path)
        recorded = _recorded(path)
        checksum = _download(url, path, expected or recorded, given=bool(expected))
        write_text_atomic(_record(path), f"{checksum}\n")
    return path


def _is_intact(path: Path, expected: str) -> bool:
    """Tell whether a cached file has the right checksum; record that of one put there by hand."""
    checksum = _checksum(path)
    wanted = expected or _recorded(path)
    if not wanted:
        # A cache that others filled may be read-only.
        with contextlib.suppress(StorageError):
            write_text_atomic(_record(path), f"{checksum}\n")
    return not wanted or checksum == wanted


def _download(url: str, path: Path, wanted: str, *, given: bool) -> str:
    """Write a URL's file to `path`, whole and checked, and return its checksum."""
    logger.info("downloading %s to %s", url, path)
    request = urllib.request.Request(url, headers={"User-Agent": "unsam"})
    digest = hashlib.sha256()
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(url, path, error) from None
    with response, atomic_writer(path) as stream:
        size = 0
        for chunk in _chunks(response, url, path):
            digest.update(chunk)
            stream.write(chunk)
            size += len(chunk)
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) != size:
            raise CheckpointError(
                f"{url}: the connection ended after {size} of {announced} bytes; run it again"
            )
        checksum = digest.hexdigest()
        if wanted:
            remedy = (
                "mend the checksum or the URL"
                if given
                else f"the server's file has changed; delete {_record(path)} to accept it"
            )
            _check(url, checksum, wanted, remedy)
    return checksum


def _chunks(response: http.client.HTTPResponse, url: str, path: Path) -> Iterator[bytes]:
    """Yield a response's body; errors of the network must not pass for errors of the disk."""
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(url, path, error) from None
        if not chunk:
            return
        yield chunk


def _from_hub(source: str, cache_dir: str | None) -> Path:
    """Return a file of the Hugging Face hub, from its cache or downloaded."""
    from huggingface_hub import hf_hub_download

    parts = source.removeprefix(_HUB).split("/", 2)
    if len(parts) < 3 or not all(parts):
        raise CheckpointError(f"{source}: expected hf://owner/name/path/in/repo")
    owner, name, file = parts
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file, cache_dir=cache_dir))
    # A lost connection is an error of the HTTP library that the hub's client happens to use.
    except Exception as error:
        raise CheckpointError(
            f"{source}: cannot be had from the hub ({_reason(error)}); download {file} from "
            f"https://huggingface.co/{owner}/{name} by hand and give its path in place of {source}"
        ) from None


def _unreachable(url: str, path: Path, error: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{url}: cannot be downloaded ({_reason(error)}); get the file by hand, then put it at "
        f"{path} or give its path in place of the URL"
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return _reason(error.reason) if isinstance(error.reason, OSError) else str(error.reason)
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__


def _check(name: str | Path, checksum: str, wanted: str, remedy: str) -> None:
    if checksum != wanted:
        raise CheckpointError(f"{name}: SHA-256 is {checksum}, expected {wanted}; {remedy}")


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _recorded(path: Path) -> str:
    """Return the checksum of the first download, "" before it."""
    try:
        return _record(path).read_text(encoding="utf-8").strip().lower()
    except OSError:
        return ""


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Let one process at a time download a file, where the file system can lock."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(path.with_name(f".{path.name}.lock").open("w"))
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield

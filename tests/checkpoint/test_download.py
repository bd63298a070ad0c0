from __future__ import annotations

import hashlib
import http.server
import threading

import pytest

from unsam.checkpoint.download import fetch_weights
from unsam.errors import CheckpointError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        body = self.server.content
        self.wfile.write(body[: len(body) // 2] if self.path.startswith("/cut") else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.requests, running.content = [], CONTENT
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setenv("UNSAM_CACHE", str(folder))
    return folder


def files_in(folder):
    """The files that a user sees."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def leftovers(folder):
    return list(folder.rglob("*.tmp"))


def test_a_url_is_downloaded_once(server, cache):
    first = fetch_weights(f"{server.url}/models/net.pth", SHA256)
    second = fetch_weights(f"{server.url}/models/net.pth", SHA256.upper())
    assert first == second
    assert first.read_bytes() == CONTENT
    assert cache in first.parents
    assert first.parts[-2:] == ("models", "net.pth")
    assert server.requests == ["/models/net.pth"]


def test_other_folders_and_queries_are_other_files(server, tmp_path):
    paths = {
        fetch_weights(f"{server.url}/{name}", cache_dir=str(tmp_path / "elsewhere"))
        for name in ("a/net.pth", "b/net.pth", "a/net.pth?v=1", "a/net.pth?v=2", "../../net.pth")
    }
    assert len(paths) == 5
    assert all(tmp_path / "elsewhere" in path.parents for path in paths)
    assert not any(".." in path.parts for path in paths)


def test_a_wrong_checksum_keeps_nothing(server, cache):
    with pytest.raises(CheckpointError, match=f"SHA-256 is {SHA256}, expected {'0' * 64}"):
        fetch_weights(f"{server.url}/net.pth", "0" * 64)
    assert files_in(cache) == []
    assert leftovers(cache) == []


def test_a_cut_download_keeps_nothing_and_can_be_repeated(server, cache):
    with pytest.raises(CheckpointError, match=f"ended after .* of {len(CONTENT)} bytes|cannot be"):
        fetch_weights(f"{server.url}/cut.pth")
    assert files_in(cache) == []
    assert leftovers(cache) == []
    assert fetch_weights(f"{server.url}/net.pth").read_bytes() == CONTENT


def test_a_damaged_cache_is_downloaded_again(server):
    path = fetch_weights(f"{server.url}/net.pth")
    path.write_bytes(CONTENT[:-1])
    assert fetch_weights(f"{server.url}/net.pth") == path
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_what_the_first_download_gave_is_kept_to(server):
    path = fetch_weights(f"{server.url}/net.pth")
    server.content = CONTENT[::-1]
    path.unlink()
    with pytest.raises(CheckpointError, match=r"file has changed; delete .*net.pth.sha256"):
        fetch_weights(f"{server.url}/net.pth")
    path.with_name("net.pth.sha256").unlink()
    assert fetch_weights(f"{server.url}/net.pth").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("kind", ["404", "refused", "unknown host"])
def test_no_network_is_one_line_that_says_where_to_put_the_file(kind, server, cache):
    url = {
        "404": f"{server.url}/missing.pth",
        "refused": "http://127.0.0.1:1/net.pth",
        "unknown host": "http://nowhere.invalid/net.pth",
    }[kind]
    with pytest.raises(CheckpointError) as caught:
        fetch_weights(url)
    text = str(caught.value)
    assert "\n" not in text
    assert url in text
    assert ("HTTP 404" in text) == (kind == "404")
    place = text.split("put it at ")[1].split(" or give")[0]
    assert place.startswith(str(cache))
    # Doing as the line says works, and is remembered as a download is.
    with open(place, "wb") as stream:
        stream.write(CONTENT)
    assert fetch_weights(url).read_bytes() == CONTENT
    with open(place, "wb") as stream:
        stream.write(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        fetch_weights(url)


def test_processes_wait_for_each_others_download(server):
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(fetch_weights(f"{server.url}/net.pth")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1
    assert len(server.requests) == 1


def test_local_files_are_used_where_they_lie(tmp_path, cache):
    path = tmp_path / "own weights.pth"
    path.write_bytes(CONTENT)
    assert fetch_weights(str(path)) == path
    assert fetch_weights(path.as_uri(), SHA256) == path
    with pytest.raises(CheckpointError, match="SHA-256 is"):
        fetch_weights(str(path), "1" * 64)
    for source in (str(tmp_path / "nothing.pth"), (tmp_path / "nothing.pth").as_uri()):
        with pytest.raises(CheckpointError, match="no such weights file"):
            fetch_weights(source)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("source", "sha256", "text"),
    [
        ("", "", "no weights given"),
        ("net.pth", "abc", "expected 64 hexadecimal digits"),
        ("hf://owner/name", "", "expected hf://owner/name/path"),
        ("http:///net.pth", "", "not the URL of a file"),
        ("http://host/", "", "not the URL of a file"),
    ],
)
def test_sources_that_name_no_file(source, sha256, text):
    with pytest.raises(CheckpointError, match=text):
        fetch_weights(source, sha256)


def test_the_hub(tmp_path, monkeypatch):
    calls = []
    path = tmp_path / "blob"
    path.write_bytes(CONTENT)

    def download(repo, file, cache_dir):
        calls.append((repo, file, cache_dir))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert fetch_weights("hf://owner/name/sub/net.pth", SHA256) == path
    assert calls == [("owner/name", "sub/net.pth", None)]
    with pytest.raises(CheckpointError, match="SHA-256"):
        fetch_weights("hf://owner/name/sub/net.pth", "2" * 64)


def test_the_hub_without_a_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError) as caught:
        fetch_weights("hf://owner/name/sub/net.pth", cache_dir=str(tmp_path))
    text = str(caught.value)
    assert "\n" not in text
    assert "https://huggingface.co/owner/name by hand" in text


def test_a_connection_to_the_hub_that_breaks_is_one_line(monkeypatch):
    def download(*arguments, **options):
        raise RuntimeError("peer closed connection\nwithout sending complete message body")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    with pytest.raises(CheckpointError, match="peer closed") as caught:
        fetch_weights("hf://owner/name/sub/net.pth")
    assert "\n" not in str(caught.value)

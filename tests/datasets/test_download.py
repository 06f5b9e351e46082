import errno
import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace

import pytest

from skaudio._files import acquire_lock
from skaudio.datasets import _download, _fetch, fetch_esc50, fetch_fsdd, fetch_speech_commands

SIZE = 300_000


def make_archive():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("fsdd-1/recordings/7_ann_0.wav", bytes(SIZE))
    return buffer.getvalue()


CONTENT = make_archive()
KNOWN_HASH = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Send the archive as the last part of the address says."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            while self.server.sent < 64 << 20:
                self.wfile.write(bytes(1 << 16))
                self.server.sent += 1 << 16
            return
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.send_response(206 if start else 302 if self.path == "/moved" else 200)
        self.send_header("Location", "/archive")
        self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        claimed = 1 << 40 if self.path == "/boast" else len(CONTENT) - start
        self.send_header("Content-Length", str(claimed))
        self.end_headers()
        self.wfile.write(CONTENT[start : start + 100_000])
        self.wfile.flush()
        if self.path == "/slow":
            self.server.released.wait(20)
        self.wfile.write(CONTENT[start + 100_000 :])

    def handle(self):
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *args):
        """Stay quiet."""


@pytest.fixture
def server():
    """A running server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked, running.sent, running.released = [], 0, threading.Event()
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.released.set()
        running.shutdown()


def names(folder):
    """Kinds of what lies in a folder."""
    return sorted(path.suffix or "files" for path in folder.iterdir())


def test_http_is_refused_where_no_checksum_tells_the_right_file(tmp_path):
    message = r"url of fetch_fsdd must start with https:// unless .* got 'http://a\.b/c'\. Pass kn"
    with pytest.raises(ValueError, match=message):
        fetch_fsdd(tmp_path / "new", url="http://a.b/c")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("url", ["file:///etc/x", "ftp://a/b", "a.b/c", "C:\\x", "/x", "data:,x"])
def test_other_kinds_of_addresses_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match=r"url of fetch_esc50 must start with https://, got .* by"):
        fetch_esc50(tmp_path, url=url)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"url": 3}, "url of fetch_fsdd must be a str or None, got 3"),
        ({"known_hash": True}, "known_hash of fetch_fsdd must be a str or None, got True"),
        ({"folder": 1.5}, r"folder of fetch_fsdd must be a str or PathLike, got 1\.5"),
    ],
)
def test_arguments_of_another_kind_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        fetch_fsdd(**given)


@pytest.mark.parametrize(
    "known_hash", ["sha256:12", "12", "crc32:12345678", "sha256:" + "x" * 64, "0" * 63]
)
def test_checksums_that_are_none_are_refused(tmp_path, known_hash):
    message = rf"known_hash of fetch_speech_commands must be one of md5, .* got '{known_hash}'"
    with pytest.raises(ValueError, match=message):
        fetch_speech_commands(tmp_path, known_hash=known_hash)


@pytest.mark.parametrize("algorithm", ["", "md5:", "sha1:", "sha512:"])
def test_checksums_of_several_kinds_are_checked(tmp_path, server, algorithm):
    known = hashlib.new(algorithm[:-1] or "sha256", CONTENT).hexdigest()
    url = f"{server.url}/archive"
    known_hash = algorithm + known.upper()
    assert len(fetch_fsdd(tmp_path, url=url, known_hash=known_hash, progress=False)[0]) == 1
    with pytest.raises(ValueError, match=f"is {known}, not 0+"):
        fetch_fsdd(tmp_path, url=url, known_hash=algorithm + "0" * len(known), progress=False)


def test_a_way_that_leads_through_http_needs_a_checksum(tmp_path, server):
    url = f"{server.url}/moved"
    with pytest.raises(
        ConnectionError, match=rf"{url}: it leads to {url}, where only a known_hash"
    ):
        _download._download(url, tmp_path / "x", 1 << 20, checksum=None, progress=False)
    assert not (tmp_path / "x").exists()
    fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)
    assert [path for path, _ in server.asked[1:]] == ["/archive", "/moved", "/archive"]


@pytest.mark.parametrize("path", ["endless", "boast"])
def test_a_server_that_sends_too_much_is_left(tmp_path, server, monkeypatch, path):
    monkeypatch.setattr(_fetch, "_FSDD", replace(_fetch._FSDD, max_bytes=1 << 20))
    with pytest.raises(ValueError, match="it has more than 1048576 bytes"):
        fetch_fsdd(tmp_path, url=f"{server.url}/{path}", known_hash=KNOWN_HASH, progress=False)
    assert not list(tmp_path.iterdir())
    assert server.sent < 32 << 20


def test_a_full_disk_keeps_what_arrived(tmp_path, server):
    resource = pytest.importorskip("resource", reason="sizes of files can be limited on Unix only")
    url, before = f"{server.url}/archive", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"fetch_fsdd could not write to .*: File too large\. Wh"):
            fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == [".part"]
    assert len(fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)[0]) == 1
    assert int(server.asked[1][1][6:-1]) > 100_000
    assert names(tmp_path) == ["files"]


def start(folder, url):
    """Fetch in another process."""
    code = f"from skaudio.datasets import *; print(len(fetch_fsdd({str(folder)!r}, url={url!r}, " \
           f"known_hash={KNOWN_HASH!r}, progress=False)[0]))"  # fmt: skip
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


def wait_for(condition):
    """Wait up to 60 s for a condition."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_what_the_next_goes_on_from(tmp_path, server):
    with start(tmp_path, f"{server.url}/slow") as process:
        wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob("*.part")))
        process.kill()
    assert set(names(tmp_path)) <= {".lock", ".part"}
    url = f"{server.url}/archive"
    assert len(fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)[0]) == 1
    assert int(server.asked[1][1][6:-1]) > 0
    assert names(tmp_path) == ["files"]


def test_a_process_that_was_killed_while_unpacking_is_tidied_up_after(tmp_path, server):
    stem = tmp_path / f"fsdd-{KNOWN_HASH[7:23]}"
    stem.with_suffix(".archive").write_bytes(CONTENT)
    (stem.with_suffix(".unpacking") / "fsdd-1" / "recordings").mkdir(parents=True)
    (stem.with_suffix(".unpacking") / "fsdd-1" / "recordings" / "8_x_0.wav").touch()
    paths, labels, _ = fetch_fsdd(tmp_path, url=server.url, known_hash=KNOWN_HASH, progress=False)
    assert list(labels) == ["7"]
    assert not server.asked
    assert names(tmp_path) == ["files"]


@pytest.mark.slow
def test_of_several_processes_one_downloads(tmp_path, server):
    url = f"{server.url}/slow"
    with start(tmp_path, url) as first, start(tmp_path, url) as second:
        wait_for(lambda: server.asked)
        results = []
        thread = threading.Thread(
            target=lambda: results.append(
                fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)
            )
        )
        thread.start()
        time.sleep(0.5)
        server.released.set()
        assert first.communicate()[0].strip() == second.communicate()[0].strip() == b"1"
        thread.join()
    assert len(results[0][0]) == len(server.asked) == 1
    assert names(tmp_path) == ["files"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_without_locks_takes_a_download_and_warns_once(
    tmp_path, server, monkeypatch, code
):
    def fail(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", fail)
    url = f"{server.url}/archive"
    (tmp_path / f"fsdd-{KNOWN_HASH[7:23]}.lock").touch()  # of a soft lock, of a killed process
    with pytest.warns(UserWarning, match=rf"without locks \({os.strerror(code)}\)") as record:
        paths, _, _ = fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)
    assert [len(paths), len(record), record[0].filename] == [1, 1, __file__]
    assert names(tmp_path) == ["files"]


def test_a_download_that_another_process_never_ends_is_waited_for_with_a_limit(
    tmp_path, server, monkeypatch
):
    monkeypatch.setattr(_download, "LOCK_TIMEOUT", 0.1)
    lock = acquire_lock(tmp_path / f"fsdd-{KNOWN_HASH[7:23]}.lock", 0)
    with pytest.raises(TimeoutError, match=r"fetch_fsdd has waited .* remove .*\.lock if there"):
        fetch_fsdd(tmp_path, url=server.url, known_hash=KNOWN_HASH, progress=False)
    assert not server.asked
    lock.release()


def test_a_data_set_that_lost_a_part_says_what_to_remove(tmp_path, server):
    fetch_fsdd(tmp_path, url=f"{server.url}/archive", known_hash=KNOWN_HASH, progress=False)
    (folder,) = tmp_path.iterdir()
    (folder / "fsdd-1" / "recordings").rename(folder / "moved")
    with pytest.raises(ValueError, match=rf"recordings in .*{folder.name}.*remove that folder"):
        fetch_fsdd(tmp_path, url=f"{server.url}/archive", known_hash=KNOWN_HASH, progress=False)

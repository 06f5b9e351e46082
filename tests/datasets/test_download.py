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

import pytest

from skaudio.datasets import fetch_esc50, fetch_fsdd, fetch_speech_commands

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
        self.server.asked.append(self.path)
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100_000])
        self.wfile.flush()
        if self.path == "/broken":
            self.close_connection = True
            return
        if self.path == "/slow":
            self.server.released.wait(20)
        self.wfile.write(CONTENT[100_000:])

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
        running.asked, running.released = [], threading.Event()
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
    "known_hash", ["sha256:12", "12", "crc32:12345678", "crc32:" + "0" * 32, "sha256:" + "x" * 64]
)
def test_checksums_that_are_none_are_refused(tmp_path, known_hash):
    message = rf"known_hash of fetch_speech_commands must be md5, .* got '{known_hash}'"
    with pytest.raises(ValueError, match=message):
        fetch_speech_commands(tmp_path, known_hash=known_hash)


@pytest.mark.parametrize("algorithm", ["", "md5:", "sha1:", "sha512:"])
def test_checksums_of_several_kinds_are_checked(tmp_path, server, algorithm):
    known = hashlib.new(algorithm[:-1] or "sha256", CONTENT).hexdigest()
    url = f"{server.url}/archive"
    known_hash = algorithm + known.upper()
    assert len(fetch_fsdd(tmp_path, url=url, known_hash=known_hash, progress=False)[0]) == 1
    with pytest.raises(ValueError, match=rf"expected .*0+ but got {known}"):
        fetch_fsdd(tmp_path, url=url, known_hash=algorithm + "0" * len(known), progress=False)


@pytest.mark.parametrize(
    ("path", "message"), [("missing", "404"), ("broken", "IncompleteRead|broken")]
)
def test_a_download_that_fails_names_the_address_and_leaves_nothing(
    tmp_path, server, path, message
):
    url = f"{server.url}/{path}"
    with pytest.raises(ConnectionError, match=rf"Could not download {url}: .*({message})"):
        fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)
    assert names(tmp_path) == [".lock"]


def test_a_server_that_is_not_there_is_a_connection_error(tmp_path):
    url = "http://127.0.0.1:9/archive"
    with pytest.raises(ConnectionError, match=rf"Could not download {url}: .*refused.*retry"):
        fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, server):
    resource = pytest.importorskip("resource", reason="sizes of files can be limited on Unix only")
    url, before = f"{server.url}/archive", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"fetch_fsdd could not write to .*: File too large\. Ma"):
            fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == [".lock"]
    assert len(fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)[0]) == 1
    assert names(tmp_path) == [".lock", "files"]


def test_an_archive_that_does_not_fit_on_the_disk_is_named(tmp_path, server, monkeypatch):
    def fail(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zipfile.ZipFile.extractall", fail)
    with pytest.raises(OSError, match=r"fetch_fsdd could not write to .*: No space left.*Make ro"):
        fetch_fsdd(tmp_path, url=f"{server.url}/archive", known_hash=KNOWN_HASH, progress=False)
    assert names(tmp_path) == [".lock"]


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
def test_what_a_killed_process_leaves_is_removed_by_the_next(tmp_path, server):
    with start(tmp_path, f"{server.url}/slow") as process:
        wait_for(lambda: any(path.stat().st_size for path in tmp_path.glob("*.part/*")))
        process.kill()
    assert names(tmp_path) == [".lock", ".part"]
    url = f"{server.url}/archive"
    assert len(fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)[0]) == 1
    assert names(tmp_path) == [".lock", "files"]


def test_files_of_a_process_that_was_killed_while_extracting_are_not_used(tmp_path, server):
    left = tmp_path / f"fsdd-{KNOWN_HASH[7:23]}.part" / "files" / "fsdd-1" / "recordings"
    left.mkdir(parents=True)
    (left / "8_x_0.wav").touch()
    url = f"{server.url}/archive"
    assert list(fetch_fsdd(tmp_path, url=url, known_hash=KNOWN_HASH, progress=False)[1]) == ["7"]
    assert names(tmp_path) == [".lock", "files"]


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
    assert names(tmp_path) == [".lock", "files"]


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
    assert names(tmp_path) == [".lock", "files"]


def test_a_data_set_that_lost_a_part_says_what_to_remove(tmp_path, server):
    fetch_fsdd(tmp_path, url=f"{server.url}/archive", known_hash=KNOWN_HASH, progress=False)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (folder / "fsdd-1" / "recordings").rename(folder / "moved")
    with pytest.raises(ValueError, match=rf"recordings in .*{folder.name}.*remove that folder"):
        fetch_fsdd(tmp_path, url=f"{server.url}/archive", known_hash=KNOWN_HASH, progress=False)

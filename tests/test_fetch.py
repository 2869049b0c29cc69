"""Downloads from a host that misbehaves, archives by strangers, and citations of exactly what was used."""

import hashlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

import emgfm.files.archives as archives
import emgfm.store.fetch as fetching
from emgfm.core.catalog import CARDS, Source, by_licence, card, cite, tex
from emgfm.core.schema import DataError
from emgfm.files.archives import Limits, read_archive, unpack
from emgfm.lookalike.write import writer
from emgfm.store.cite import bibtex, used
from emgfm.store.fetch import LEDGER, Remote, Web, download, fetch, remote_files

DATA = b"time,TA\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(20_000))


def md5(data: bytes) -> str:
    return "md5:" + hashlib.md5(data).hexdigest()


# --- a host that misbehaves

@dataclass
class Page:
    "What a path answers; lists are used up from the left, one entry a visit"
    body: bytes = b""
    statuses: list[int] = field(default_factory=list)  # before it is good
    cuts: list[int] = field(default_factory=list)  # bytes after which the connection ends
    ranges: bool = True
    shift: int = 0  # a range begins that many bytes too late
    headers: dict = field(default_factory=dict)
    entries: list | None = None  # a listing
    at_most: int = 10  # entries a page, whatever is asked for
    pages: bool = True  # False: every page is the first


class Host(ThreadingHTTPServer):
    "Serves pages and remembers who asked for what"
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages, self.asked = {}, []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def ranges(self, path: str) -> list[str]:
        "The Range headers with which a path was asked for"
        return [r for p, r in self.asked if p == path]

    def handle_error(self, request, client_address):
        "A client that hangs up on a broken answer is no news; anything else is"
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = urlsplit(self.path)
        page, start = self.server.pages.get(parts.path), self.headers.get("Range")
        self.server.asked.append((parts.path, start))
        if page is None or page.statuses:
            return self.answer(
                404 if page is None else page.statuses.pop(0), b"", page.headers if page else {}
            )
        body = page.body if page.entries is None else self.listing(page, parse_qs(parts.query))
        tag = page.headers.get("ETag")
        if start and page.ranges and self.headers.get("If-Range") in (None, tag):
            at = int(re.fullmatch(r"bytes=(\d+)-", start)[1]) + page.shift
            if at >= len(body):
                return self.answer(416, b"", {})
            self.answer(
                206,
                body[at:],
                page.headers | {"Content-Range": f"bytes {at}-{len(body) - 1}/{len(body)}"},
                page.cuts,
            )
        else:
            self.answer(200, body, page.headers, page.cuts)

    def listing(self, page: Page, query: dict) -> bytes:
        "One page of a listing"
        at = (int(query.get("page", ["1"])[0]) - 1) * page.at_most if page.pages else 0
        return json.dumps(page.entries[at:at + page.at_most]).encode()

    def answer(self, status: int, body: bytes, headers: dict, cuts: list[int] | tuple = ()):
        self.send_response(status)
        for k, v in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(k, v)
        self.end_headers()
        cut = cuts.pop(0) if cuts else None
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None

    def log_message(self, *args):
        pass


@pytest.fixture
def host():
    h = Host()
    threading.Thread(target=h.serve_forever, kwargs=dict(poll_interval=0.02), daemon=True).start()
    yield h
    h.shutdown()
    h.server_close()


@pytest.fixture
def waits():
    "Pauses that were asked for, in seconds"
    return []


@pytest.fixture
def web(waits):
    "A visitor that notes its pauses instead of taking them"
    return Web(tries=3, sleep=waits.append, timeout=(5, 5))


def get(
    host,
    web,
    root,
    page: Page,
    checksum: str | None = None,
    size: int | None = len(DATA),
    name="walk.csv",
) -> bytes:
    "Download one file; its bytes"
    host.pages.setdefault("/f", page)
    download(
        Remote(name, host.url + "/f", size, md5(DATA) if checksum is None else checksum),
        root,
        web,
        "hu",
        progress=False,
    )
    return (root / name).read_bytes()


def refusal(f, *args, **kwargs) -> str:
    "The sentence with which something is refused"
    with pytest.raises(DataError) as e:
        f(*args, **kwargs)
    assert "\n" not in str(e.value)
    return str(e.value)


def tree(root: Path) -> dict[str, bytes]:
    "All files below a folder but the lock and the ledger"
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*"))
            if p.is_file() and p.name not in ("lock", LEDGER)}


# --- one file

def test_cut_connections_are_continued(host, web, waits, tmp_path):
    assert (
        get(host, web, tmp_path, Page(DATA, cuts=[1000, 70_000], headers={"ETag": '"1"'})) == DATA
    )
    assert host.ranges("/f") == [None, "bytes=1000-", "bytes=71000-"] and waits == [2, 4]


def test_it_goes_on_in_another_process(host, web, tmp_path):
    host.pages["/f"] = Page(DATA, cuts=[60_000, 0, 0])
    told = refusal(get, host, web, tmp_path, Page())
    assert (
        "breaks off after 60,000 of" in told
        and "goes on" in told
        and set(tree(tmp_path)) == {".fetch/walk.csv.part"}
    )
    assert get(host, Web(tries=1), tmp_path, Page()) == DATA
    assert host.ranges("/f")[-1] == "bytes=60000-" and tree(tmp_path) == {"walk.csv": DATA}


def test_a_host_without_ranges(host, web, tmp_path):
    assert get(host, web, tmp_path, Page(DATA, cuts=[70_000], ranges=False)) == DATA
    assert host.ranges("/f") == [None, "bytes=70000-"]


def test_a_range_that_begins_elsewhere_is_not_glued_on(host, web, tmp_path):
    host.pages["/f"] = Page(DATA, cuts=[70_000], shift=7)
    assert get(host, web, tmp_path, Page()) == DATA
    assert host.ranges("/f") == [None, "bytes=70000-", None]


def test_a_file_that_changes_meanwhile_is_not_glued_on(host, web, tmp_path):
    "Without a checksum only the host's tag tells"
    new = DATA.replace(b"time", b"TIME")
    host.pages["/f"] = Page(DATA, cuts=[70_000], headers={"ETag": '"old"'})
    refusal(get, host, Web(tries=1), tmp_path, Page(), checksum="")
    host.pages["/f"] = Page(new, headers={"ETag": '"new"'})
    assert get(host, web, tmp_path, Page(), checksum="") == new


def test_without_checksum_and_tag_it_begins_anew(host, web, tmp_path):
    host.pages["/f"] = Page(DATA, cuts=[70_000])
    refusal(get, host, Web(tries=1), tmp_path, Page(), checksum="")
    host.asked.clear()
    assert get(host, web, tmp_path, Page(), checksum="") == DATA
    assert host.ranges("/f") == [None]


def test_a_wrong_hash_is_told_and_nothing_kept(host, web, tmp_path):
    other = DATA[:-2] + b"!\n"
    assert "another checksum" in refusal(get, host, web, tmp_path, Page(other))
    assert not tree(tmp_path) and host.ranges("/f") == [None, None], "tried twice, from the start"


def test_a_spoiled_part_is_found_by_the_hash(host, web, tmp_path):
    part = tmp_path / ".fetch/walk.csv.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 500)
    assert get(host, web, tmp_path, Page(DATA)) == DATA
    assert host.ranges("/f") == ["bytes=500-", None]


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html><title>Log in</title>", b'{"message": "Not found", "code": 404}', b""]
)
@pytest.mark.parametrize("size", [None, 1000])
def test_a_page_with_status_200_is_no_data(host, web, tmp_path, body, size):
    page = Page(body, headers={"Content-Type": "text/html"} if b"html" in body else {})
    assert re.search(
        "web page|answer|empty|states",
        refusal(get, host, web, tmp_path, page, checksum="", size=size),
    )
    assert not tree(tmp_path)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(host, web, waits, tmp_path, status):
    page = Page(DATA, statuses=[status, status], headers={"Retry-After": "7"})
    assert get(host, web, tmp_path, page) == DATA and waits == [7, 7]


def test_pauses_grow_and_end(host, web, waits, tmp_path):
    assert "status 500, 3 tries" in refusal(
        get, host, web, tmp_path, Page(DATA, statuses=[500] * 9)
    )
    assert waits == [1, 2, 4] and not tree(tmp_path)


@pytest.mark.parametrize(
    ("status", "means"), [(404, "is not there"), (401, "asks for a login"), (403, "refuses access")]
)
def test_what_does_not_pass_is_told_at_once(host, web, waits, tmp_path, status, means):
    host.pages["/f"] = Page(DATA, statuses=[status])
    assert means in refusal(get, host, web, tmp_path, Page()) and not waits
    assert get(host, web, tmp_path, Page()) == DATA, "and a later call is good"


def test_a_circle_of_redirects_ends(host, web, tmp_path):
    host.pages["/f"] = Page(statuses=[302] * 99, headers={"Location": host.url + "/f"})
    assert "circle" in refusal(get, host, web, tmp_path, Page())
    assert len(host.asked) <= 12


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_another_size_than_listed(host, web, tmp_path, size):
    assert f"the listing states {size:,}" in refusal(
        get, host, web, tmp_path, Page(DATA), size=size
    )
    assert not tree(tmp_path)


def test_a_longer_answer_without_a_length_is_cut_short(host, web, tmp_path):
    class Endless(Handler):
        protocol_version = "HTTP/1.0"

        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(DATA)

    host.RequestHandlerClass = Endless
    assert "longer than" in refusal(get, host, web, tmp_path, Page(), size=len(DATA))
    assert not tree(tmp_path)


def test_nothing_is_overwritten(host, web, tmp_path):
    (tmp_path / "walk.csv").write_text("mine")
    assert "not overwritten" in refusal(get, host, web, tmp_path, Page(DATA))
    assert tree(tmp_path) == {"walk.csv": b"mine"}


def test_a_full_disk_is_one_sentence(host, web, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching.Resume, "_take", full)
    assert "No space left" in refusal(get, host, web, tmp_path, Page(DATA))


def test_a_link_on_the_way_is_not_followed(host, web, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/door").symlink_to(tmp_path)
    assert "through a link" in refusal(
        get, host, web, tmp_path / "root", Page(DATA), name="door/walk.csv"
    )
    assert not (tmp_path / "walk.csv").exists()


# --- listings

def figshare_entry(k: int, **changes) -> dict:
    return (
        dict(id=k, name=f"AB{k}.zip", size=k, download_url=f"http://x/{k}", computed_md5="0" * 32)
        | changes
    )


def test_pages_of_ten_are_turned(host, web):
    host.pages["/v2/articles/5362627/files"] = Page(
        entries=[figshare_entry(k) for k in range(1, 24)]
    )
    found = remote_files(card("hu"), web, apis={"figshare": host.url + "/v2"})
    assert [f.bytes for f in found] == list(range(1, 24))


def test_a_host_that_knows_no_pages_ends(host, web):
    host.pages["/v2/articles/5362627/files"] = Page(
        entries=[figshare_entry(k) for k in range(1, 8)], pages=False
    )
    assert len(remote_files(card("hu"), web, apis={"figshare": host.url + "/v2"})) == 7


def test_a_collection_has_articles_and_articles_have_files(host, web):
    c = card("siat")
    host.pages["/v2/collections/6271164/articles"] = Page(
        entries=[dict(id=a) for a in range(100, 112)]
    )
    for a in range(100, 112):
        host.pages[f"/v2/articles/{a}/files"] = Page(
            entries=[figshare_entry(a + k / 10, name=f"{a}_{k}.csv") for k in range(11)]
        )
    assert len(remote_files(c, web, apis={"figshare": host.url + "/v2"})) == 132


def test_criekinges_averages_have_the_names_of_the_strides(host, web):
    names = [n for s in card("criekinge").sources for n in s.sizes]
    entries = [
        figshare_entry(k, name=n, size=size)
        for k, (n, b) in enumerate(names)
        for size in (b, 5_000_000)
    ]
    host.pages["/v2/collections/6503791/articles"] = Page(entries=[dict(id=1), dict(id=2)])
    host.pages["/v2/articles/1/files"] = Page(
        entries=[dict(e, id=k) for k, e in enumerate(entries)]
    )
    host.pages["/v2/articles/2/files"] = Page(
        entries=[figshare_entry(9, name="138_HealthyPiG.zip")]
    )
    found = remote_files(card("criekinge"), web, apis={"figshare": host.url + "/v2"})
    assert {(f.name, f.bytes) for f in found} == set(names)
    host.pages["/v2/articles/1/files"].entries[0]["size"] += 1
    assert "which is meant is not known" in refusal(
        remote_files, card("criekinge"), web, (), {"figshare": host.url + "/v2"}
    )


@pytest.mark.parametrize(
    "name", ["../../x.mat", "/etc/x.mat", "C:\\x.mat", "a/../../x.mat", "..\\x.mat", "", "x\0.mat"]
)
def test_names_that_lead_out_are_refused(host, web, name):
    host.pages["/v2/articles/5362627/files"] = Page(entries=[figshare_entry(1, name=name)])
    assert "not to be trusted" in refusal(
        remote_files, card("hu"), web, (), {"figshare": host.url + "/v2"}
    )


@pytest.mark.parametrize(
    "answer", [b"<html>", b'{"message": "rate limited"}', b'[{"id": 1}]', b'["a"]']
)
def test_another_answer_than_a_listing(host, web, answer):
    host.pages["/v2/articles/5362627/files"] = Page(answer)
    assert "expected" in refusal(remote_files, card("hu"), web, (), {"figshare": host.url + "/v2"})


def test_mendeley_has_folders(host, web):
    entry = lambda n: dict(
        filename=n,
        content_details=dict(download_url="http://x/" + n, size=5, sha256_hash="AB" * 32),
    )
    for part in ("fcgm3chfff", "k9kvm5tn3f", "jj3r5f9pnf"):
        host.pages[f"/api/datasets/{part}/folders/2"] = Page(
            json.dumps(
                [dict(id="b", name="inner", parent_id="a"), dict(id="a", name=part)]
            ).encode()
        )
        host.pages[f"/api/datasets/{part}/files"] = Page(json.dumps([entry("x.mat")]).encode())
    found = remote_files(card("camargo"), web, apis={"mendeley": host.url + "/api"})
    assert [f.name for f in found if "k9" in f.name] == [
        "k9kvm5tn3f/inner/x.mat",
        "k9kvm5tn3f/x.mat",
    ]
    assert "x.mat" in {f.name for f in found} and {f.checksum for f in found} == {
        "sha256:" + "ab" * 32
    }


def test_github_and_its_own_hash(host, web, tmp_path):
    body = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\0" * 40
    sha = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
    at = "/repos/antoinefalisse/3dpredictsim/contents/ExperimentalData"
    file = dict(
        type="file",
        name="ExperimentalData.mat",
        path="ExperimentalData/ExperimentalData.mat",
        size=len(body),
        sha=sha,
        download_url=host.url + "/raw",
    )
    host.pages |= {
        "/raw": Page(body),
        at: Page(json.dumps([file, dict(file, type="dir", path="ExperimentalData/more")]).encode()),
        at + "/more": Page(json.dumps([dict(file, path="ExperimentalData/more/b.txt")]).encode()),
    }
    (f,) = remote_files(card("falisse2019"), web, apis={"github": host.url})
    assert (f.name, f.checksum) == ("ExperimentalData.mat", f"git:{sha}")
    download(f, tmp_path, web, progress=False)
    assert tree(tmp_path) == {"ExperimentalData.mat": body}
    assert "another checksum" in refusal(
        download, replace(f, checksum="git:" + "0" * 40), tmp_path / "b", web, progress=False
    )


def test_zenodo_releases_and_single_files(host, web):
    host.pages["/records/12"] = Page(
        json.dumps(
            dict(
                files=[
                    dict(
                        key="a.zip",
                        size=3,
                        checksum="md5:" + "A" * 32,
                        links=dict(self="http://x/a"),
                    )
                ]
            )
        ).encode()
    )
    host.pages["/repos/o/r/releases/tags/v1"] = Page(
        json.dumps(
            dict(
                assets=[
                    dict(
                        name="b.zip",
                        size=4,
                        browser_download_url="http://x/b",
                        digest="sha256:" + "b" * 64,
                    )
                ]
            )
        ).encode()
    )
    c = replace(card("hu"), sources=(Source("zenodo", "12"), Source("github", "o/r/releases/v1"),
                                     Source("direct", "https://x.org/files/c.zip?download=1")))
    found = remote_files(c, web, apis={"zenodo": host.url, "github": host.url})
    assert [(f.name, f.bytes, f.checksum[:8]) for f in found] == [
        ("a.zip", 3, "md5:aaaa"), ("b.zip", 4, "sha256:b"), ("c.zip", None, "")]


# --- a whole dataset

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Look-alikes of the one real person's dataset, and of Lencioni's, as hosts have them"
    root = tmp_path_factory.mktemp("made")
    writer("lencioni")(root / "lencioni", people=2)
    (root / "parts").mkdir()
    for k, p in enumerate(sorted((root / "lencioni").rglob("*.mat"))):
        with zipfile.ZipFile(root / f"parts/part{k}.zip", "w", zipfile.ZIP_DEFLATED) as z:
            z.write(p, f"All_Subjects/{p.name}")
    return root


@pytest.fixture
def lencioni(host, made, monkeypatch):
    "Lencioni's collection at the host, of two people"
    entries = []
    for k, p in enumerate(sorted((made / "parts").iterdir())):
        host.pages[f"/files/{k}"] = Page(p.read_bytes())
        entries.append(
            figshare_entry(
                k,
                name=p.name,
                size=p.stat().st_size,
                download_url=f"{host.url}/files/{k}",
                computed_md5=hashlib.md5(p.read_bytes()).hexdigest(),
            )
        )
    host.pages["/collections/4494755/articles"] = Page(entries=[dict(id=1)])
    host.pages["/articles/1/files"] = Page(entries=entries)
    monkeypatch.setitem(CARDS, "lencioni", replace(card("lencioni"), subjects=2))
    return dict(apis={"figshare": host.url}, progress=False, echo=lambda s: None)


def test_fetch_asks_gets_unpacks_and_reads(host, web, lencioni, tmp_path):
    said, asked = [], []
    got = fetch(
        "lencioni",
        tmp_path,
        ask=lambda q: asked.append(q) or "y",
        **lencioni | dict(web=web, echo=said.append),
    )
    assert got.ok and got.people == ["Subject1", "Subject2"] and "2 of 2 people" in str(got)
    assert (
        len(asked) == 1
        and "CC-BY-4.0" in said[0]
        and "@article{lencioni" in said[0]
        and "2 of 2 files" in said[1]
    )
    host.asked.clear()
    again = fetch("lencioni", tmp_path, ask=pytest.fail, **lencioni | dict(web=web))
    assert again.ok and not [p for p, _ in host.asked if p.startswith("/files")], (
        "the second call verifies"
    )
    slim = fetch(
        "lencioni", tmp_path, keep_archives=False, ask=pytest.fail, **lencioni | dict(web=web)
    )
    assert (
        slim.ok
        and set(slim.files.values()) == {"unpacked"}
        and not list((tmp_path / "lencioni").glob("*.zip"))
    )
    assert fetch("lencioni", tmp_path, ask=pytest.fail, **lencioni | dict(web=web)).ok
    assert not [p for p, _ in host.asked if p.startswith("/files")], (
        "deleted archives are not fetched again"
    )


@pytest.mark.parametrize("answer", ["", "n", "no", None])
def test_nothing_is_downloaded_without_a_yes(host, web, lencioni, tmp_path, answer):
    def ask(question):
        if answer is None:
            raise EOFError
        return answer

    got = fetch("lencioni", tmp_path, ask=ask, **lencioni | dict(web=web))
    assert not got.ok and "nobody agreed" in got.problems[0] and not list(tmp_path.iterdir())


def test_one_broken_file_does_not_stop_the_others(host, web, lencioni, tmp_path):
    good = host.pages["/files/0"].body
    host.pages["/files/0"] = Page(good, cuts=[5000, 0, 0, 0])
    got = fetch("lencioni", tmp_path, yes=True, **lencioni | dict(web=web))
    assert got.people == ["Subject2"] and any(
        "part0.zip" in p and "breaks off" in p for p in got.problems
    )
    assert any("1 of 2 people are missing" in p for p in got.problems)
    assert fetch("lencioni", tmp_path, yes=True, **lencioni | dict(web=web)).ok
    assert host.ranges("/files/0")[-1] == "bytes=5000-"


def test_a_part_may_be_enough(host, web, lencioni, tmp_path):
    got = fetch("lencioni", tmp_path, yes=True, only=["part1*"], **lencioni | dict(web=web))
    assert got.ok and got.people == ["Subject2"] and not host.ranges("/files/0")


def test_a_redirect_away_from_encryption_is_refused(web, tmp_path):
    getter = fetching.Resume(web, Remote("a.csv", "https://x.org/a.csv", 5), tmp_path / "a.part")
    answer = lambda url: SimpleNamespace(url=url, headers={"Content-Length": "5"})
    assert "not encrypted" in refusal(getter._judge, answer("http://x.org/a.csv"), 0)
    getter._judge(answer("https://cdn.x.org/a.csv"), 0)


def test_verify_finds_what_changed(host, web, lencioni, tmp_path):
    assert fetch("lencioni", tmp_path, yes=True, **lencioni | dict(web=web)).ok
    check = lambda: fetch("lencioni", tmp_path, verify=True, ask=pytest.fail, **lencioni).problems
    assert not check()
    file = tmp_path / "lencioni/All_Subjects/Subject1.mat"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert any("another sha256" in p and "Subject1.mat" in p for p in check())
    file.unlink()
    assert any("is missing" in p and "Subject1.mat" in p for p in check())
    file.write_bytes(whole)
    assert not check()


def test_a_file_in_the_way_is_not_replaced(host, web, lencioni, tmp_path):
    (tmp_path / "lencioni").mkdir()
    (tmp_path / "lencioni/part0.zip").write_bytes(b"PK mine")
    got = fetch("lencioni", tmp_path, yes=True, **lencioni | dict(web=web))
    assert any("move it away" in p for p in got.problems)
    assert (tmp_path / "lencioni/part0.zip").read_bytes() == b"PK mine"


def test_a_file_that_was_there_already_counts(host, web, lencioni, made, tmp_path):
    (tmp_path / "lencioni").mkdir()
    (tmp_path / "lencioni/part0.zip").write_bytes((made / "parts/part0.zip").read_bytes())
    assert fetch("lencioni", tmp_path, yes=True, **lencioni | dict(web=web)).ok and not host.ranges(
        "/files/0"
    )


def test_a_new_version_at_the_host_is_told(host, web, lencioni, tmp_path):
    assert fetch("lencioni", tmp_path, yes=True, **lencioni | dict(web=web)).ok
    host.pages["/articles/1/files"].entries[0]["computed_md5"] = "f" * 32
    assert (
        "has changed at the host"
        in fetch("lencioni", tmp_path, yes=True, **lencioni | dict(web=web)).problems[0]
    )


def test_too_little_room_is_told_before(host, web, lencioni, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "free_space", lambda p: 1000)
    assert "make room" in refusal(fetch, "lencioni", tmp_path, yes=True, **lencioni | dict(web=web))
    assert not any(p.startswith("/files") for p, _ in host.asked)


def test_archives_by_hand_are_offered(made, lencioni, tmp_path):
    (tmp_path / "lencioni").mkdir()
    for p in (made / "parts").iterdir():
        (tmp_path / "lencioni" / p.name).write_bytes(p.read_bytes())
    asked = []
    no = fetch("lencioni", tmp_path, verify=True, ask=lambda q: asked.append(q) or "n", **lencioni)
    assert len(asked) == 2 and not no.ok and sum("is not unpacked" in p for p in no.problems) == 2
    assert fetch("lencioni", tmp_path, verify=True, yes=True, **lencioni).ok


@pytest.mark.parametrize("name", [n for n, c in CARDS.items() if c.steps])
def test_what_no_program_can_fetch_has_steps(name, tmp_path):
    said = []
    got = fetch(name, tmp_path, yes=True, echo=said.append)
    assert (
        not got.ok
        and "1. " in said[1]
        and "--verify" in said[1]
        and str(tmp_path / name) in said[1]
    )
    assert not list(tmp_path.iterdir())


def test_stated_sizes_are_compared(tmp_path, monkeypatch):
    monkeypatch.setitem(
        CARDS,
        "grimmer",
        replace(
            card("grimmer"),
            sources=(replace(card("grimmer").sources[0], sizes=(("EMG1.mat", 7),)),),
        ),
    )
    writer("grimmer")(tmp_path / "grimmer", people=1)
    got = fetch("grimmer", tmp_path, verify=True, progress=False, echo=lambda s: None)
    assert (
        any("EMG1.mat" in p and "7 are known" in p for p in got.problems) and len(got.people) == 1
    )


def test_verify_writes_nothing_and_misses_no_deleted_archive(tmp_path, monkeypatch):
    monkeypatch.setitem(CARDS, "bacek", replace(card("bacek"), subjects=1))
    writer("bacek")(tmp_path / "bacek", people=1)
    before = sorted(tmp_path.rglob("*"))
    assert fetch("bacek", tmp_path, verify=True, progress=False, echo=lambda s: None).ok
    assert sorted(tmp_path.rglob("*")) == before
    sorted((tmp_path / "bacek").rglob("*.mat"))[0].write_bytes(b"<html>")
    assert not fetch("bacek", tmp_path, verify=True, progress=False, echo=lambda s: None).ok


def test_a_folder_under_its_download_name_is_found(tmp_path):
    (tmp_path / "5362627").mkdir()
    assert fetching.dataset_folder("hu", tmp_path) == tmp_path / "5362627"
    (tmp_path / "hu").mkdir()
    assert fetching.dataset_folder("hu", tmp_path) == tmp_path / "hu"


# --- archives by strangers

def zipped(path: Path, *members: tuple, **kwargs) -> Path:
    "A zip of (name or ZipInfo, bytes)"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **kwargs) as z:
        for m, data in members:
            z.writestr(m, data)
    return path


def tarred(path: Path, mode: str, *members: tuple) -> Path:
    "A tar of (name, bytes, changes)"
    with tarfile.open(path, mode) as t:
        for name, data, changes in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for k, v in changes.items():
                setattr(info, k, v)
            t.addfile(info, io.BytesIO(data))
    return path


def info(name: str, mode: int = 0, system: int = 3) -> zipfile.ZipInfo:
    z = zipfile.ZipInfo(name)
    z.create_system, z.external_attr = system, mode << 16
    return z


def raw_name(path: Path, name: bytes, other: bytes) -> Path:
    "A zip in which a name was changed behind the library's back"
    path.write_bytes(path.read_bytes().replace(name, other))
    return path


def encrypted(path: Path) -> Path:
    "A zip whose member says that it is encrypted"
    data = bytearray(zipped(path, ("secret.csv", b"x")).read_bytes())
    for magic, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(magic) + at] |= 1
    path.write_bytes(bytes(data))
    return path


HOSTILE = {
    "zip: climbs": (
        lambda p: zipped(p, ("ok.csv", b"1"), ("../evil.csv", b"x")),
        "../evil.csv",
        "climbs",
    ),
    "zip: climbs later": (
        lambda p: zipped(p, ("a/b/../../../evil.csv", b"x")),
        "evil.csv",
        "climbs",
    ),
    "zip: climbs with backslashes": (
        lambda p: raw_name(zipped(p, ("..|evil.csv", b"x")), b"..|", b"..\\"),
        "evil.csv",
        "climbs",
    ),
    "zip: absolute": (lambda p: zipped(p, ("/evil.csv", b"x")), "/evil.csv", "absolute"),
    "zip: drive": (lambda p: zipped(p, ("C:/evil.csv", b"x")), "C:/evil.csv", "drive"),
    "zip: share": (
        lambda p: raw_name(zipped(p, ("||host|evil.csv", b"x")), b"||host|", b"\\\\host\\"),
        "evil.csv",
        "absolute",
    ),
    "zip: zero byte": (
        lambda p: raw_name(zipped(p, ("evil.csv|.mat", b"x")), b"|", b"\0"),
        "evil.csv",
        "control",
    ),
    "zip: link": (
        lambda p: zipped(p, (info("door", stat.S_IFLNK | 0o777), b"/etc")),
        "door",
        "link",
    ),
    "zip: pipe": (lambda p: zipped(p, (info("pipe", stat.S_IFIFO), b"")), "pipe", "device"),
    "zip: case": (
        lambda p: zipped(p, ("Data/A.csv", b"1"), ("Data/a.csv", b"2")),
        "Data/a.csv",
        "collides",
    ),
    "zip: unicode": (
        lambda p: zipped(p, ("\u00e9.csv", b"1"), ("e\u0301.csv", b"2")),
        "e\u0301.csv",
        "collides",
    ),
    "zip: case of folders": (
        lambda p: zipped(p, ("Data/A.csv", b"1"), ("DATA/b.csv", b"2")),
        "DATA",
        "collides",
    ),
    "zip: file and folder": (
        lambda p: zipped(p, ("a", b"1"), ("a/b.csv", b"2")),
        "field a",
        "collides",
    ),
    "zip: bomb": (
        lambda p: zipped(p, ("zeros.csv", b"0" * (70 << 20)), compresslevel=1),
        "zeros.csv",
        "bomb",
    ),
    "zip: many": (
        lambda p: zipped(p, *((f"{k}.csv", b"") for k in range(1001))),
        "",
        "more than 1,000 members",
    ),
    "zip: encrypted": (encrypted, "secret.csv", "by hand with its password"),
    "zip: cut": (
        lambda p: p.write_bytes(zipped(p, ("a.csv", b"x" * 999)).read_bytes()[:-9]) and p,
        "",
        "cannot be unpacked",
    ),
    "tar: climbs": (
        lambda p: tarred(p, "w:gz", ("../evil.csv", b"x", {})),
        "../evil.csv",
        "climbs",
    ),
    "tar: absolute": (
        lambda p: tarred(p, "w:bz2", ("/evil.csv", b"x", {})),
        "/evil.csv",
        "absolute",
    ),
    "tar: link": (
        lambda p: tarred(p, "w:xz", ("door", b"", dict(type=tarfile.SYMTYPE, linkname=".."))),
        "door",
        "link",
    ),
    "tar: hard link": (
        lambda p: tarred(p, "w", ("a", b"", dict(type=tarfile.LNKTYPE, linkname="/etc/passwd"))),
        "field a",
        "hard link",
    ),
    "tar: device": (
        lambda p: tarred(p, "w", ("disk", b"", dict(type=tarfile.BLKTYPE))),
        "disk",
        "device",
    ),
    "tar: pipe": (
        lambda p: tarred(p, "w", ("pipe", b"", dict(type=tarfile.FIFOTYPE))),
        "pipe",
        "device",
    ),
    "tar: twice": (
        lambda p: tarred(p, "w", ("a.csv", b"1", {}), ("a.csv", b"2", {})),
        "a.csv",
        "collides",
    ),
    "tar: through a link": (
        lambda p: tarred(
            p, "w", ("d", b"", dict(type=tarfile.SYMTYPE, linkname="/")), ("d/evil.csv", b"x", {})
        ),
        "field d",
        "link",
    ),
    "tar: bomb": (
        lambda p: tarred(p, "w:gz", ("zeros.csv", b"\0" * (70 << 20), {})),
        "zeros.csv",
        "bomb",
    ),
    "tar: cut": (
        lambda p: (
            p.write_bytes(tarred(p, "w:gz", ("a.csv", os.urandom(9999), {})).read_bytes()[:-2000])
            and p
        ),
        "",
        "cannot be",
    ),
    "7z": (lambda p: p.write_bytes(b"7z\xbc\xaf\x27\x1c" + b"\0" * 20) and p, "", "7-Zip"),
    "rar": (lambda p: p.write_bytes(b"Rar!\x1a\x07\x01\0") and p, "", "unrar"),
    "page": (lambda p: p.write_bytes(b"<!DOCTYPE html>") and p, "", "web page"),
    "empty": (lambda p: p.write_bytes(b"") or p, "", "cannot be unpacked"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_are_refused(kind, tmp_path):
    make, member, why = HOSTILE[kind]
    (tmp_path / "in").mkdir()
    archive = make(tmp_path / "in/archive.bin")
    before = tree(tmp_path)
    told = refusal(unpack, archive, tmp_path / "a/b/root", Limits(members=1000), progress=False)
    assert str(archive) in told and member in told and why in told
    assert (
        tree(tmp_path) == before
        and not (tmp_path / "a/b/root").exists()
        and not list(tmp_path.rglob(".*"))
    )


def test_an_archive_that_lies_about_sizes(tmp_path):
    "The list says 10 bytes, the data are a million: no more than stated is written"
    archive = zipped(tmp_path / "lie.zip", ("a.csv", b"0" * 1_000_000))
    data = bytearray(archive.read_bytes())
    for magic, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        where = data.index(magic) + at
        data[where:where + 4] = (10).to_bytes(4, "little")
    archive.write_bytes(bytes(data))
    assert "a.csv" in refusal(unpack, archive, tmp_path / "root", progress=False)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_good_archives_are_unpacked(tmp_path, mode):
    files = {"AB156/Größe 1.csv": os.urandom(3000), "AB156/deep/er/x.mat": b"", "top.txt": b"t"}
    archive = (zipped(tmp_path / "a", *files.items()) if mode == "zip"
               else tarred(tmp_path / "a", mode, *((f"./{n}", d, {}) for n, d in files.items())))
    done = unpack(archive, tmp_path / "root", progress=False)
    assert tree(tmp_path / "root") == files
    assert done == {
        n: dict(bytes=len(d), sha256=hashlib.sha256(d).hexdigest()) for n, d in files.items()
    }
    assert [m.name for m in read_archive(archive)] == list(files)


def test_a_stated_size_is_the_limit(tmp_path):
    archive = zipped(tmp_path / "a.zip", ("a.csv", b"x" * 1000))
    assert "bomb" in refusal(read_archive, archive, Limits(total=999))
    assert read_archive(archive, Limits(total=1000))


def test_filling_a_folder_is_all_or_nothing(tmp_path):
    unpack(
        zipped(tmp_path / "a.zip", ("AB1/x.csv", b"1"), ("info.csv", b"i")),
        tmp_path / "root",
        progress=False,
    )
    clash = zipped(tmp_path / "b.zip", ("AB2/x.csv", b"2"), ("info.csv", b"other"))
    assert "other content" in refusal(unpack, clash, tmp_path / "root", progress=False)
    assert tree(tmp_path / "root") == {"AB1/x.csv": b"1", "info.csv": b"i"}
    unpack(
        zipped(tmp_path / "c.zip", ("AB2/x.csv", b"2"), ("info.csv", b"i")),
        tmp_path / "root",
        progress=False,
    )
    assert set(tree(tmp_path / "root")) == {"AB1/x.csv", "AB2/x.csv", "info.csv"}


def test_a_link_in_the_target_is_not_followed(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/AB1").symlink_to(tmp_path)
    assert "through a link" in refusal(
        unpack, zipped(tmp_path / "a.zip", ("AB1/x.csv", b"1")), tmp_path / "root", progress=False
    )
    assert not (tmp_path / "x.csv").exists()


def test_no_room_no_unpacking(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "free_space", lambda p: 10)
    assert "make room" in refusal(
        unpack, zipped(tmp_path / "a.zip", ("x.csv", b"1" * 11)), tmp_path / "root", progress=False
    )
    assert not (tmp_path / "root").exists()


def test_a_kill_leaves_nothing_half(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for k in range(60):
            z.writestr(f"P/{k}.bin", bytes([k]) * (1 << 20))
    code = f"from emgfm.files.archives import unpack; unpack({str(archive)!r}, {str(tmp_path / 'root')!r}, progress=False)"
    process = subprocess.Popen([sys.executable, "-c", code])
    half, until = tmp_path / ".root.unpacking/P/5.bin", time.monotonic() + 60
    while not half.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    killed = process.wait() == -signal.SIGKILL
    assert killed and half.exists() and not (tmp_path / "root").exists()
    unpack(archive, tmp_path / "root", progress=False)
    assert len(tree(tmp_path / "root")) == 60 and not (tmp_path / ".root.unpacking").exists()


# --- citations

def parse_bibtex(text: str) -> dict[str, dict[str, str]]:
    "Entries of a BibTeX file by key; fails where a real parser would"
    entries, at = {}, 0
    while (at := text.find("@", at)) >= 0:
        kind, key = re.compile(r"@(\w+)\{([\w-]+),\s*").match(text, at).groups()
        at = text.index(",", at) + 1
        fields = {"kind": kind}
        while not (end := re.compile(r"\s*\}").match(text, at)):
            m = re.compile(r"\s*(\w+) = \{").match(text, at)
            depth, stop = 1, m.end()
            while depth:
                if text[stop] in "{}" and text[stop - 1] != "\\":
                    depth += 1 if text[stop] == "{" else -1
                stop += 1
            assert m[1] not in fields and text[stop] == ","
            fields[m[1]], at = text[m.end():stop - 1], stop + 1
        assert key not in entries, f"{key} stands there twice"
        entries[key], at = fields, end.end()
    return entries


def test_every_entry_is_valid():
    found = parse_bibtex(bibtex(*CARDS))
    assert set(CARDS) | {"emgfm"} <= set(found) and len(found) == len(CARDS) + 1 + sum(
        len(c.data_doi) for c in CARDS.values()
    )
    for key, e in found.items():
        needed = {"article": {"author", "title", "journal", "year"}, "misc": {"author", "title"}}[
            e["kind"]
        ]
        assert needed <= set(e), key
        assert not re.search(
            r"(?<!\\)[&%$#_^~]", "".join(v for k, v in e.items() if k not in ("doi", "url"))
        ), key
        for author in e["author"].split(" and "):
            assert re.fullmatch(r"[^,]+, [^,]+|\{[^,]+\}", author), author
        assert re.fullmatch(r"10\.\d{4,9}/\S+", e.get("doi", "10.1234/x"))
    assert [e["doi"] for e in found.values() if e.get("doi")] == [
        d for c in CARDS.values() for d in (c.paper_doi, *c.data_doi) if d != "unknown"]


def test_the_parser_bites():
    for broken in (
        "@misc{a,\n  title = {x},\n}\n@misc{a,\n}",
        "@misc{a,\n  title = {x}\n}",
        "@misc{a, title = {x,\n}",
    ):
        with pytest.raises((AssertionError, AttributeError, IndexError)):
            parse_bibtex(broken)


def test_tex_escapes():
    assert tex("50 % & $5 #1 a_b {c} ~^\\") == (
        r"50 \% \& \$5 \#1 a\_b \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{}")


def test_a_store_cites_whose_recordings_it_holds(made, tmp_path, monkeypatch):
    from emgfm.store.build import build_store
    from emgfm.store.core import Store
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "lencioni").symlink_to(made / "lencioni")
    writer("falisse2019")(raw / "falisse2019")
    build_store(raw, tmp_path / "run/native", jobs=1, progress=False)
    store = Store(tmp_path / "run/native")
    assert (
        used(store)
        == used(tmp_path / "run/native")
        == used(tmp_path / "run")
        == ["falisse2019", "lencioni"]
    )
    assert set(parse_bibtex(bibtex(store))) == {"falisse2019", "lencioni", "lencioni_data", "emgfm"}
    table = Store.table
    monkeypatch.setattr(
        Store,
        "table",
        lambda s, name, d=None, p=None: table(s, name, d, p).iloc[: 0 if d == "lencioni" else None],
    )
    assert used(store) == ["falisse2019"], "people without recordings make no citation"


def test_a_real_checkpoint_is_read_without_torch(tmp_path):
    from emgfm.models.checkpoint import save_checkpoint
    from emgfm.models.transformer import EMGTransformer, model_config
    (tmp_path / "run").mkdir()
    path = save_checkpoint(
        tmp_path / "run/best.safetensors",
        EMGTransformer(model_config("tiny")),
        dict(citations=cite(["hu", "siat"])),
    )
    code = ("import sys; from emgfm.store.cite import used; print(*used(*sys.argv[1:]));"
            "sys.exit(any(m.startswith('torch') for m in sys.modules))")
    for what in (path, path.with_suffix(".json"), path.parent):
        got = subprocess.run(
            [sys.executable, "-c", code, str(what)], capture_output=True, text=True, check=True
        )
        assert got.stdout.split() == ["hu", "siat"]


@pytest.mark.parametrize("wrong", ["huu", "no/such/store", "x.safetensors", ""])
def test_wrong_things_to_cite(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert re.search("is not a dataset|does not exist|is neither", refusal(used, wrong))


def test_unknown_is_no_permission():
    for use in ("redistribute", "commercial"):
        choice = by_licence(None, use)
        assert not [c.name for c in choice.permitted if c.licence == "unknown"]
        assert (
            f"{len(choice.unknown)} because their terms are unknown" in str(choice)
            and choice.unknown
        )
    assert "k2muse" in [c.name for c in by_licence(None, "commercial").refused]
    text = bibtex("hu", "camargo", "k2muse", licence="commercial")
    assert {k for k in parse_bibtex(text) if k in CARDS} == {
        "camargo"
    } and "1 because their terms are unknown (hu)" in text


def test_a_dataset_without_a_card_is_not_forgotten(monkeypatch):
    import emgfm.store.cite as citing
    monkeypatch.setattr(citing, "used", lambda *what: ["hu", "my@lab"])
    assert "my at lab" in citing.bibtex("x") and set(parse_bibtex(citing.bibtex("x"))) == {
        "hu",
        "hu_data",
        "emgfm",
    }

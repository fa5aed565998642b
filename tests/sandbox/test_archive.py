"""Archives as attackers make them, and as everybody does, unpacked into a real folder."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arrowslit.sandbox.archive import Unpacked, unpack
from arrowslit.sandbox.entries import MIB, Limits, Unsafe

Place = tuple[Path, int]

SECRET = "nobody's business"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder to unpack into, and its descriptor. Beside it lies a secret."""
    (tmp_path / "secret").write_text(SECRET)
    folder = tmp_path / "workspace"
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    yield folder, fd
    os.close(fd)


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=form) as made:
        for info, content in members:
            made.addfile(info, io.BytesIO(content))
    return file.getvalue()


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in members:
            made.writestr(name, content)
    return file.getvalue()


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """A tar whose first header says something else, with a checksum that fits."""
    header = bytearray(data[:512])
    header[at : at + len(new)] = new
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def sparse() -> bytes:
    """Little that says that it is much, as GNU tar has it."""
    info = tarfile.TarInfo("a")
    info.size = 512
    data = patched(info.tobuf(tarfile.GNU_FORMAT), 156, b"S")
    data = patched(data, 386, b"%011o\0%011o\0" % (0, 1))
    data = patched(data, 483, b"\x80" + (9999).to_bytes(11, "big"))
    return data + bytes(512 * 3)


def sparse_pax() -> bytes:
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9999"}
    return tar(member("a", b"1\n0\n1\n" + bytes(512 - 6) + b"x", pax_headers=headers))


def overlapping() -> bytes:
    """A zip in which a hundred entries are one and the same piece of the file."""
    content = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = content.compress(bytes(MIB)) + content.flush()
    facts = struct.pack("<HHHHHLLL", 20, 0, 8, 0, 33, zlib.crc32(bytes(MIB)), len(packed), MIB)
    local = b"PK\x03\x04" + facts + struct.pack("<HH", 1, 0) + b"a" + packed
    name = [b"%03d" % number for number in range(100)]
    listed = b"".join(
        b"PK\x01\x02\x14\x00" + facts + struct.pack("<HHHHHLL", len(each), 0, 0, 0, 0, 0, 0) + each for each in name
    )
    return local + listed + struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 100, 100, len(listed), len(local), 0)


def lying(size: int) -> bytes:
    """A zip that says of a file with 4 bytes that it has another size."""
    data = zipped(("a", b"four"), method=zipfile.ZIP_STORED)
    return data.replace(struct.pack("<LL", 4, 4), struct.pack("<LL", 4, size))


def encrypted() -> bytes:
    data = bytearray(zipped(("a", b"x")))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def headers_without_end() -> bytes:
    """Long names for long names for long names."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    return (info.tobuf(tarfile.GNU_FORMAT) + b"a" + bytes(511)) * 5000


def large_header() -> bytes:
    """A header of a gigabyte, in a megabyte."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    return gzip.compress(info.tobuf() + bytes(200 * MIB), 9)


def large_dictionary() -> bytes:
    """An xz that wants two gigabytes of memory to be unpacked: one byte of its first block's header says so."""
    data = lzma.compress(tar(member("a")))
    header = bytearray(data[12:24])
    assert header[:4] == b"\x02\x00\x21\x01"
    header[4] = 38
    header[8:] = struct.pack("<L", zlib.crc32(header[:8]))
    return data[:12] + header + data[24:]


ATTACKS: Mapping[str, Callable[[], bytes]] = {
    "tar: an absolute name": lambda: tar(member("/tmp/x", b"x")),
    "tar: a name that climbs": lambda: tar(member("../secret", b"x")),
    "tar: a name that climbs, in a header of its own": lambda: tar(member("a", b"x", pax_headers={"path": "../a"})),
    "tar: a symlink out, and a file through it": lambda: tar(link("a", ".."), member("a/secret", b"x")),
    "tar: an absolute symlink": lambda: tar(link("a", "/etc/passwd")),
    "tar: a symlink out": lambda: tar(link("a", "../secret")),
    "tar: two symlinks that lead out together": lambda: tar(link("d/e/f", "../.."), link("a", "d/e/f/../secret")),
    "tar: a hard link out": lambda: tar(link("a", "../secret", tarfile.LNKTYPE)),
    "tar: a hard link through a symlink": lambda: tar(link("a", "."), link("b", "a/x", tarfile.LNKTYPE)),
    "tar: a character device": lambda: tar(member("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "tar: a block device": lambda: tar(member("a", type=tarfile.BLKTYPE)),
    "tar: a pipe": lambda: tar(member("a", type=tarfile.FIFOTYPE)),
    "tar: a kind that nobody knows": lambda: tar(member("a", type=b"V")),
    "tar: sparse": sparse,
    "tar: sparse, in a header of its own": sparse_pax,
    "tar: a file twice": lambda: tar(member("a", b"x"), member("a", b"y")),
    "tar: a file over a link": lambda: tar(link("a", "b"), member("a", b"y")),
    "tar: a deep tree": lambda: tar(member("a/" * 40 + "b", b"x")),
    "tar: many entries": lambda: tar(*(member(str(number)) for number in range(301))),
    "tar: a negative size": lambda: patched(tar(member("a")), 124, b"\xff" * 12),
    "tar: a size beyond the end": lambda: patched(tar(member("a")), 124, b"%011o\0" % 900_000),
    "tar: a name that is no text": lambda: tar(member("a\udcff", b"x"), form=tarfile.GNU_FORMAT),
    "tar: headers for headers": headers_without_end,
    "tar: an entry that is cut off": lambda: tar(member("a", b"x" * 2000))[:1500],
    "tar: a header that is damaged": lambda: tar(member("a"), member("b")).replace(b"b\0", b"c\0", 1),
    "gzip: a bomb": lambda: gzip.compress(tar(member("a", bytes(20 * MIB))), 9),
    "gzip: a bomb in a header": large_header,
    "gzip: cut off": lambda: gzip.compress(tar(member("a", os.urandom(9999))))[:-3000],
    "gzip: of something else": lambda: gzip.compress(b"x" * 1000),
    "bzip2: a bomb": lambda: bz2.compress(tar(member("a", bytes(20 * MIB)))),
    "bzip2: damaged": lambda: bz2.compress(tar(member("a", b"x")))[:20] + b"x" * 90,
    "xz: a bomb": lambda: lzma.compress(tar(member("a", bytes(20 * MIB)))),
    "xz: cut off": lambda: lzma.compress(tar(member("a", os.urandom(9999))))[:-3000],
    "xz: a dictionary of two gigabytes": large_dictionary,
    "zip: an absolute name": lambda: zipped(("/tmp/x", b"x")),
    "zip: slip": lambda: zipped(("../../secret", b"x")),
    "zip: slip, as Windows has it": lambda: zipped(("..\\secret", b"x")),
    "zip: a name that goes on after NUL": lambda: zipped(("aXb", b"x")).replace(b"aXb", b"a\0b"),
    "zip: a symlink out": lambda: zipped((zip_entry("a", stat.S_IFLNK | 0o777), b"../secret")),
    "zip: a long symlink": lambda: zipped((zip_entry("a", stat.S_IFLNK | 0o777), b"a/" * 9999)),
    "zip: a device": lambda: zipped((zip_entry("a", stat.S_IFCHR | 0o666), b"")),
    "zip: a file twice": lambda: zipped(("a", b"x"), ("./a", b"y")),
    "zip: a bomb": lambda: zipped(("a", bytes(20 * MIB))),
    "zip: a bomb of many": lambda: zipped(*((str(number), bytes(MIB)) for number in range(20))),
    "zip: entries that overlap": overlapping,
    "zip: larger than it says": lambda: lying(2),
    "zip: smaller than it says": lambda: lying(6),
    "zip: other content than it says": lambda: zipped(("a", b"four"), method=zipfile.ZIP_STORED).replace(
        b"four", b"five"
    ),
    "zip: many entries": lambda: zipped(*((str(number), b"") for number in range(301))),
    "zip: a list that is long": lambda: zipped(*((f"{number:0250}", b"") for number in range(2000))),
    "zip: encrypted": encrypted,
    "zip: lzma, which says itself how much memory it takes": lambda: zipped(("a", b"x"), method=zipfile.ZIP_LZMA),
    "zip: cut off": lambda: zipped(("a", b"x"))[:-10],
    "nothing at all": lambda: b"",
    "something else": lambda: b"#!/bin/sh\n" * 100,
}
LIMITS = Limits(entries=300, total=64 * MIB, file=64 * MIB, ratio=100)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused_and_leaves_nothing(place: Place, attack: Callable[[], bytes]) -> None:
    folder, fd = place
    data = attack()

    tracemalloc.start()
    with pytest.raises(Unsafe) as refused:
        unpack(data, fd, LIMITS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert str(refused.value).isprintable()
    assert list(folder.iterdir()) == []
    assert (folder.parent / "secret").read_text() == SECRET
    assert sorted(each.name for each in folder.parent.iterdir()) == ["secret", "workspace"]
    assert peak < 12 * MIB


TREE = {"a.txt": b"one", "d/b.txt": b"two" * 100_000, "d/empty": b"", "é/ü": b"x"}
PACKED: Mapping[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def found(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_a_tar_is_unpacked(place: Place, pack: Callable[[bytes], bytes], form: int) -> None:
    folder, fd = place
    content = [member(name, data) for name, data in TREE.items()]
    data = tar(member("./", type=tarfile.DIRTYPE), member("d", type=tarfile.DIRTYPE), *content, form=form)

    assert unpack(pack(data), fd) == Unpacked(4, sum(map(len, TREE.values())))
    assert found(folder) == TREE


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_unpacked_also_from_a_file(place: Place, method: int) -> None:
    folder, fd = place
    path = folder.parent / "a.zip"
    path.write_bytes(zipped(("d/", b""), *TREE.items(), method=method))

    assert unpack(path, fd).files == 4
    assert found(folder) == TREE


def test_an_archive_that_python_itself_makes_of_a_folder_is_unpacked(place: Place, tmp_path: Path) -> None:
    folder, fd = place
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d" / "file").write_bytes(b"x")
    (source / "hard").hardlink_to(source / "d" / "file")
    (source / "soft").symlink_to("d/file")
    with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as made:
        made.add(source, "project")

    unpack(tmp_path / "made.tar.gz", fd)

    assert (folder / "project" / "soft").readlink() == Path("d/file")
    assert (folder / "project" / "soft").read_bytes() == b"x"
    assert (folder / "project" / "hard").samefile(folder / "project" / "d" / "file")


def test_no_bit_survives_but_that_a_file_may_be_run(place: Place) -> None:
    folder, fd = place
    unpack(tar(member("a", b"", mode=0o6777), member("b", b"", mode=0o000), member("d", type=b"5", mode=0o7777)), fd)

    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    assert modes == {"a": 0o755, "b": 0o644, "d": 0o755}
    assert (folder / "a").stat().st_uid == os.geteuid()


def test_what_is_there_already_stays_as_it_is(place: Place) -> None:
    folder, fd = place
    (folder / "d").mkdir()
    (folder / "d" / "b").write_text("mine")

    with pytest.raises(FileExistsError):
        unpack(tar(member("d/a", b"x"), member("e/f", b"x"), member("d/b", b"yours")), fd)

    assert found(folder) == {"d/b": b"mine"}
    assert not (folder / "e").exists()
    unpack(tar(member("d/a", b"x")), fd)
    assert found(folder) == {"d/a": b"x", "d/b": b"mine"}


def test_a_link_that_lies_in_the_folder_already_is_not_followed(place: Place) -> None:
    """Sandboxed code may have put it there, also after the archive was looked at."""
    folder, fd = place
    (folder / "d").symlink_to("..")
    (folder / "f").symlink_to("../secret")

    for data in (tar(member("d/secret", b"x")), tar(member("f", b"x")), tar(member("d/new/x", b"x"))):
        with pytest.raises(OSError, match=r"Not a directory|File exists"):
            unpack(data, fd)

    assert (folder.parent / "secret").read_text() == SECRET
    assert not (folder.parent / "new").exists()


def test_only_a_plain_file_is_an_archive(place: Place, tmp_path: Path) -> None:
    _, fd = place
    (tmp_path / "real").write_bytes(tar(member("a")))
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(OSError, match="symbolic"):
        unpack(tmp_path / "link", fd)
    with pytest.raises((Unsafe, OSError)):
        unpack(tmp_path / "pipe", fd)


SEEDS = [tar(member("a", b"x"), link("b", "a")), zipped(("a", b"x" * 50)), gzip.compress(tar(member("a", b"x")))]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(seed=st.sampled_from(SEEDS), at=st.integers(0, 2**16), new=st.binary(min_size=1, max_size=12))
def test_damage_is_said_to_be_damage(
    tmp_path_factory: pytest.TempPathFactory, seed: bytes, at: int, new: bytes
) -> None:
    folder = tmp_path_factory.mktemp("workspace")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    at %= len(seed)
    try:
        unpack(seed[:at] + new + seed[at + len(new) :], fd, LIMITS)
    except Unsafe:
        assert list(folder.iterdir()) == []
    finally:
        os.close(fd)

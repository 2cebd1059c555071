"""The package of stamps: found, checked and unpacked, with nothing written elsewhere; bad files are refused."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from ptame_lib.datasets import stamps
from ptame_lib.datasets.stamps import DEB, INSIDE, SHA256, find_stamps, read_stamp, unpack


def png(image):
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def square(alpha=255, mode="RGBA"):
    image = Image.new("RGBA", (10, 8), (200, 10, 10, 0))
    image.paste((200, 10, 10, alpha), (2, 3, 7, 6))
    return png(image.convert(mode))


def member(name, content, kind=tarfile.REGTYPE):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
    return info, content


def package(file, *members, kind="xz", start=b"!<arch>\n"):
    """A Debian package with these members in its data; returns its SHA-256."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=f"w:{kind}") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{kind}": data.getvalue()}
    content = start
    for name, part in parts.items():
        content += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n".encode() + part
        content += b"\n" * (len(part) % 2)
    file.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_only_the_png_files_of_the_stamps_are_unpacked(study_root, tmp_path):
    content = square()
    deb, folder = tmp_path / DEB, tmp_path / "cache" / "stamps"
    names = [f"./{INSIDE}/a/b.png", f"{INSIDE}/c d.png", f"./{INSIDE}/a/b.ogg", "./usr/share/doc/e.png"]
    links = [member(f"./{INSIDE}/link.png", b"", tarfile.SYMTYPE)]
    digest = package(deb, *(member(name, content) for name in names), *links)
    (folder.parent / ".stamps.unfinished").mkdir(parents=True)  # left by a run that was killed
    assert unpack(deb, folder, digest) == folder
    found = {file.relative_to(folder.parent).as_posix() for file in folder.parent.rglob("*") if file.is_file()}
    assert found == {"stamps/a/b.png", "stamps/c d.png"}
    assert (folder / "a" / "b.png").read_bytes() == content
    assert unpack(deb, folder, digest) == folder  # once more


@pytest.mark.parametrize("name", [f"./{INSIDE}/../../../../../out.png", f"./{INSIDE}/a/../../../../../../out.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(name, study_root, tmp_path):
    digest = package(tmp_path / DEB, member(name, square()))
    with pytest.raises(ValueError, match=r"can't be unpacked .*out\.png.*: fetch it again"):
        unpack(tmp_path / DEB, tmp_path / "cache" / "stamps", digest)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == [DEB]
    assert not any((tmp_path / "cache").iterdir())


def test_other_files_are_refused(study_root, tmp_path):
    deb, folder = tmp_path / DEB, tmp_path / "stamps"
    inside = member(f"./{INSIDE}/a.png", square())
    digest = package(deb, inside)
    with pytest.raises(ValueError, match=rf"is not the expected file \(SHA-256 {digest[:16]}\.\.\., not {SHA256[:16]}"):
        unpack(deb, folder)
    with pytest.raises(ValueError, match="it is no ar archive"):
        unpack(deb, folder, package(deb, inside, start=b"<html>!\n"))
    with pytest.raises(ValueError, match=f"holds no PNG files below {INSIDE}"):
        unpack(deb, folder, package(deb, member("./usr/a.png", b"")))
    content = deb.read_bytes()
    for end, problem in ((150, r"can't be unpacked"), (70, "it has no data.tar|header")):  # cut off
        deb.write_bytes(content[:end])
        with pytest.raises(ValueError, match=problem):
            unpack(deb, folder, hashlib.sha256(content[:end]).hexdigest())
    assert not folder.exists()


def test_they_are_found_in_a_given_folder_and_in_the_cache(study_root, tmp_path, monkeypatch):
    given, cache = tmp_path / "given", study_root / "data" / "cache"
    with pytest.raises(
        FileNotFoundError, match=rf"no stamps of .* in .*given or .*cache: .*make data.* put {DEB} into"
    ):
        find_stamps("a/b.png", given)
    cache.mkdir(parents=True, exist_ok=True)
    digest = package(cache / DEB, member(f"./{INSIDE}/a/b.png", square()))
    monkeypatch.setattr(stamps.unpack, "__defaults__", (digest,))
    for _ in range(2):  # unpacked, and then there
        assert (find_stamps("a/b.png", given) / "a" / "b.png").is_file()
    # the given folder comes first: itself, or what a package would have there
    for inside in (INSIDE, INSIDE.name, "."):
        place = given / inside / "a"
        place.mkdir(parents=True)
        (place / "b.png").write_bytes(square())
        assert find_stamps("a/b.png", given) == given / inside


def test_a_stamp_is_cut_to_its_opaque_pixels(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(square())
    image = read_stamp(file, hashlib.sha256(square()).hexdigest())
    assert image.size == (5, 3)
    assert np.asarray(image).reshape(-1, 4).tolist() == [[200, 10, 10, 255]] * 15


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (square(mode="RGB"), "has no alpha channel"),
        (square(alpha=100), "shows nothing: none of its pixels is at least half opaque"),
        (square()[:60], "can't be read"),
        (b"no image", "can't be read"),
    ],
    ids=["no alpha", "nothing", "cut off", "text"],
)
def test_bad_stamps_are_refused(content, problem, tmp_path):
    file = tmp_path / "bad.png"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.png.* {problem}"):
        read_stamp(file, hashlib.sha256(content).hexdigest())


def test_a_missing_and_an_exchanged_stamp(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.png is missing: remove its folder"):
        read_stamp(tmp_path / "gone.png", "")
    (tmp_path / "other.png").write_bytes(square())
    with pytest.raises(ValueError, match=r"other\.png is not that of tuxpaint-stamps-default"):
        read_stamp(tmp_path / "other.png", "0" * 64)

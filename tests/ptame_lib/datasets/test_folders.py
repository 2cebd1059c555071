"""Folders of whatever images, as pixels in [0,1]."""

import pytest
import torch
from PIL import Image

from ptame_lib import ImageFolder
from ptame_lib.datasets.folders import before_crop
from ptame_lib.datasets.images import SUFFIXES


@pytest.fixture
def folder(tmp_path):
    """Images of every sort, half of them in sub-folders: left half black, right half white."""
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    picture = Image.new("RGB", (60, 40))
    picture.paste("white", (30, 0, 60, 40))
    picture.save(tmp_path / "cat" / "a.png")
    picture.convert("L").save(tmp_path / "cat" / "b.png")
    picture.convert("CMYK").save(tmp_path / "dog" / "c.jpg", quality=95)
    picture.convert("RGBA").save(tmp_path / "dog" / "d.PNG")
    picture.convert("P").save(tmp_path / "dog" / "e.png")
    picture.convert("1").save(tmp_path / "dog" / "f.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_images_of_every_sort(folder):
    data = ImageFolder(folder, size=32, resize=36)
    assert [p.name for p in data.files] == ["a.png", "b.png", "c.jpg", "d.PNG", "e.png", "f.png"]
    assert data.classes == ["cat", "dog"]
    assert [data[i]["label"].item() for i in range(len(data))] == [0, 0, 1, 1, 1, 1]
    for i in range(len(data)):
        pixels = data[i]["pixels"]
        assert pixels.shape == (3, 32, 32)
        assert pixels.dtype == torch.float32
        assert 0 <= pixels.min() <= 0.02
        assert 0.98 <= pixels.max() <= 1
        assert pixels[..., :12].mean() < 0.05 < 0.95 < pixels[..., 20:].mean()  # the centre: the edge in the middle


def test_a_plain_folder_has_no_labels(folder):
    data = ImageFolder(folder / "dog", size=16, resize=18)
    assert data.classes == []
    assert [data[i]["label"].item() for i in range(4)] == [-1] * 4
    assert [p.name for p in ImageFolder(folder, files=["dog/e.png", "cat/a.png"]).files] == ["e.png", "a.png"]


def test_draw_is_a_function_of_the_generator(folder):
    data = ImageFolder(folder, size=32, resize=40)
    views = [data.draw(0, torch.Generator().manual_seed(s))["pixels"] for s in range(20)]
    assert data.draw(0, torch.Generator().manual_seed(7))["pixels"].equal(views[7])
    assert len({tuple(v.flatten().tolist()) for v in views}) > 5
    assert all(v.shape == (3, 32, 32) for v in views)
    left_is_dark = [(v[..., :8].mean() < v[..., -8:].mean()).item() for v in views]
    assert set(left_is_dark) == {True, False}  # flipped or not


def test_images_smaller_than_the_crop_are_padded(folder):
    assert ImageFolder(folder, size=32, resize=20)[0]["pixels"].shape == (3, 32, 32)
    assert ImageFolder(folder, size=32, resize=20).draw(0, torch.Generator())["pixels"].shape == (3, 32, 32)


@pytest.mark.parametrize("size", [(16, 40), (40, 16)])
def test_oblong_crops(size, folder):
    """The middle of what a square crop shows, and views of that shape, in another place each."""
    data, square = ImageFolder(folder, size, before_crop(size)), ImageFolder(folder, 40, before_crop(40))
    top, left = ((40 - side) // 2 for side in size)
    assert data[0]["pixels"].equal(square[0]["pixels"][:, top : top + size[0], left : left + size[1]])
    views = [data.draw(0, torch.Generator().manual_seed(s))["pixels"] for s in range(9)]
    assert all(view.shape == (3, *size) for view in views)
    assert len({tuple(view.flatten().tolist()) for view in views}) > 2


def test_a_broken_file_is_named(folder):
    whole = (folder / "cat" / "a.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (folder / "cat" / "a.png").write_bytes(content)
        data = ImageFolder(folder, size=16, resize=18)
        with pytest.raises(ValueError, match=r"cat/a\.png can't be read .*replace it or take it out"):
            data[0]
        assert data[1]["pixels"].shape == (3, 16, 16)
    with pytest.raises(ValueError, match=r"gone\.png can't be read"):
        ImageFolder(folder, files=["gone.png"])[0]


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_format_is_found_and_read(suffix, tmp_path):
    """By its ending, in whatever case; what Pillow writes is read as the image it was."""
    formats = {".jfif": "JPEG", ".jpe": "JPEG", ".j2k": "JPEG2000", ".avif": "AVIF", ".pbm": "PPM", ".dib": "BMP"}
    picture = Image.new("L" if suffix == ".pgm" else "1" if suffix == ".pbm" else "RGB", (40, 40), "white")
    options = {"format": formats[suffix]} if suffix in formats else {}
    picture.save(tmp_path / f"a{suffix.upper()}", **options)
    [item] = ImageFolder(tmp_path, 16, 16)
    assert item["pixels"].min() > 0.98


def test_what_is_passed_over_is_said(folder, recwarn):
    """How many and which; hidden files and what is no image is nobody's concern."""
    assert len(ImageFolder(folder)) == 6
    assert not recwarn
    for i in range(7):
        (folder / "cat" / f"{i}.HEIC").touch()
    (folder / "b.svg").touch()
    (folder / ".c.heic").touch()
    (folder / "dogs").symlink_to(folder / "dog")
    (folder / "linked.png").symlink_to(folder / "cat" / "a.png")
    data = ImageFolder(folder)
    assert "linked.png" in data.names
    assert len(data) == 7
    first, second = (str(w.message) for w in recwarn)
    assert first.startswith(f"{folder}: images in formats that are not read are passed over (8: b.svg, cat/0.HEIC, ")
    assert first.endswith("cat/3.HEIC and 3 more); convert them, for instance to PNG")
    assert second == f"{folder}: links to folders are passed over (1: dogs); copy the folders, or name them instead"

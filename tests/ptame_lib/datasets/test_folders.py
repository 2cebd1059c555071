"""Folders of whatever images, as pixels in [0,1]."""

import pytest
import torch
from PIL import Image

from ptame_lib import ImageFolder


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

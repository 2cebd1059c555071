"""Image files that are damaged, odd or absent: refused with the file's name, or read correctly."""

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import NAN, Items, assert_answer, cut, refused

from ptame_lib import ImageFolder, files, load_embedded
from ptame_lib.datasets import first
from ptame_lib.datasets.images import read_image


def garbled(whole):
    return whole[:60] + bytes(40) + whole[100:]


def colour(*expected):
    """The mean colour of an image in [0,1], to a level of 8 bits."""
    return lambda pixels: torch.allclose(pixels.mean((1, 2)), torch.tensor(expected, dtype=torch.float32), atol=1 / 255)


def plain(mode, value, size=(20, 20)):
    return Image.new(mode, size, value)


def halves(width=40, height=20):
    """Left half black, right half red."""
    image = plain("RGB", "black", (width, height))
    image.paste("red", (width // 2, 0, width, height))
    return image


def sixteen(bits="uint16", value=32896):
    return Image.fromarray(np.full((20, 20), value, bits))


def bomb():
    """A PNG of a few bytes that claims 40000 x 40000 pixels."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
        + chunk(b"IEND", b"")
    )


def link(place, name, target):
    (place / name).symlink_to(target)
    return place / name


def exif(orientation):
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def names(place, name, *_):
    """What a folder lists, where ``name`` is an image."""
    place.image(name, plain("RGB", "red"))
    return [file.name for file in ImageFolder(place.folder).files]


# name: (what is done in a place, what must come of it)
ROWS = {
    "empty file": (
        lambda place: place.read(place.file("a.png")),
        refused(r"a\.png can't be read .*: replace it or take it out"),
    ),
    "text that ends in .jpg": (
        lambda place: place.read(place.file("a.jpg", "hello")),
        refused(r"a\.jpg can't be read .*cannot identify.*: replace it"),
    ),
    "truncated JPEG": (
        lambda place: place.damaged("a.jpg", cut),
        refused(r"a\.jpg can't be read .*truncated.*: replace it"),
    ),
    "truncated PNG": (
        lambda place: place.damaged("a.png", cut),
        refused(r"a\.png can't be read .*truncated.*: replace it"),
    ),
    "truncated TIFF": (lambda place: place.damaged("a.tif", cut), refused(r"a\.tif can't be read .*: replace it")),
    "truncated WebP": (lambda place: place.damaged("a.webp", cut), refused(r"a\.webp can't be read .*: replace it")),
    "corrupted PNG": (lambda place: place.damaged("a.png", garbled), refused(r"a\.png can't be read .*: replace it")),
    "corrupted JPEG header": (
        lambda place: place.damaged("a.jpg", lambda b: b[:2] + bytes(200) + b[202:]),
        refused(r"a\.jpg can't be read .*: replace it"),
    ),
    "link to nowhere": (
        lambda place: place.read(link(place, "a.png", "gone.png")),
        refused(r"a\.png can't be read .*No such file.*: replace it"),
    ),
    "image gone since it was listed": (
        lambda place: place.read("gone.png"),
        refused(r"gone\.png can't be read .*: replace it or take it out"),
    ),
    "40000 x 40000 pixels": (
        lambda place: place.read(place.file("a.png", bomb())),
        refused(r"a\.png is too large \(1600000000 pixels, more than the 178956970 that are read\): make it smaller"),
    ),
    "floating point beyond [0,1]": (
        lambda place: place.read(place.image("a.tif", sixteen("float32", 255))),
        refused(r"a\.tif can't be read .*255\.\.255, not in 0\.\.1; save it with 8 or 16 bits"),
    ),
    "NaN in an image": (
        lambda place: place.read(place.image("a.tif", sixteen("float32", NAN))),
        refused(r"a\.tif can't be read .*nan\.\.nan.*; save it with 8"),
    ),
    "32 bits beyond 16": (
        lambda place: place.read(place.image("a.tif", sixteen("int32", 70000))),
        refused(r"a\.tif can't be read .*70000\.\.70000, not in 0\.\.65535; save it"),
    ),
    "folder without images": (
        lambda place: ImageFolder(place.file("notes.txt").parent),
        refused(r"no images in .*: put files ending in .*\.png"),
    ),
    "missing folder": (
        lambda place: ImageFolder(place / "gone"),
        refused("no image folder at .*gone: check the path", FileNotFoundError),
    ),
    "file as folder": (
        lambda place: ImageFolder(place.file("a.png")),
        refused(r"no image folder at .*a\.png: check the path", FileNotFoundError),
    ),
    "empty list of files": (
        lambda place: ImageFolder(place.image("a.png", halves()).parent, files=[]),
        refused("no images in .*: put files"),
    ),
    "file outside of the folder": (
        lambda place: ImageFolder(place.folder, files=["/b/a.png"]),
        refused("/b/a.png is not in the folder .*: name files relative"),
    ),
    "images of size 0": (
        lambda place: ImageFolder(place.folder, size=0),
        refused("size must be a whole number of at least 1, got 0: raise it"),
    ),
    "resized to -1": (
        lambda place: ImageFolder(place.folder, resize=-1),
        refused("resize must be .* at least 1, got -1: raise it"),
    ),
    "greyscale": (lambda place: place.read(place.image("a.png", plain("L", 51))), colour(0.2, 0.2, 0.2)),
    "black and white": (lambda place: place.read(place.image("a.png", plain("1", 1))), colour(1, 1, 1)),
    "CMYK": (lambda place: place.read(place.image("a.jpg", plain("CMYK", (255, 0, 0, 0)))), colour(0, 1, 1)),
    "YCbCr": (lambda place: place.read(place.image("a.jpg", plain("YCbCr", (128, 128, 128)))), colour(0.5, 0.5, 0.5)),
    "16 bits, PNG": (lambda place: place.read(place.image("a.png", sixteen())), colour(0.502, 0.502, 0.502)),
    "16 bits, TIFF": (lambda place: place.read(place.image("a.tif", sixteen())), colour(0.502, 0.502, 0.502)),
    "16 bits, other byte order": (
        lambda place: place.read(place.image("a.tif", Image.frombytes("I;16B", (20, 20), b"\x33\x33" * 400))),
        colour(0.2, 0.2, 0.2),
    ),
    "16 bits held in 32": (
        lambda place: place.read(place.image("a.tif", sixteen("int32", 13107))),
        colour(0.2, 0.2, 0.2),
    ),
    "floating point in [0,1]": (
        lambda place: place.read(place.image("a.tif", sixteen("float32", 0.2))),
        colour(0.2, 0.2, 0.2),
    ),
    "palette": (
        lambda place: place.read(place.image("a.png", plain("RGB", (51, 102, 153)).convert("P"))),
        colour(0.2, 0.4, 0.6),
    ),
    "transparent palette shows white": (
        lambda place: place.read(place.image("a.png", plain("P", 0), transparency=0)),
        colour(1, 1, 1),
    ),
    "transparent RGBA shows white": (
        lambda place: place.read(place.image("a.png", plain("RGBA", (255, 0, 0, 0)))),
        colour(1, 1, 1),
    ),
    "half transparent is mixed with white": (
        lambda place: place.read(place.image("a.png", plain("RGBA", (255, 0, 0, 128)))),
        colour(1, 0.498, 0.498),
    ),
    "transparent greyscale shows white": (
        lambda place: place.read(place.image("a.png", plain("LA", (9, 0)))),
        colour(1, 1, 1),
    ),
    "EXIF-rotated is upright": (
        lambda place: place.read(place.image("a.jpg", halves(40, 40), exif=exif(6))),
        lambda pixels: pixels[0, 2:6].mean() < 0.1 < 0.9 < pixels[0, 10:14].mean(),
    ),
    "damaged EXIF": (
        lambda place: place.read(place.image("a.jpg", plain("RGB", "white"), exif=b"Exif\0\0II*\0garbage")),
        colour(1, 1, 1),
    ),
    "1 pixel": (
        lambda place: place.read(place.image("a.png", plain("RGB", (51, 102, 153), (1, 1)))),
        colour(0.2, 0.4, 0.6),
    ),
    "12000 x 1 pixels": (
        lambda place: place.read(place.image("a.png", plain("RGB", "red", (12000, 1)))),
        colour(1, 0, 0),
    ),
    "12000 x 1 takes no memory": (
        lambda place: read_image(place.image("a.png", plain("RGB", "red", (12000, 1)))).size,
        lambda size: size == (16, 1),
    ),
    "12000 x 3000 JPEG takes little": (
        lambda place: read_image(place.image("a.jpg", plain("L", 51, (12000, 3000)))).size,
        lambda size: size == (6000, 1500),
    ),
    "12000 x 1, drawn from": (
        lambda place: ImageFolder(place.image("a.png", plain("RGB", "red", (12000, 1))).parent, 16, 32).draw(
            0, torch.Generator()
        )["pixels"],
        colour(1, 0, 0),
    ),
    "12000 x 3000 JPEG": (
        lambda place: place.read(place.image("a.jpg", plain("L", 51, (12000, 3000)))),
        colour(0.2, 0.2, 0.2),
    ),
    "animation: its first frame": (
        lambda place: place.read(
            place.image("a.png", plain("RGB", "red"), format="GIF", save_all=True, append_images=[plain("RGB", "blue")])
        ),
        colour(1, 0, 0),
    ),
    "several pages: the first": (
        lambda place: place.read(
            place.image("a.tif", plain("RGB", "red"), save_all=True, append_images=[plain("RGB", "blue")])
        ),
        colour(1, 0, 0),
    ),
    "folder named as an image": (
        lambda place: names(place, "b.png", place.file("a.png/notes.txt")),
        lambda found: found == ["b.png"],
    ),
    "hidden leftovers": (
        lambda place: names(place, "b.png", place.file("._b.png"), place.file(".trash/c.png")),
        lambda found: found == ["b.png"],
    ),
    "an ending that is no image's": (
        lambda place: names(place, "b.png", place.file("a.txt"), place.file("c"), place.file("d.xml")),
        lambda found: found == ["b.png"],
    ),
    "odd names": (lambda place: names(place, "ein Bär, 蝶.PNG"), lambda found: found == ["ein Bär, 蝶.PNG"]),
    "link to an image": (
        lambda place: place.read(link(place, "b.png", place.image("a.png", plain("RGB", "red")))),
        colour(1, 0, 0),
    ),
    "unknown split": (
        lambda place: load_embedded("valid", 3),
        refused("unknown split 'valid': the embedded data set has train, val, test"),
    ),
    "negative number of images": (lambda place: load_embedded("val", -1), refused("n must be at least 1, got -1")),
    "no images at all": (lambda place: load_embedded("val", 0), refused("n must be at least 1, got 0")),
    "more first images than there are": (
        lambda place: first(Items(2), 3),
        refused("the first 3 images are asked for, but there are 2"),
    ),
    "damaged cache of images is made again": (
        lambda place: (
            load_embedded("val", 1),
            [f.write_bytes(b"x") for f in files.cache().iterdir()],
            load_embedded("val", 1),
        )[2],
        lambda found: len(found) == 1,
    ),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Image size")
@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name, place):
    act, expected = ROWS[name]
    assert_answer(lambda: act(place), expected)

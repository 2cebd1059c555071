"""README's Python snippets run, in its order and in one session, with nothing imported but what README says.

What would be downloaded or takes long is replaced: the pretrained networks by embedded or small ones, and the numbers
of steps and masks. Files and objects of the reader's own are made here.
"""

import re
from pathlib import Path

import pytest
import torch
from helpers import small_cnn
from PIL import Image
from safetensors.torch import save_file

import ptame_lib

ROOT = Path(ptame_lib.__file__).parent.parent
INSTEAD = {  # what README says: what is run
    '"timm/mobilenetv3_small_100"': '"embedded/resnet"',
    'load_auxiliary("resnet18")': 'load_auxiliary("embedded/auxiliary")',
    "num_classes=1000": "num_classes=10",
    'ImageFolder("my/images")': 'ImageFolder("my/images", 64, 73)',
    "steps=2000": "steps=2, batch_size=4",
    'load_classifier("resnet50")': 'load_classifier("resnet50", None)',
    '"timm/vit_small_patch16_224"': '"timm/test_vit", None',
    '"hf/microsoft/resnet-18"': '"hf/net"',
    "masks=4000": "masks=4",
    '"data/voc", "val"))': '"data/voc", "val"), ExplainerConfig(steps=1, batch_size=2))',
    "Explainer(num_classes=20)": 'Explainer(20, "small")',
    'load_classifier("lite/2")': 'load_classifier("embedded/resnet")',
}


def snippets():
    """The fenced blocks of Python, each with its line in README."""
    text = (ROOT / "README.md").read_text()
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text[: block.start()].count("\n") + 2, block[1]) for block in found]


def write_images(folder, n):
    folder.mkdir(parents=True)
    for i in range(n):
        values = torch.randint(256, (80, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        Image.fromarray(values.numpy()).save(folder / f"{i}.jpg")


def write_voc(root):
    """Two images to train on and one to validate on, each with a car."""
    write_images(root / "JPEGImages", 3)
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for i in range(3):
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        object_ = f"<object><name>car</name><difficult>0</difficult>{box}</object>"
        size = "<size><width>96</width><height>80</height><depth>3</depth></size>"
        (root / "Annotations" / f"{i}.xml").write_text(f"<annotation>{size}{object_}</annotation>")
    for part, names in {"train": "0\n1\n", "val": "2\n"}.items():
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text(names)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The reader's files, in the working folder, and a fitted forest."""
    transformers, ensemble = pytest.importorskip("transformers"), pytest.importorskip("sklearn.ensemble")
    pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    write_images(tmp_path / "my" / "images", 8)
    write_images(tmp_path / "photos", 1)
    shipped = ptame_lib.PTAME(ptame_lib.load_auxiliary("embedded/auxiliary"), 10)
    shipped.save(tmp_path / "data" / "explainers" / "lite2.safetensors", classifier="embedded/resnet")
    write_voc(tmp_path / "data" / "voc" / "VOCdevkit" / "VOC2007")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1], num_labels=3)
    transformers.ResNetForImageClassification(config).save_pretrained("net")
    transformers.ConvNextImageProcessor(size={"shortest_edge": 64}).save_pretrained("net")
    torch.onnx.export(small_cnn(), (torch.rand(1, 3, 64, 64),), "model.onnx", dynamo=False)
    tuned = ptame_lib.load_multilabel("resnet50", 20, None).model
    save_file({key: value.contiguous() for key, value in tuned.state_dict().items()}, "finetuned.safetensors")
    pixels = torch.rand(6, 3 * 64 * 64, generator=torch.Generator().manual_seed(0))
    return {"forest": ensemble.RandomForestClassifier(4).fit(pixels.numpy(), [0, 1] * 3)}


def test_every_snippet_of_the_readme_runs(own):
    session, unused = {**own, "ExplainerConfig": ptame_lib.ExplainerConfig}, set(INSTEAD)  # of what is run instead
    answers = []
    for line, code in snippets():
        for said, run in INSTEAD.items():
            unused -= {said} if said in code else set()
            code = code.replace(said, run)
        # a line that only makes a classifier is asked, too
        code = re.sub(r"^(load_classifier\(|BlackBox\()", r"_ = \1", code, flags=re.MULTILINE)
        for statement in re.split(r"(?=^_ = )", "\n" * (line - 1) + code, flags=re.MULTILINE):
            session.pop("_", None)
            exec(compile(statement, "README.md", "exec"), session)
            if made := session.get("_"):
                answers.append(made(torch.rand(1, 3, *made.input_size)).shape)
    assert unused == set(), "README no longer says this"
    assert [len(shape) for shape in answers] == [2] * 5
    assert session["saliency"].shape == (1, 32, 32)
    assert session["scores"].keys() <= set(ptame_lib.metrics.suite.METRICS)
    assert session["masks"].shape[:2] == (1, 20)


def test_what_the_readme_names_can_be_imported():
    """In snippets and in the text: `name(` and `name` of the library's section, unless it is spelled as a path."""
    named = {name for _, code in snippets() for name in re.findall(r"from ptame_lib import (.*)", code)}
    for names in named:
        assert set(names.split(", ")) <= set(ptame_lib.__all__)
    assert ptame_lib.measure is ptame_lib.metrics.suite.measure

"""What all notebooks share: profiles, records, running; and whether profiles fit the notebooks."""

import json
import os
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml

import ptame_lib
from ptame_lib import files
from ptame_study import paths, profiles, records, run, tables
from ptame_study.__main__ import main
from ptame_study.parameters import configure, plain

CHECKOUT = Path(ptame_lib.__file__).parent.parent


def make_profile(root, name="x", **notebooks):
    (root / "workflow" / "profiles").mkdir(parents=True, exist_ok=True)
    content = {"classifiers": ["embedded/vgg", "embedded/vit"], "notebooks": notebooks}
    content["per_classifier"] = {"embedded/vit": {"tiny": {"steps": 9}}}
    (root / "workflow" / "profiles" / f"{name}.yaml").write_text(yaml.safe_dump(content))


def test_profiles(study_root):
    make_profile(study_root, tiny={"steps": 3}, empty=None)
    make_profile(study_root, "another")
    assert profiles.load_profile("x")["notebooks"]["tiny"] == {"steps": 3}
    with pytest.raises(ValueError, match="unknown profile 'z': there are another, x in workflow/profiles"):
        profiles.load_profile("z")
    assert profiles.parameters_for("x", "tiny") == {"profile": "x", "steps": 3}
    assert profiles.parameters_for("x", "empty") == {"profile": "x"}
    assert profiles.parameters_for("x", "tiny", "embedded/vgg") == {
        "profile": "x",
        "steps": 3,
        "classifier": "embedded/vgg",
    }
    assert profiles.parameters_for("x", "tiny", "embedded/vit")["steps"] == 9
    with pytest.raises(ValueError, match="unknown classifier 'vgg' in profile x: it has embedded/vgg, embedded/vit"):
        profiles.parameters_for("x", "tiny", "vgg")


def test_a_method_may_have_settings_of_its_own(study_root):
    make_profile(study_root, tiny={"steps": 3, "training": {"warmup": 0.3, "workers": 1}})
    file = study_root / "workflow" / "profiles" / "x.yaml"
    own = {"per_method": {"T-TAME": {"tiny": {"training": {"warmup": 0.1}}}}}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | own))
    asked = {m: profiles.parameters_for("x", "tiny", "embedded/vgg", method=m) for m in ("P-TAME", "T-TAME")}
    assert asked["P-TAME"]["training"] == {"warmup": 0.3, "workers": 1}
    assert asked["T-TAME"] == asked["P-TAME"] | {"training": {"warmup": 0.1, "workers": 1}}
    # the profile's own method, where none is asked for
    content = yaml.safe_load(file.read_text())
    content["notebooks"]["tiny"]["method"] = "T-TAME"
    file.write_text(yaml.safe_dump(content))
    assert profiles.parameters_for("x", "tiny", "embedded/vgg")["training"]["warmup"] == 0.1
    file.write_text(yaml.safe_dump(content | {"per_method": {"TTAME": {}}}))
    with pytest.raises(ValueError, match="'per_method' names 'TTAME': choose from P-TAME, T-TAME, Swap-TAME"):
        profiles.load_profile("x")
    file.write_text(yaml.safe_dump(content | own))
    # a classifier's steps and a method's warm-up
    assert profiles.parameters_for("x", "tiny", "embedded/vit", method="T-TAME")["steps"] == 9


def test_a_profile_that_extends_another(study_root):
    make_profile(study_root, tiny={"steps": 3, "lr": 0.1}, other={"n": 1})
    per_classifier = {"embedded/vit": {"other": {"n": 2}}}
    changes = {
        "extends": "x",
        "classifiers": ["embedded/vit"],
        "notebooks": {"tiny": {"lr": 0.2}},
        "per_classifier": per_classifier,
    }
    (study_root / "workflow" / "profiles" / "y.yaml").write_text(yaml.safe_dump(changes))
    assert profiles.load_profile("y") == {
        "classifiers": ["embedded/vit"],
        "notebooks": {"tiny": {"steps": 3, "lr": 0.2}, "other": {"n": 1}},
        "per_classifier": {"embedded/vit": {"tiny": {"steps": 9}, "other": {"n": 2}}},
    }
    assert profiles.parameters_for("y", "03_compare") == {
        "profile": "y",
        "classifiers": ["embedded/vit"],
    }  # its own
    (study_root / "workflow" / "profiles" / "z.yaml").write_text("extends: absent")
    with pytest.raises(ValueError, match="unknown profile 'absent': there are x, y, z"):
        profiles.load_profile("z")


def test_a_profile_says_who_gets_an_explainer_too(study_root):
    file = study_root / "workflow" / "profiles" / "x.yaml"
    make_profile(study_root, tiny={})
    content = file.read_text()
    file.write_text(content + "explainer_too: [embedded/vit]\n")
    assert profiles.parameters_for("x", "03_compare")["explainer_too"] == ["embedded/vit"]
    assert profiles.parameters_for("x", "03_compare", "embedded/vit")["explainer_too"] == ["embedded/vit"]
    assert (
        profiles.parameters_for("x", "03_compare", "embedded/vit", 1)["explainer_too"] == []
    )  # it is trained with one seed
    assert "explainer_too" not in profiles.parameters_for("x", "03_compare", "embedded/vgg")
    assert "explainer_too" not in profiles.parameters_for("x", "02_train_ptame", "embedded/vit")
    file.with_name("y.yaml").write_text("extends: x\nclassifiers: [embedded/vgg]\n")
    assert profiles.load_profile("y")["explainer_too"] == []
    for wrong, message in {
        "[embedded/resnet]": "'explainer_too' names 'embedded/resnet': "
        "choose from the embedded ones among its classifiers, embedded/vgg, emb",
        "embedded/vit": "'explainer_too' must be a list of names, got 'embedded/vit': write",
    }.items():
        file.write_text(content + f"explainer_too: {wrong}\n")
        with pytest.raises(ValueError, match=rf"x\.yaml: {message}"):
            profiles.load_profile("x")
    file.write_text(content)
    file.with_name("y.yaml").write_text("extends: x\nexplainer_too: [nobody]\n")
    with pytest.raises(ValueError, match=r"y\.yaml: 'explainer_too' names 'nobody'"):
        profiles.load_profile("y")


def test_the_next_classifier_of_a_profile(study_root):
    folder = study_root / "workflow" / "profiles"
    folder.mkdir(parents=True)
    (folder / "three.yaml").write_text("classifiers: [a, b, c]\nnotebooks: {13_strata: {classifiers: [b]}}\n")
    (folder / "one.yaml").write_text("extends: three\nclassifiers: [a]\n")
    (folder / "labels.yaml").write_text("multi_label: [a]\nnotebooks: {}\n")
    assert [profiles.next_classifier("three", name) for name in "abcx"] == ["b", "c", "a", "a"]
    assert profiles.next_classifier("one", "a") is None
    assert profiles.next_classifier("labels", "a") is None
    # a notebook about some classifiers, in a profile that has none of these
    assert profiles.parameters_for("three", "13_strata")["classifiers"] == ["b"]
    assert profiles.parameters_for("one", "13_strata")["classifiers"] == ["a"]


def test_a_profile_of_several_seeds_and_classifiers(study_root):
    make_profile(
        study_root, **{"03_compare": {"classifiers": ["embedded/vgg", "embedded/vit"]}, "02_train_ptame": {"steps": 3}}
    )
    (study_root / "workflow" / "profiles" / "y.yaml").write_text(
        "extends: x\nclassifiers: [embedded/vit]\ndata: there\n"
    )
    assert profiles.parameters_for("y", "03_compare")["classifiers"] == ["embedded/vit"]
    assert profiles.ancestry("y") == ["y", "x"]
    assert profiles.parameters_for("x", "02_train_ptame", "embedded/vgg", 4) == {
        "profile": "x", "steps": 3, "classifier": "embedded/vgg", "seed": 4,
    }  # fmt: skip
    third = profiles.parameters_for("x", "03_compare", "embedded/vgg", 3)
    assert (third["trained_seed"], third["classifiers"]) == (3, ["embedded/vgg"])
    with pytest.raises(ValueError, match="notebook tiny has no seeds: only 02_train_ptame, 03_compare"):
        profiles.parameters_for("x", "tiny", "embedded/vgg", 1)
    assert paths.explainer("x", "a/b", seed=0).name == "ptame-a-b.safetensors"
    assert paths.explainer("x", "a/b", "T-TAME", 3).name == "ttame-a-b-seed3.safetensors"
    assert paths.per_image("x", "a/b", 3).name == "a-b-seed3.csv"


def test_the_data_folder_is_the_askers_else_the_environments_else_the_profiles(study_root, monkeypatch):
    make_profile(study_root)
    (study_root / "workflow" / "profiles" / "y.yaml").write_text("extends: x\ndata: there\n")
    monkeypatch.delenv("PTAME_DATA", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    profiles.use_data("x")
    assert "PTAME_DATA" not in os.environ
    profiles.use_data("y")
    assert os.environ["PTAME_DATA"] == str(study_root / "there")
    profiles.use_data("y")
    (study_root / "mine").mkdir()
    profiles.use_data("y", str(study_root / "mine"))
    assert os.environ["PTAME_DATA"] == str(study_root / "mine")
    profiles.use_data("y")
    assert os.environ["PTAME_DATA"] == str(study_root / "mine")  # the environment's
    with pytest.raises(ValueError, match=r"no folder at DATA=.*gone: check the path"):
        profiles.use_data("y", str(study_root / "gone"))
    assert main(["run", "02_train_ptame", "--profile", "y", "--data", str(study_root / "gone")]) == 1


def test_the_table_of_several_seeds(study_root):
    make_profile(study_root, "y")
    content = {"classifiers": ["a"], "seeds": [0, 2], "notebooks": {"03_compare": {}}}
    (study_root / "workflow" / "profiles" / "x.yaml").write_text(yaml.safe_dump(content))
    for seed, values in ((0, (1, 3)), (2, (4, 6))):
        rows = "".join(f"a,P-TAME,{i},{v}\na,random,{i},50\n" for i, v in enumerate(values))
        records.write_whole(paths.per_image("x", "a", seed), "classifier,method,image,AD100\n" + rows)
    assert tables.write_seeds("x").read_text().splitlines()[1:] == [
        "a,P-TAME,AD100,3.5000,2.1213,2"
    ]  # of the seeds' means 2 and 5


@pytest.mark.parametrize("content", ["", "- a", "classifiers: [a]", "notebooks: {}", "classifiers: [a]\nnotebooks: 3"])
def test_a_profile_that_is_none(study_root, content):
    make_profile(study_root)
    (study_root / "workflow" / "profiles" / "bad.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"bad\.yaml must hold 'classifiers' and 'notebooks'"):
        profiles.load_profile("bad")


def configuring(notebook):
    """The sources of a notebook's parameters cell, and of the cell that checks them."""
    cells = json.loads((CHECKOUT / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"][:2]


def checked(notebook, parameters):
    """The config a notebook makes of parameters that papermill injects, by its own first cells."""
    declaring, checking = configuring(notebook)
    injected = "\n".join(["# Parameters", *(f"{name} = {value!r}" for name, value in parameters.items())])
    namespace = {"In": ["", declaring, injected]}
    for cell in (declaring, injected, checking):
        exec(cell, namespace)
    return namespace["cfg"]


@pytest.mark.parametrize(
    "file", sorted((CHECKOUT / "workflow" / "profiles").glob("*.yaml")), ids=lambda file: file.stem
)
def test_shipped_profiles_fit_their_notebooks(file, monkeypatch, tmp_path):
    """Names, types and values of every parameter and of every key of the dicts."""
    content = profiles.load_profile(file.stem)
    per_classifier = content.get("per_classifier", {})
    asked = [(notebook, None, None) for notebook in content["notebooks"]]
    asked += [(notebook, name, None) for name, notebooks in per_classifier.items() for notebook in notebooks]
    of_methods = content.get("per_method", {}).items()
    asked += [(notebook, content["classifiers"][0], m) for m, notebooks in of_methods for notebook in notebooks]
    settings = [(of[0], profiles.parameters_for(file.stem, *of[:2], method=of[2])) for of in asked]
    assert settings
    assert set(per_classifier) <= {name for key in profiles.NAMED for name in content.get(key, [])}
    monkeypatch.setenv("PTAME_ROOT", str(tmp_path))  # nothing is written into the checkout
    monkeypatch.setattr("ptame_study.figures.use_style", lambda: None)
    for notebook, parameters in settings:
        found = plain(checked(notebook, parameters))
        for name, value in parameters.items():
            if isinstance(value, dict):
                assert {key: found[name][key] for key in value} == value, (notebook, name)
            else:
                assert found[name] == value, (notebook, name)


@pytest.mark.parametrize(
    ("notebook", "name", "value", "message"),
    [
        ("02_train_ptame", "loss", {"cee": 5.0}, "unknown key 'cee' in loss: did you mean ce"),
        ("02_train_ptame", "training", {"warm_up": 0.1}, "unknown key 'warm_up' in training: did you mean warmup"),
        ("02_train_ptame", "training", {"lr": 0.1}, "unknown key 'lr' in training: set the parameter of that name"),
        ("02_train_ptame", "training", {"precision": "half"}, "unknown precision 'half': choose one of no, bf16, fp16"),
        ("02_train_ptame", "training", {"optimizer": "adam"}, "unknown optimizer 'adam': choose one of adamw, sgd"),
        ("02_train_ptame", "training", {"border": 0.1}, "unknown key 'border' in training: set it in loss. It has"),
        ("02_train_ptame", "loss", {"steps": 5}, "unknown key 'steps' in loss: set the parameter of that name. It has"),
        ("02_train_ptame", "source", {"mean": 0.5}, "set it in source.options or source.auxiliary_options. It has"),
        ("02_train_ptame", "source", {"layers": [3]}, r"source\.layers\[0\] must be a str, got 3"),
        ("03_compare", "budget", {"masks": 0}, "masks must be a whole number of at least 1, got 0"),
        ("03_compare", "source", {"group": "x.csv"}, "unknown key 'group' in source: did you mean groups"),
        ("05_auxiliary", "variants", {"levels": [0]}, "parameter levels can't be 0"),
        ("07_explainer_train", "terms", {"tvs": 1.0}, "unknown key 'tvs' in terms: did you mean tv"),
        ("07_explainer_train", "training", {"loss": "rtis"}, "training.loss is declared as .*: declare it as one of"),
    ],
)
def test_notebooks_refuse_wrong_keys(notebook, name, value, message, study_root, monkeypatch):
    monkeypatch.setattr("ptame_study.figures.use_style", lambda: None)
    with pytest.raises((ValueError, TypeError), match=message):
        checked(notebook, {name: value})


@pytest.mark.parametrize("notebook", [p.stem for p in sorted((CHECKOUT / "notebooks").glob("[0-9]*.ipynb"))])
def test_a_notebook_has_few_parameters(notebook):
    """What describes given images, or tunes a loss or a method, is in dicts; papermill lists all, commented."""
    found = papermill.inspect_notebook(str(CHECKOUT / "notebooks" / f"{notebook}.ipynb")).values()
    assert len([p for p in found if p["inferred_type_name"] != "dict"]) <= 15
    assert all(p["inferred_type_name"] and p["help"] for p in found)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = records.write_whole(tmp_path / "new" / "a.json", "first")
    write = Path.write_text

    def interrupted(self, text, *more):
        write(self, text[:2], *more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", interrupted)
        with pytest.raises(KeyboardInterrupt):
            records.write_whole(file, "second")
        with pytest.raises(KeyboardInterrupt):
            records.write_whole(tmp_path / "new" / "b.json", "second")
    assert file.read_text() == "first"
    assert not (tmp_path / "new" / "b.json").exists()
    assert records.write_whole(file, "third").read_text() == "third"


def test_the_fingerprint_follows_contents_and_parameters(study_root):
    file = study_root / "results" / "e.safetensors"
    records.write_whole(file, "one")
    first = records.fingerprint(file, seed=0)
    assert records.fingerprint(file, seed=0) == first
    assert list(first["files"]) == ["results/e.safetensors"]  # names no machine's folders
    assert records.fingerprint(file, seed=1) != first
    records.write_whole(file, "two")
    assert records.fingerprint(file, seed=0)["files"] != first["files"]
    records.write_whole(study_root / "data" / "embedded" / "vgg.safetensors", "weights")
    assert records.fingerprint(file, seed=0)["library"] != first["library"]
    assert json.loads(json.dumps(first)) == first


def test_a_record_tells_where_it_comes_from(study_root):
    cfg = configure(["profile: str = 'x'\nsteps: int = 5"], {"profile": "x", "steps": 5})
    file = records.Record(cfg, "tiny").write(accuracy=0.5)
    assert file == study_root / "results" / "x" / "tiny.json"
    content = json.loads(file.read_text())
    assert content["results"] == {"accuracy": 0.5}
    origin = content["provenance"]
    assert set(origin) >= {"commit", "versions", "seed", "device", "parameters", "seconds", "peak_memory_mb"}
    assert origin["parameters"]["steps"] == 5
    assert origin["versions"].keys() >= {"python", "torch", "numpy"}
    assert origin["seconds"] >= 0
    assert origin["peak_memory_mb"] > 50
    assert origin["commit"]


def make_notebook(root, name, *cells):
    parameters = nbformat.v4.new_code_cell('profile: str = "small"\nsteps: int = 1', metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[parameters, *map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def test_running_a_notebook(study_root):
    make_profile(study_root, tiny={"steps": 3}, other={"stepz": 3})
    make_notebook(study_root, "tiny", "print('steps', steps)", "1 / (steps - 3)")
    make_notebook(study_root, "other", "pass")
    with pytest.raises(
        RuntimeError,
        match=r"notebooks/tiny\.ipynb failed in cell 3 .*ZeroDivisionError.*\n.*runs/x/tiny\.failed\.ipynb",
    ):
        run.run_notebook("tiny", "x")
    folder = study_root / "runs" / "x"
    assert [p.name for p in folder.iterdir()] == ["tiny.failed.ipynb"]
    assert "ZeroDivisionError" in (folder / "tiny.failed.ipynb").read_text()
    assert run.run_notebook("tiny", "x", extra={"steps": 4}) == folder / "tiny.ipynb"
    assert [p.name for p in folder.iterdir()] == ["tiny.ipynb"]  # the failed one is history
    assert "steps 4" in (folder / "tiny.ipynb").read_text()
    with pytest.raises(ValueError, match="profile x: notebook other has no parameter stepz"):
        run.run_notebook("other", "x")
    with pytest.raises(ValueError, match="unknown notebook 'gone': there are other, tiny"):
        run.run_notebook("gone", "x")


def test_a_notebook_that_is_running_is_not_run_again(study_root, capsys, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.05)
    make_profile(study_root, tiny={})
    make_notebook(study_root, "tiny", "print(resume)")
    with files.alone(study_root / "runs" / "x" / "tiny.ipynb"):
        assert main(["run", "tiny", "--profile", "x"]) == 1
    assert "ERROR: runs/x/tiny.ipynb is being made by another run (process" in capsys.readouterr().err


def test_a_notebook_that_trains_goes_on_where_it_was_killed(study_root):
    """The graph asks for it, unless the profile says otherwise."""
    make_notebook(study_root, "tiny", "print('resume', resume)")
    file = study_root / "notebooks" / "tiny.ipynb"
    file.write_text(file.read_text().replace("steps: int = 1", "resume: bool = False"))
    for settings, expected in (({}, True), ({"resume": False}, False)):
        make_profile(study_root, tiny=settings)
        assert f"resume {expected}" in run.run_notebook("tiny", "x").read_text()


def test_a_relative_root_is_the_same_folder_for_the_notebook(study_root, monkeypatch):
    make_profile(study_root, tiny={})
    make_notebook(study_root, "tiny", "import os; open('said.txt', 'w').write(os.environ['PTAME_ROOT'])")
    monkeypatch.chdir(study_root.parent)
    monkeypatch.setenv("PTAME_ROOT", study_root.name)
    assert main(["run", "tiny", "--profile", "x"]) == 0
    assert (study_root / "said.txt").read_text() == str(study_root)


def test_missing_explainers_are_trained_by_a_notebook_and_others_left_alone(study_root, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(run.subprocess, "run", lambda command, **options: started.append((command[4:], options)))
    assert run.train_missing("x", "a/b", "T-TAME", 2) is None
    assert run.train_missing("x", "a/b", "RTIS") is None
    common = ["--profile", "x", "--classifier", "a/b"]
    assert [command for command, _ in started] == [
        ["02_train_ptame", *common, "--method", "T-TAME", "--seed", "2"],
        ["07_explainer_train", *common, "--loss", "rtis"],
    ]
    assert all(options["env"]["PTAME_ROOT"] == str(study_root) and options["check"] for _, options in started)
    assert "no RTIS for a/b yet: running 07_explainer_train" in capsys.readouterr().err
    for file in (paths.explainer("x", "a/b", "T-TAME", 2), paths.masks("x", "a/b", "rtis")):
        records.write_whole(file, "trained")
    run.train_missing("x", "a/b", "T-TAME", 2)
    run.train_missing("x", "a/b", "RTIS")
    assert len(started) == 2


def test_the_command(study_root, capsys):
    make_profile(study_root, tiny={})
    assert main(["run", "gone", "--profile", "x"]) == 1
    assert "ERROR: unknown notebook 'gone'" in capsys.readouterr().err
    assert main(["report", "--profile", "x"]) == 0
    assert "results/x/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("notebook", "known"),
    [
        ("02_train_ptame", "embedded/vgg, embedded/resnet, embedded/vit"),
        ("02_train_ptame.ipynb", "embedded/vgg, embedded/resnet, embedded/vit"),
        ("04_figures", "embedded/vgg, embedded/resnet, embedded/vit"),
        ("07_explainer_train", "embedded/multi-vgg, embedded/vgg"),
    ],
)
def test_a_notebook_about_one_classifier_is_told_which(notebook, known, monkeypatch, capsys):
    monkeypatch.setattr(papermill, "execute_notebook", None)  # no kernel is started
    assert main(["run", notebook, "--profile", "embedded"]) == 1
    name = notebook.removesuffix(".ipynb")
    assert f"ERROR: notebook {name} is about one classifier: add --classifier with one of {known}\n" in (
        capsys.readouterr().err
    )


def test_the_classifier_may_be_named_by_the_profile_or_the_notebook(study_root):
    make_profile(study_root)
    profiles.check_chosen("x", "02_train_ptame", {"classifier": "a"})
    profiles.check_chosen("x", "03_compare", {})
    profiles.check_chosen("small", "02_train_ptame", {})
    with pytest.raises(ValueError, match="07_explainer_train is about one classifier: profile x has none for it"):
        profiles.check_chosen("x", "07_explainer_train", {})


@pytest.mark.parametrize(("option", "value"), [("--method", "RISE"), ("--loss", "bce")])
def test_the_command_knows_what_can_be_trained(option, value, capsys):
    with pytest.raises(SystemExit):
        main(["run", "02_train_ptame", "--classifier", "embedded/vgg", option, value])
    assert f"argument {option}: invalid choice: '{value}' (choose from" in capsys.readouterr().err


def test_paths(study_root):
    assert paths.explainer("x", "embedded/vgg") == study_root / "results" / "x" / "ptame-embedded-vgg.safetensors"
    assert files.show(paths.per_image("x", "embedded/vgg")) == "results/x/per_image/embedded-vgg.csv"
    assert files.show(Path("/elsewhere/a")) == "/elsewhere/a"
    assert paths.notebook("tiny") == paths.notebook("tiny.ipynb") == study_root / "notebooks" / "tiny.ipynb"


def test_the_notebooks_own_defaults_need_no_profile_file():
    """So that 03, opened first on a clean clone, can have 02 train the explainer it needs."""
    assert profiles.parameters_for("small", "02_train_ptame", "embedded/vit") == {
        "profile": "small",
        "classifier": "embedded/vit",
    }

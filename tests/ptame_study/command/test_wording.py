"""What is said of arguments that the command can't take: what, which value, and what to do."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from ptame_study.command.cli import app

START = ["train", "--classifier", "embedded/vgg", "--images", "photos"]


def refusal(*arguments):
    """What the command prints when it refuses its arguments, without the frame."""
    found = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "300", "TERM": "dumb", "NO_COLOR": "1"})
    assert found.exit_code == 2, found.output
    return " ".join(found.output.split())


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--steps", "0", "give a whole number of at least 1"),
        ("--steps", "1.5", "give a whole number of at least 1"),
        ("--steps", "many", "give a whole number of at least 1"),
        ("--steps", "", "give a whole number of at least 1"),
        ("--batch-size", "1", "give a whole number of at least 2"),
        ("--seed", "-1", "give a whole number of at least 0"),
        ("--held-out", "-2", "give a whole number of at least 0"),
        ("--queries-per-image", "0", "give a whole number of at least 1"),
        *(("--lr", value, "give a number that is not negative") for value in ("-1", "nan", "inf", "fast")),
    ],
)
def test_a_number_out_of_range_is_told_with_its_option_and_what_to_give(option, value, remedy):
    said = refusal(*START, option, value)
    assert f"Invalid value for '{option}': it can't be '{value}': {remedy}" in said
    assert "Input should" not in said


def test_of_a_number_of_five_thousand_digits_a_few_are_shown():
    assert "9... (5000 letters)': give a whole number" in refusal(*START, "--seed", "9" * 5000)


def test_numbers_of_other_commands_are_told_alike():
    assert "it can't be '0': give a whole number of at least 1" in refusal("export", "e.safetensors", "--size", 0)
    asked = ["score", "maps", "--images", "x", "--classifier", "y", "--seed", -1]
    assert "it can't be '-1': give a whole number of at least 0" in refusal(*asked)


@pytest.mark.parametrize("command", ["explain", "report"])
@pytest.mark.parametrize("name", ["-x.jpg", "--x.JPEG", "-photos"])
def test_a_file_that_is_named_like_an_option_is_pointed_to(command, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    assert f"If you mean the file {name}, write ./{name}" in refusal(command, name)
    assert "If you mean" not in refusal(command, f"./{name}", "--colour")


def test_a_file_that_is_not_there_is_pointed_to_if_it_is_named_like_an_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "If you mean the file -x.png, write ./-x.png" in refusal("explain", "-x.png")
    assert "If you mean" not in refusal("explain", "--colour=x.png")

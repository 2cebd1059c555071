"""The time of a training, known by a clock that is not the machine's."""

from types import SimpleNamespace

import pytest

from ptame_lib import PTAME, BlackBox, TrainingConfig
from ptame_study.command import timing
from ptame_study.command.timing import duration, seconds_to_train, while_training
from ptame_study.explainers import fit_explainer

CONFIG = TrainingConfig(steps=100, batch_size=2)


@pytest.fixture
def clock(monkeypatch):
    """Steps take 5 seconds the first time, then 2."""
    times = iter([5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0])
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: next(times)))


@pytest.mark.parametrize("answers_only", [False, True])
def test_a_few_steps_tell_the_time_of_all_and_leave_the_explainer_as_it_is(
    answers_only, clock, auxiliary, classifier, pixels
):
    explainer = PTAME(auxiliary, 7)
    before = {key: value.clone() for key, value in explainer.trained_state().items()}
    asked = BlackBox(classifier, 64) if answers_only else classifier
    data = [{"pixels": image} for image in pixels]
    assert seconds_to_train(explainer, asked, data, CONFIG, tries=3) == 200
    assert all(value.equal(before[key]) for key, value in explainer.trained_state().items())


def test_what_would_be_refused_is_refused_before(auxiliary, classifier):
    with pytest.raises(ValueError, match="fewer than one batch of 2"):
        seconds_to_train(PTAME(auxiliary, 7), classifier, [], CONFIG)


def test_the_rest_is_told_once_while_training(clock):
    said = []
    on_step = while_training(100, said.append, after=2)
    for step in range(5):
        on_step({"step": step})
    assert said == ["About 3 minutes to go."]  # 97 steps of 2 seconds


def test_times_are_for_people():
    assert [duration(s) for s in (4.4, 89, 90, 600, 7200)] == [
        "4 seconds",
        "89 seconds",
        "2 minutes",
        "10 minutes",
        "2.0 hours",
    ]


def test_a_classifier_that_only_answers_is_trained_by_answers(auxiliary, classifier, pixels):
    box = BlackBox(classifier, 64)
    data = [{"pixels": image} for image in pixels]
    history = fit_explainer(PTAME(auxiliary, 7), box, data, TrainingConfig(steps=2, batch_size=2))
    assert len(history) == 2
    assert box.queries == 2 * 2 * (2 + 2 * 8)
    with pytest.raises(ValueError, match="above queries_per_image=3"):
        fit_explainer(PTAME(auxiliary, 7), box, data, TrainingConfig(steps=2, batch_size=2), 3)

"""Ctrl-C and SIGTERM during a training: what was done is kept, and the training goes on from there."""

import os
import signal
import threading

import pytest
import torch
from helpers import Images, same, weights

from ptame_lib import PTAME, TrainingConfig, train_ptame
from ptame_lib.training.stopping import SIGNALS, Stops

LONG = TrainingConfig(steps=7, batch_size=4, lr=1e-2, checkpoint_every=100)


class Ended(Exception):
    """What a signal's handler raises."""


@pytest.fixture
def handled():
    """Handlers as a command has them."""

    def end(number, frame):
        raise Ended(number)

    before = {number: signal.signal(number, end) for number in SIGNALS}
    yield end
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def fresh(auxiliary):
    def make(seed=5):
        torch.manual_seed(seed)
        return PTAME(auxiliary, 7)

    return make


class Signalling(torch.nn.Module):
    """A classifier that sends a signal while it is asked for the n-th time: in the middle of a step."""

    def __init__(self, classifier, at, number):
        super().__init__()
        self.classifier, self.at, self.number, self.asked = classifier, at, number, 0

    def forward(self, pixels):
        self.asked += 1
        if self.asked == self.at:
            os.kill(os.getpid(), self.number)
        return self.classifier(pixels)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("at", ["between steps", "within a step"])
def test_a_signal_loses_no_step(at, number, handled, fresh, classifier, tmp_path):
    """The third step is the last one in any case, though checkpoints are only written every hundredth."""
    whole = fresh()
    expected = train_ptame(whole, classifier, Images(), LONG)
    seen, file = [], tmp_path / "e.ckpt"

    def on_step(row):
        seen.append(row)
        if at == "between steps" and len(seen) == 3:
            os.kill(os.getpid(), number)

    asked = Signalling(classifier, 5 if at == "within a step" else 0, number)  # the decisions, and the masked images
    with pytest.raises(Ended) as ended:
        train_ptame(fresh(), asked, Images(), LONG, checkpoint=file, on_step=on_step)
    assert ended.value.args == (number,)
    done = len(torch.load(file, weights_only=True)["history"])
    assert done == 3
    assert all(signal.getsignal(each) is handled for each in SIGNALS)
    resumed = fresh(seed=99)
    assert train_ptame(resumed, classifier, Images(), LONG, checkpoint=file, resume=True) == expected
    assert same(weights(resumed), weights(whole))


def test_nothing_is_written_before_the_first_step_or_without_a_file(handled, fresh, classifier, tmp_path):
    class Early(Images):
        def draw(self, i, generator):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().draw(i, generator)

    for options in ({"checkpoint": tmp_path / "e.ckpt"}, {}):
        with pytest.raises(Ended):
            train_ptame(fresh(), classifier, Early(), LONG, **options)
    assert [*tmp_path.iterdir()] == []


def test_a_second_signal_ends_at_once(handled):
    def twice():
        with Stops() as stops, stops.finished_first():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Ended):
        twice()


def test_an_ignored_signal_stays_so_and_another_thread_trains(handled, fresh, classifier, tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Stops() as stops, stops.finished_first():
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    found = []
    train = threading.Thread(
        target=lambda: found.extend(train_ptame(fresh(), classifier, Images(), LONG, checkpoint=tmp_path / "e.ckpt"))
    )
    train.start()
    train.join()
    assert len(found) == 7

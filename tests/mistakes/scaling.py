"""Known mistakes in stacked and recorded trainings."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="scale: one norm is clipped over all lanes",
        file="training/lanes.py",
        good="for gradient in gradients]).norm(dim=0)",
        bad="for gradient in gradients]).norm()",
        tests="tests/test_stacked.py::test_a_lane_trains_as_its_fit_does_alone[sgd-False]",
    ),
    Mutant(
        name="scale: all lanes see their examples in one order",
        file="training/stacked.py",
        good="seed=fit.order) for fit in filled]",
        bad="seed=fits[0].order) for fit in filled]",
        tests="tests/test_stacked.py::test_a_lane_trains_as_its_fit_does_alone[sgd-False]",
    ),
    Mutant(
        name="scale: all lanes draw the same noise",
        file="training/stacked.py",
        good="Keys([f.noise for f in filled]",
        bad="Keys([fits[0].noise for f in filled]",
        tests="tests/test_stacked.py::test_a_lane_trains_as_its_fit_does_alone[sgd-False]",
    ),
    Mutant(
        name="scale: a resumed stack forgets its optimizer",
        file="training/stacked.py",
        good="        self._load_slots()\n",
        bad="",
        tests="tests/test_stacked.py::test_a_resumed_stack_goes_on_bit_for_bit",
    ),
    Mutant(
        name="scale: a recording that fails loses its step",
        file="training/capture.py",
        good='.rstrip(": ")\n            function()\n',
        bad='.rstrip(": ")\n',
        tests="tests/test_captured.py::test_what_cannot_be_recorded_goes_on_without_losing_a_step",
    ),
    Mutant(
        name="scale: a training that has ended holds its tensors until the collector comes",
        file="training/capture.py",
        good="        self._calls += 1\n",
        bad="        self._calls += 1\n        self._held = function\n",
        tests="tests/test_captured.py::test_what_a_training_held_is_free_when_it_ends",
    ),
    Mutant(
        name="scale: a recorded step brings its constants from the host",
        file="data/normalise.py",
        good="@lru_cache(maxsize=64)\n",
        bad="",
        tests="tests/test_captured.py::test_a_recorded_step_neither_reads_back_nor_brings_numbers",
    ),
    Mutant(
        name="scale: the recorded learning rate stands still",
        file="training/captured.py",
        good="            set_rate(self.optimizer, rate_of(self.fit, self.training, step))\n",
        bad="",
        tests="tests/test_captured.py::test_static_buffers_give_the_bits_of_the_eager_step",
    ),
    Mutant(
        name="scale: deterministic kernels stay for good",
        file="training/determinism.py",
        good="torch.use_deterministic_algorithms(before[0], warn_only=before[1])",
        bad="pass",
        tests="tests/test_captured.py::test_deterministic_kernels_alone_on_request",
    ),
    Mutant(
        name="scale: a resumed stack is as wide as what is left of it",
        file="executors/stacked.py",
        good="width=max(lanes, len(group))",
        bad="width=len(group)",
        tests="tests/test_stacked_runs.py::test_a_stopped_stack_goes_on_bit_for_bit",
    ),
)

"""Known mistakes in the compiled kernels and the selection of exactly k."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="kernels: a bias correction begins anew with every call",
        file="native/c/train.c",
        good="update_of(net, rates[t], ++net->updates)",
        bad="update_of(net, rates[t], (net->updates++, t + 1))",
        tests="tests/with_compiler/test_c_programs.py::test_program[trainer_test.c-float64]",
    ),
    Mutant(
        name="kernels: pruned places of the dense first layer learn",
        file="native/c/ink.c",
        good="            if (l->keep) g = where",
        bad="            if (!l->rows) g = where",
        tests="tests/with_compiler/test_c_programs.py::test_program[trainer_test.c-float64]",
    ),
    Mutant(
        name="kernels: all samples of a batch are dropped alike",
        file="native/c/noise.c",
        good="(index + s * width)",
        bad="index",
        tests="tests/with_compiler/test_c_programs.py::test_program[trainer_test.c-float64]",
    ),
    Mutant(
        name="kernels: the penalty enters the clipped norm not",
        file="native/c/train.c",
        good="            if (l2 > 0)\n",
        bad="            if (l2 < 0)\n",
        tests="tests/with_compiler/test_c_programs.py::test_program[trainer_test.c-float64]",
    ),
    Mutant(
        name="kernels: a ReLU hides that a number is not finite",
        file="native/c/csr.c",
        good="out[i] = relu ? where(~(s < 0), s) : s;",
        bad="out[i] = relu ? where(s > 0, s) : s;",
        tests="tests/with_compiler/test_c_programs.py::test_program[trainer_test.c-float64]",
    ),
    Mutant(
        name="the native engine's checkpoint forgets the optimizer",
        file="native/engine.py",
        good="self.opened.layout.pack({name: slots",
        bad="vector[:] = 0 if True else len({name: slots",
        tests="tests/with_native/test_engine.py::test_a_checkpoint_goes_on_bit_for_bit",
    ),
)

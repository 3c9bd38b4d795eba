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
    Mutant(
        name="images: of equal pixels the last one gets the gradient",
        file="native/c/conv.c",
        good="ivec better = (v > top) |",
        bad="ivec better = (v >= top) |",
        tests="tests/with_compiler/test_c_programs.py::test_program[images_test.c-float64]",
    ),
    Mutant(
        name="images: a pool lets gradients through a ReLU that is off",
        file="native/c/conv.c",
        good="ivec off = top <= 0;",
        bad="ivec off = top < 0;",
        tests="tests/with_compiler/test_c_programs.py::test_program[images_test.c-float64]",
    ),
    Mutant(
        name="images: the input gradient moves along a row the wrong way",
        file="native/c/conv.c",
        good="(ptrdiff_t)out.row * y - x);",
        bad="(ptrdiff_t)out.row * y + x);",
        tests="tests/with_compiler/test_c_programs.py::test_program[images_test.c-float64]",
    ),
    Mutant(
        name="images: gradients of a filter flow into the next one's",
        file="native/c/conv.c",
        good="kept[end - k])",
        bad="kept[0 * (end - k)])",
        tests="tests/with_compiler/test_c_programs.py::test_program[images_test.c-float64]",
    ),
    Mutant(
        name="images: the second tile of a batch forgets the first one's gradients",
        file="native/c/images.c",
        good="i < room->convolutions && !add;",
        bad="i < room->convolutions && add >= 0;",
        tests="tests/with_compiler/test_c_programs.py::test_program[images_test.c-float64]",
    ),
    Mutant(
        name="images: where a ReLU is off in a whole window, its first pixel learns",
        file="native/c/conv.c",
        good="choice = (off & NOT_ANY) | (~off & choice);",
        bad="choice = (off & 0) | (~off & choice);",
        tests="tests/with_compiler/test_c_programs.py::test_program[images_test.c-float64]",
    ),
    Mutant(
        name="images: a stride is overlooked",
        file="native/links.py",
        good='"stride": ((1, 1),)',
        bad='"stride": ((1, 1), (2, 2))',
        tests="tests/with_native/test_images.py::test_what_it_does_not_know_of_images_is_named",
    ),
    Mutant(
        name="images: features are reordered as for Linear layers",
        file="native/data.py",
        good="    if images:\n",
        bad="    if images is None:\n",
        tests="tests/with_native/test_images.py::test_both_engines_agree_on_images",
    ),
)

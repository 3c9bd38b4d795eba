"""Put known mistakes back, one at a time, and see the tests fail: `make mutants`.

Each mutant is a mistake that has shipped in public code for pruning or lottery tickets, or one step away from such. It
is made in a copy of the package, and the tests named beside it must then fail. A survivor is a hole in the tests.

    python tests/mutants.py [WORD ...] [--jobs N]      only mutants whose name contains a WORD
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SECONDS = 240  # of wall time for one mutant; the machine may be busy


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A mistake: in `file`, `good` becomes `bad`; `tests` (pytest arguments) must notice."""

    name: str
    file: str
    good: str
    bad: str
    tests: str


MUTANTS = (
    Mutant(
        name="the reset is a no-op: tickets go on from the trained weights",
        file="search/plan.py",
        good="rewound = base.dense.at(plan.rewind_to) if plan.rewind_to else plan.init()",
        bad="rewound = before.at(plan.rewind_to) if plan.rewind_to else before.at(Moment.END)",
        tests="tests/test_contracts_search.py",
    ),
    Mutant(
        name="rounds after the first do not rewind to the dense network's step k",
        file="search/plan.py",
        good="rewound = base.dense.at(plan.rewind_to) if plan.rewind_to",
        bad="rewound = before.at(plan.rewind_to) if plan.rewind_to",
        tests="tests/test_contracts_search.py",
    ),
    Mutant(
        name="the gradient mask compares weights without abs: negative weights freeze",
        file="training/enforce.py",
        good="        places.clear(gradient)\n",
        bad="        gradient.masked_fill_(weight < 1e-8, 0.0)\n",
        tests="tests/test_enforce.py",
    ),
    Mutant(
        name="the shuffled control is the ticket",
        file="pruning.py",
        good="places[name] = kept.flatten()[order].view_as(kept)",
        bad="places[name] = kept",
        tests="tests/test_pruning.py",
    ),
    Mutant(
        name="the mask is applied once and not kept: the optimizer regrows the network",
        file="training/enforce.py",
        good="""        for weight in masked:
            hooks.callback(_first_hook(weight, on_gradient).remove)
        before = register_optimizer_step_pre_hook if optimizer is None else optimizer.register_step_pre_hook
        after = register_optimizer_step_post_hook if optimizer is None else optimizer.register_step_post_hook
        hooks.callback(before(before_step).remove)
        if remask:
            hooks.callback(after(after_step).remove)
""",
        bad="",
        tests="tests/test_enforce.py",
    ),
    Mutant(
        name="gradients are masked but momentum is not: pruned weights revive",
        file="training/slots.py",
        good="                places.clear(value)\n",
        bad="                pass\n",
        tests="tests/test_enforce.py",
    ),
    Mutant(
        name="one weight too many is pruned",
        file="pruning.py",
        good="left[name] - budget,",
        bad="left[name] - budget + (budget > 1),",
        tests="tests/test_pruning.py",
    ),
    Mutant(
        name="all weights tied with the threshold go together",
        file="pruning.py",
        good="            found[name] = alive & ~gone.cpu()\n",
        bad="""            limit = scores[name][gone].max() if bool(gone.any()) else scores[name].min() - 1
            found[name] = alive & (scores[name] > limit).cpu()
""",
        tests="tests/test_pruning.py",
    ),
    Mutant(
        name="pruned weights are candidates again",
        file="pruning.py",
        good="[alive.to(scores[name].device)], names=[name])[0]",
        bad="[torch.ones_like(alive)], names=[name])[0]",
        tests="tests/test_pruning.py",
    ),
    Mutant(
        name="weights are not masked after a step",
        file="training/enforce.py",
        good="            hooks.callback(after(after_step).remove)\n",
        bad="            pass\n",
        tests="tests/test_enforce_edges.py",
    ),
    Mutant(
        name="norm clipping sees pruned gradients: they are masked only before the step",
        file="training/enforce.py",
        good="            hooks.callback(_first_hook(weight, on_gradient).remove)\n",
        bad="            pass\n",
        tests="tests/test_enforce.py",
    ),
    Mutant(
        name="gradients are masked by a product: 0 x inf is NaN",
        file="training/places.py",
        good="values.view(image.dtype).bitwise_and_(image)",
        bad="values.mul_(self._kept.to(values.device))",
        tests="tests/test_enforce_edges.py",
    ),
    Mutant(
        name="a resumed run is another run: per-step noise is not seeded",
        file="training/reference.py",
        good="            torch.default_generator.manual_seed(self.noise + step)\n",
        bad="",
        tests="tests/test_states.py",
    ),
    Mutant(
        name="a checkpoint forgets the optimizer",
        file="training/reference.py",
        good="        self.optimizer.load_state_dict(",
        bad="        dict(",
        tests="tests/test_states.py",
    ),
    Mutant(
        name="identity leaves out defaults",
        file="specs.py",
        good='        if field.metadata.get("identity", True) and not',
        bad='        if field.metadata.get("identity", True) and content != field.default and not',
        tests="tests/test_specs.py",
    ),
    Mutant(
        name="the kept state is an alias and moves with training",
        file="training/state.py",
        good='value.detach().to("cpu", copy=True).contiguous()',
        bad='value.detach().to("cpu").contiguous()',
        tests="tests/test_states.py",
    ),
    Mutant(
        name="biases do not rewind",
        file="training/state.py",
        good="    model.load_state_dict(state)\n",
        bad='    model.load_state_dict({n: own[n] if n.endswith("bias") else v for n, v in state.items()})\n',
        tests="tests/test_states.py",
    ),
    Mutant(
        name="batch-norm buffers do not rewind",
        file="training/state.py",
        good="    model.load_state_dict(state)\n",
        bad='    model.load_state_dict({n: own[n] if "running" in n else v for n, v in state.items()})\n',
        tests="tests/test_states.py",
    ),
    Mutant(
        name="a NaN learning rate is accepted",
        file="training/optimizers.py",
        good='        _require(_number(self.lr) and self.lr > 0, "optimizer.lr", self.lr, "a finite number above 0")\n',
        bad="",
        tests="tests/test_recipes.py",
    ),
    Mutant(
        name="a reinit is the ticket's own init",
        file="search/plan.py",
        good='return Init(seed=derive(self.seed, "reinit", draw))',
        bad="return self.init()",
        tests="tests/test_contracts_search.py",
    ),
    Mutant(
        name="the early stop may be step 0",
        file="requests.py",
        good="if p.step > 0 and p.validation_loss is not None",
        bad="if p.validation_loss is not None",
        tests="tests/test_training.py",
    ),
    Mutant(
        name="in a user's loop: gradients are not masked at all",
        file="training/enforce.py",
        good="    gradient = weight.grad\n    if gradient is None:\n",
        bad="    gradient = weight.grad\n    if gradient is not None:\n        return\n    if gradient is None:\n",
        tests="tests/test_find_matrix.py::test_a_ticket_is_trained_as_the_reference[mlp-adamw+clipping]",
    ),
    Mutant(
        name="in a user's loop: a pruned weight's overflow skips the step, for gradients are multiplied",
        file="training/places.py",
        good="values.view(image.dtype).bitwise_and_(image)",
        bad="values.mul_(self._kept.to(values.device))",
        tests="tests/test_find_matrix.py::test_a_ticket_is_trained_as_the_reference[mlp-gradscaler] "
        "tests/test_find_matrix.py::test_a_ticket_is_trained_as_the_reference[cnn+bn-gradscaler] "
        "tests/test_find_matrix.py::test_a_ticket_is_trained_as_the_reference[transformer-gradscaler] "
        "tests/test_find_matrix.py::test_a_ticket_is_trained_as_the_reference[residual-gradscaler]",
    ),
    Mutant(
        name="in a user's loop: gradients are masked before the step only, not as they arrive",
        file="training/enforce.py",
        good="            hooks.callback(_first_hook(weight, on_gradient).remove)\n",
        bad="            pass\n",
        tests="tests/test_find_matrix.py::test_a_ticket_is_trained_as_the_reference[mlp-accumulation]",
    ),
    Mutant(
        name="in a user's loop: LBFGS sees pruned gradients within its step",
        file="training/enforce.py",
        good="            hooks.callback(_first_hook(weight, on_gradient).remove)\n",
        bad="            pass\n",
        tests="tests/test_find_matrix.py::test_a_ticket_is_trained_as_the_reference[mlp-lbfgs]",
    ),
    Mutant(
        name="in a user's loop: weights are not masked after a step that writes them all (Muon)",
        file="training/enforce.py",
        good="            hooks.callback(after(after_step).remove)\n",
        bad="            pass\n",
        tests="tests/test_find_matrix.py::test_a_ticket_is_trained_as_the_reference_in_unusual_loops[mlp-muon]",
    ),
    Mutant(
        name="in a user's loop: state that an optimizer loads is not masked",
        file="training/enforce.py",
        good="                hooks.callback(stepping.register_load_state_dict_post_hook(clear_state).remove)\n",
        bad="                pass\n",
        tests="tests/test_enforce.py",
    ),
    Mutant(
        name="a step is counted for every optimizer",
        file="training/steps.py",
        good="            if not touched.isdisjoint(held) or not touched:\n",
        bad="            if held:\n",
        tests="tests/test_steps.py",
    ),
    Mutant(
        name="a step is counted for every hook: wrapped optimizers count twice",
        file="training/steps.py",
        good="        pending = False\n        after(",
        bad="        pending = True\n        after(",
        tests="tests/test_steps.py",
    ),
    Mutant(
        name="a fused optimizer's step that the GradScaler skips is counted",
        file="training/steps.py",
        good='    found = getattr(optimizer, "found_inf", None)\n',
        bad="    found = None\n",
        tests="tests/test_steps.py",
    ),
    Mutant(
        name="the snapshot is taken after the first of two optimizers",
        file="levels.py",
        good="        if steps.done == course.keep > 0:\n",
        bad="        if steps.done == course.keep > 0 and not kept:\n",
        tests="tests/test_rewinding.py",
    ),
    Mutant(
        name="momentum of the steps before k lives on after rewinding",
        file="levels.py",
        good="            fresh.restore(optimizer, parameters)\n",
        bad="",
        tests="tests/test_rewinding.py",
    ),
    Mutant(
        name="the first k steps of a rewound loop train",
        file="levels.py",
        good="            load_state(model, start)\n",
        bad="            pass\n",
        tests="tests/test_rewinding.py",
    ),
    Mutant(
        name="a tied tensor is rewound under one name only",
        file="rewinding.py",
        good="        if name != firsts[parameter] and name in found:\n",
        bad="        if False:\n",
        tests="tests/test_rewinding.py tests/test_find_matrix.py",
    ),
    Mutant(
        name="levels of one search see different random numbers",
        file="levels.py",
        good="        with guard, seeded(course.seed),",
        bad="        with guard,",
        tests="tests/test_finding.py",
    ),
    Mutant(
        name="a control is the ticket itself",
        file="procedure.py",
        good="                course = replace(course, start=fresh, hold=0)\n",
        bad="                pass\n",
        tests="tests/test_finding.py",
    ),
    Mutant(
        name="a finished level is used for another pair of train and evaluate",
        file="shelf.py",
        good='        said = {"key": self.key, "start"',
        bad='        said = {"key": "", "start"',
        tests="tests/test_finding.py",
    ),
    Mutant(
        name="a damaged level is used",
        file="shelf.py",
        good="        if hashlib.sha256(data).hexdigest() != sha256:\n",
        bad="        if False:\n",
        tests="tests/test_finding.py",
    ),
    Mutant(
        name="an optimizer that lives across levels is not noticed",
        file="levels.py",
        good="        if optimizer in stage.met or _used(optimizer, parameters):\n",
        bad="        if False:\n",
        tests="tests/test_finding.py",
    ),
    Mutant(
        name="a search ends at a level that failed after a leap",
        file="ladder.py",
        good="if high == low + 1 and (high > levels or failed[high] == low):",
        bad="if high == low + 1:",
        tests="tests/test_finding.py",
    ),
    Mutant(
        name="a loss that is not finite is not noticed",
        file="training/loop.py",
        good="            if not all(value is None or math.isfinite(value) for value in seen):\n",
        bad="            if False:\n",
        tests="tests/test_states.py tests/test_training.py",
    ),
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
        name="shrink: constants are dropped and not folded",
        file="shrinking/surgery.py",
        good="if (shift := _shift(layer, staying)) is not None}",
        bad="if (shift := None) is not None}",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: constants are folded in float32",
        file="shrinking/surgery.py",
        good="else bias.double().cpu()",
        bad="else bias.float().cpu()",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: constants are folded through a border of zeros",
        file="shrinking/layers.py",
        good="border = transposed or _has_border(",
        bad="border = transposed and _has_border(",
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: constants are folded into transposed convolutions",
        file="shrinking/layers.py",
        good="border = transposed or _has_border(",
        bad="border = _has_border(",
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: a padded average pool keeps constants",
        file="shrinking/shapes.py",
        good='padded = any(_listed(call["padding"])) and',
        bad="padded = False and",
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: padding with a number keeps every constant",
        file="shrinking/shapes.py",
        good="        and any(w > 0 for w in widths)\n",
        bad="        and widths == []\n",
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: padding by repetition is a border of zeros",
        file="shrinking/shapes.py",
        good='        and (call["mode"] or "constant") == "constant"\n',
        bad="",
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: a sum over places keeps constants",
        file="shrinking/shapes.py",
        good='if call.op == "sum":',
        bad='if call.op == "none":',
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: sums do not couple their channels",
        file="shrinking/values.py",
        good="            self.ties.append((one, other))\n",
        bad="            pass\n",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: flatten has its order wrong",
        file="shrinking/shapes.py",
        good="row.repeat_interleave(repeats).repeat(tiles)",
        bad="row.repeat(repeats).repeat(tiles)",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: flatten over time has its order wrong",
        file="shrinking/shapes.py",
        good="row.repeat_interleave(repeats).repeat(tiles)",
        bad="row.repeat_interleave(repeats).repeat_interleave(tiles)",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: a batch norm is forgotten on constants",
        file="shrinking/layers.py",
        good="constants = torch.where(slope == 0, shift, (x.constants - mean) * slope + shift)",
        bad="constants = x.constants",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: an activation is forgotten on constants",
        file="shrinking/elementwise.py",
        good="constants=_finite(call.on(x.constants), x.constants)",
        bad="constants=x.constants",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: constants are never found",
        file="shrinking/layers.py",
        good="    fixed = ~(present & alive).any(1)\n",
        bad="    fixed = torch.zeros(len(present), dtype=torch.bool)\n",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: constants never go",
        file="shrinking/layers.py",
        good="book.needs.append((outputs, inputs, present & alive))",
        bad="book.needs.append((outputs, inputs, present))",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: 0 times anything is not 0",
        file="shrinking/elementwise.py",
        good='if call.op == "mul":',
        bad='if call.op == "none":',
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: a module that is called twice is cut",
        file="shrinking/tracing.py",
        good="if uses > 1:",
        bad="if uses > 9:",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: a tied weight is cut",
        file="shrinking/tracing.py",
        good="        if others[name]:\n",
        bad="        if others[name] == name:\n",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: channels of groups go one by one",
        file="shrinking/layers.py",
        good="for members in (by_group[:, 1:], out_by_group):",
        bad="for members in (by_group[:, 1:1],):",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: a Linear over time is taken for one over features",
        file="shrinking/layers.py",
        good="x.axis != len(x.shape) - 1:",
        bad="x.axis == -2:",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: a slice of channels is not held",
        file="shrinking/shapes.py",
        good='    call.book.pin(x, f"{call.place} counts its channels")\n    start = ',
        bad="    start = ",
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: an output may lose channels",
        file="shrinking/walking.py",
        good='book.pin(value, "an output of the model")',
        bad="book.tie(value.units, value.units.clone())",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: writing in place is taken for a new tensor",
        file="shrinking/tracing.py",
        good="len(operand.users) > 1:",
        bad="len(operand.users) > 99:",
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: a layer may become empty",
        file="shrinking/flow.py",
        good="            kept[members[0]] = True\n",
        bad="            pass\n",
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="shrink: the smaller network is not tried",
        file="shrinking/entry.py",
        good="if why := difference(expected, run(small, tried)):",
        bad="if (why := difference(expected, run(masked, tried))):",
        tests="tests/test_shrink_rules.py",
    ),
    Mutant(
        name="shrink: all inputs are gathered",
        file="shrinking/layers.py",
        good="            book.tensors.append(inputs)\n        else:",
        bad='            book.pins.append((inputs, ""))\n        else:',
        tests="tests/test_shrink_golden.py",
    ),
    Mutant(
        name="a network is exported in training mode: batch norm by the batch, dropout",
        file="exporting/still.py",
        good='.to("cpu").eval()',
        bad='.to("cpu").train()',
        tests="tests/test_export_model.py",
    ),
    Mutant(
        name="an exported program that differs from torch is written all the same",
        file="exporting/comparing.py",
        good="if not found <= allowed:",
        bad="if not found <= allowed * 1e6:",
        tests="tests/test_export_model.py",
    ),
    Mutant(
        name="the mask is not applied to the network that is exported",
        file="exporting/entry.py",
        good="        apply_mask(model, mask)\n",
        bad="",
        tests="tests/test_export_model.py",
    ),
    Mutant(
        name="a weight that reads a constant counts as effective",
        file="shrinking/effective.py",
        good="staying.of(use.outputs) & use.alive",
        bad="staying.of(use.outputs)",
        tests="tests/test_effective.py",
    ),
    Mutant(
        name="effective weights: paths run backwards through a residual sum",
        file="shrinking/values.py",
        good="        if not self.paths:\n            for other in units[1:]:",
        bad="        if units:\n            for other in units[1:]:",
        tests="tests/test_effective.py",
    ),
    Mutant(
        name="a gain within the spread of the rounds is called a gain",
        file="costing/report.py",
        good="return self.gain_low > 1 or self.gain_high < 1",
        bad="return True",
        tests="tests/test_cost.py",
    ),
    Mutant(
        name="OBS lets removed weights answer to a removal too",
        file="criteria/surgeon.py",
        good="    slopes = slopes * kept[:, None]\n",
        bad="",
        tests="tests/test_criteria_second_order.py",
    ),
    Mutant(
        name="OBS divides by the curvature itself: optimal brain damage under another name",
        file="criteria/surgeon.py",
        good="found = torch.cholesky_inverse(root).diagonal(dim1=1, dim2=2)",
        bad="found = 1 / (slopes.square().mean(1) + damping)",
        tests="tests/test_criteria_second_order.py",
    ),
    Mutant(
        name="OBD counts a short batch like a whole one",
        file="criteria/second_order.py",
        good="part * (len(x) / total)",
        bad="part / len(batches)",
        tests="tests/test_criteria_second_order.py",
    ),
    Mutant(
        name="fine-tuning starts from the weights before the surgeon adjusted them",
        file="search/plan.py",
        good="trained = cuts.mask, cuts.adjusted or before.at(Moment.END)",
        bad="trained = cuts.mask, before.at(Moment.END)",
        tests="tests/test_criteria_second_order.py",
    ),
    Mutant(
        name="Wanda compares weights over the whole tensor",
        file="criteria/reconstruction.py",
        good="_ranks(scores, alive) if self.per_output else scores.where(alive, 0.0)",
        bad="scores.where(alive, 0.0)",
        tests="tests/test_criteria_reconstruction.py",
    ),
    Mutant(
        name="SparseGPT divides by the root of the inverse's diagonal once too little",
        file="criteria/reconstruction.py",
        good="/ root.diagonal()[columns].square()",
        bad="/ root.diagonal()[columns]",
        tests="tests/test_criteria_reconstruction.py",
    ),
    Mutant(
        name="SparseGPT brings weights back that went before, and reckons with them",
        file="criteria/reconstruction.py",
        good="_sweep(w, ~kept, root, columns)",
        bad="_sweep(w, ~kept & (w != 0), root, columns)",
        tests="tests/test_criteria_reconstruction.py",
    ),
    Mutant(
        name="the variance of a constant is a difference of large numbers",
        file="criteria/calibration.py",
        good="self.origin = rows[:, :1].clone()",
        bad="self.origin = torch.zeros_like(rows[:, :1])",
        tests="tests/test_criteria_reconstruction.py",
    ),
    Mutant(
        name="GraSP keeps what it should remove: the sign of S is turned",
        file="criteria/gradients.py",
        good="second[name].mul_(weights[name].detach()) for name in mask",
        bad="second[name].mul_(-weights[name].detach()) for name in mask",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="movement pruning: the sign of the sum is turned, so what moved away from 0 goes",
        file="criteria/gradients.py",
        good="sums[name].detach().to(",
        bad="-sums[name].detach().to(",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="GraSP: what is pruned has a gradient",
        file="criteria/gradients.py",
        good="g.mul_(mask[n].to(g.device)) for n, g",
        bad="g for n, g",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="SynFlow: biases take part, and the flow is not conserved",
        file="criteria/synflow.py",
        good="                weight.zero_()\n",
        bad="                weight.abs_()\n",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="SynFlow overflows in deep networks",
        file="criteria/synflow.py",
        good="_POWERS = (0, -900, 900)",
        bad="_POWERS = (0,)",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="the Fisher information of a whole batch is taken for that of its examples",
        file="criteria/fisher.py",
        good=".square_().sum(0)",
        bad=".sum(0).square_()",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="the true Fisher takes the labels of the data",
        file="criteria/fisher.py",
        good='return _drawn(outputs, y, stream(probe.seed, f"true_fisher/{batch}"))',
        bad="return y",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="FORCE scores only what is left, so nothing can return",
        file="criteria/rounds.py",
        good="slopes[name].mul_(dense[name])",
        bad="slopes[name].mul_(weights[name].detach())",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="what was cut in a round is a candidate of the next",
        file="criteria/rounds.py",
        good="            left[name].logical_and_(~going)\n",
        bad="            left[name] = ~going\n",
        tests="tests/test_criteria_gradients.py",
    ),
    Mutant(
        name="signs: the scores of weights that fail are set to 0, above those that shrank",
        file="criteria/signs.py",
        good="scores[name] - below)",
        bad="torch.zeros_like(scores[name]))",
        tests="tests/test_criteria_weights.py",
    ),
    Mutant(
        name="large_init_large_final compares magnitudes of different scales, not percentiles",
        file="criteria/weights.py",
        good="torch.minimum(_percentile(first, alive), _percentile(last, alive))",
        bad="torch.minimum(first, last)",
        tests="tests/test_criteria_weights.py",
    ),
    Mutant(
        name="apoz keeps the units that are zero most often",
        file="criteria/units.py",
        good="lambda rows: rows != 0",
        bad="lambda rows: rows == 0",
        tests="tests/test_criteria_units.py",
    ),
    Mutant(
        name="a unit is followed through a residual sum in place: the activation is another's too",
        file="criteria/looking.py",
        good="if followed or writes else None",
        bad="if followed else None",
        tests="tests/test_looking.py",
    ),
    Mutant(
        name="a unit is silenced before its normalisation and nonlinearity",
        file="criteria/looking.py",
        good="        if meeting in at[weight]:\n",
        bad="        if meeting == 1:\n",
        tests="tests/test_criteria_sensitivity.py",
    ),
    Mutant(
        name="padding='same' puts the odd place before the input, torch puts it behind",
        file="criteria/looking.py",
        good="(span // 2, span - span // 2)",
        bad="(span - span // 2, span // 2)",
        tests="tests/test_looking.py",
    ),
    Mutant(
        name="principal filter analysis ranks once, against units that are dropped already",
        file="criteria/redundancy.py",
        good="        sums = sums - sizes[at]\n",
        bad="",
        tests="tests/test_criteria_redundancy.py",
    ),
    Mutant(
        name="mutual information: a unit's own variance, not what it tells about the answer",
        file="criteria/information.py",
        good="(whole / alone).log()",
        bad="whole.log()",
        tests="tests/test_criteria_information.py",
    ),
    Mutant(
        name="hebbian correlates with what the layer puts out before its nonlinearity",
        file="criteria/hebbian.py",
        good="found[weight] if found[weight].shape == out.shape else out",
        bad="out",
        tests="tests/test_criteria_sensitivity.py",
    ),
    Mutant(
        name="units of the output layer are pruned whole: a class can never be answered again",
        file="granularity/units.py",
        good="[name for name in mask if name != output]",
        bad="[name for name in mask if name]",
        tests="tests/test_granularity.py",
    ),
    Mutant(
        name="equal units of a transposed layout are all taken in part",
        file="granularity/units.py",
        good="_stepped(units).view(",
        bad="units.view(",
        tests="tests/test_granularity.py",
    ),
    Mutant(
        name="ERK forgets the sizes of kernels",
        file="allocation/erdos_renyi.py",
        good="{n: sum(s) for n, s in mask.shapes.items()}",
        bad="{n: sum(s[:2]) for n, s in mask.shapes.items()}",
        tests="tests/test_allocations.py",
    ),
    Mutant(
        name="LAMP divides by the weights below instead of those above",
        file="allocation/lamp.py",
        good="squares.flip(0).cumsum(0).flip(0)",
        bad="squares.cumsum(0)",
        tests="tests/test_allocations.py",
    ),
    Mutant(
        name="LAMP counts weights that are pruned already",
        file="allocation/lamp.py",
        good="score = scores[name][mask[name].to(scores[name].device)]",
        bad="score = scores[name].flatten()",
        tests="tests/test_allocations.py",
    ),
    Mutant(
        name="uniform+ spares a first layer that is no convolution",
        file="allocation/uniform.py",
        good="if len(mask.shapes[first]) == 4:",
        bad="if first:",
        tests="tests/test_allocations.py",
    ),
    Mutant(
        name="smart ratio: what a layer cannot hold is not pushed on to the next",
        file="allocation/smart_ratio.py",
        good="total = found[name] + over",
        bad="total = found[name]",
        tests="tests/test_allocations.py",
    ),
    Mutant(
        name="a unit budget guards weights into units, none out of them",
        file="allocation/unit_budget.py",
        good="(into | out if layer.follows else into)",
        bad="into",
        tests="tests/test_allocations.py",
    ),
    Mutant(
        name="layerwise allocation goes by another rate than the schedule",
        file="experiment.py",
        good="rate = schedule.rate if isinstance(schedule, Geometric) else recipe.rate",
        bad="rate = recipe.rate",
        tests="tests/test_schedules.py",
    ),
    Mutant(
        name="weight decay moves the constants of frozen places",
        file="training/frozen.py",
        good="register_step_post_hook(after_step)",
        bad="register_step_post_hook(lambda *_: None)",
        tests="tests/test_frozen.py",
    ),
    Mutant(
        name="a penalty pulls at frozen places, and the clipped norm sees it",
        file="training/reference.py",
        good="return weight.detach().where(mask[name].to(weight.device), 0)",
        bad="return weight.detach()",
        tests="tests/test_frozen.py",
    ),
    Mutant(
        name="states with frozen places are packed under the mask and lose their constants",
        file="executors/work.py",
        good="return fit.mask if fit.frozen is None else None",
        bad="return fit.mask",
        tests="tests/test_frozen.py",
    ),
    Mutant(
        name="a reset that keeps signs keeps none",
        file="resets/survivors.py",
        good="return torch.copysign(values, own)",
        bad="return values.abs()",
        tests="tests/test_resets.py",
    ),
    Mutant(
        name="a reshuffle draws from the pruned weights too",
        file="resets/survivors.py",
        good="return drawn_anew(whole[kept], generator)",
        bad="return drawn_anew(whole, generator)[kept]",
        tests="tests/test_resets.py",
    ),
    Mutant(
        name="a checkpoint forgets the sums gathered so far",
        file="training/reference.py",
        good="        self.gathering.load(gathered)\n",
        bad="",
        tests="tests/test_gather.py",
    ),
    Mutant(
        name="the untrained control is trained",
        file="search/controls.py",
        good="cuts.mask, last=0, frozen=frozen)",
        bad="cuts.mask, frozen=frozen)",
        tests="tests/test_contracts_search.py",
    ),
    Mutant(
        name="a league claims every difference that one test by itself would show",
        file="league/standings.py",
        good="    better = holm([None if found is None else greater(found).p for found in tested])",
        bad="    better = [None if found is None else greater(found).p for found in tested]",
        tests="tests/test_league.py",
    ),
    Mutant(
        name="who fails at the hardest density of a league wins by the mean of the others",
        file="league/standings.py",
        good="    return -len(known), -sum(known)",
        bad="    return 0, -sum(known)",
        tests="tests/test_league.py",
    ),
    Mutant(
        name="large noise counts as harmless after smaller noise has done harm",
        file="league/harmless.py",
        good="                break\n",
        bad="                continue\n",
        tests="tests/test_league.py",
    ),
    Mutant(
        name="an experiment of a league notes its rows under the numbers of the league's searches",
        file="league/running.py",
        good="replace(row, place=replace(row.place, replicate=seat.replicate))",
        bad="row",
        tests="tests/test_league.py",
    ),
    Mutant(
        name="the estimate of a league takes all masks that are not made yet for one",
        file="league/estimate.py",
        good='(found.digest, "" if found.stored else found.cut)',
        bad='(found.digest, "")',
        tests="tests/test_league.py",
    ),
    Mutant(
        name="gradual: a cut forgets the momentum of the survivors",
        file="training/gradual.py",
        good="        self.mask = cut.mask\n",
        bad="        self.mask = cut.mask\n        self._optimizer.state.clear()\n",
        tests="tests/test_gradual.py",
    ),
    Mutant(
        name="gradual: nothing holds the new mask, and pruned weights grow again",
        file="training/gradual.py",
        good="        self.mask = cut.mask\n        self._hold()\n",
        bad="        self.mask = cut.mask\n",
        tests="tests/test_gradual.py",
    ),
    Mutant(
        name="gradual: a resumed training begins with the first mask",
        file="training/reference.py",
        good="self.thinning.mask = Mask({name: mask[name] for name in self.thinning.mask})",
        bad="pass",
        tests="tests/test_gradual.py",
    ),
    Mutant(
        name="gradual: early stop is that of a network that was denser",
        file="requests.py",
        good="if p.step >= max(1, self.settled) and",
        bad="if p.step >= 1 and",
        tests="tests/test_gradual.py",
    ),
    Mutant(
        name="gradual: the control of inverted scores is pruned as the ticket is",
        file="search/gradual.py",
        good="pruner=replace(plan.pruner, inverted=inverted)",
        bad="pruner=plan.pruner",
        tests="tests/test_gradual.py tests/test_contracts_search.py",
    ),
    Mutant(
        name="gradual: the cubic schedule goes by sparsity left to remove, step after step",
        file="schedules.py",
        good="        keep = round(schedule(cut, n) * total)\n",
        bad="        keep = round(schedule(cut, n) * (found[-1][1] if found else total))\n",
        tests="tests/test_gradual.py",
    ),
)


def judge(mutant: Mutant, seconds: int = SECONDS) -> tuple[str, float]:
    """Run the mutant's tests on a changed copy: "killed", "SURVIVED", or why it could not be judged; and seconds."""
    with tempfile.TemporaryDirectory(prefix="tombola-mutant-") as folder:
        copy = Path(folder)
        for name in ("tombola", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "setup.py"):
            shutil.copy(ROOT / name, copy)
        file = copy / "tombola" / mutant.file
        text = file.read_text()
        if mutant.good and text.count(mutant.good) != 1:
            return f"STALE: {mutant.file} has the text {text.count(mutant.good)} times", 0.0
        file.write_text(text.replace(mutant.good, mutant.bad) if mutant.good else text)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests.split()]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1", "TOMBOLA_REQUIRE": ""}
        begun = time.monotonic()
        try:
            ended = subprocess.run(
                command, cwd=copy, env=environment, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            return f"no verdict within {seconds} s", float(seconds)
    # 1: tests failed. Anything else is no verdict on the mutant: 2 interrupted, 4 usage, 5 nothing collected.
    other = f"pytest ended with {ended.returncode}: {ended.stdout[-300:]}"
    return {0: "SURVIVED", 1: "killed"}.get(ended.returncode, other), time.monotonic() - begun


def unchanged() -> Mutant:
    """No mistake at all: the tests of all mutants pass on a copy, so that what kills a mutant is the mistake."""
    tests = " ".join(sorted({test for mutant in MUTANTS for test in mutant.tests.split()}))
    return Mutant(name="unchanged", file="__init__.py", good="", bad="", tests=tests)


def main() -> int:
    """Judge all mutants; 1 unless every one is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    chosen = [m for m in MUTANTS if not asked.words or any(word in m.name for word in asked.words)]
    verdict, _ = judge(unchanged(), 5 * SECONDS)  # the tests of all mutants together
    if verdict != "SURVIVED":
        print(f"The tests do not pass on an unchanged copy: {verdict}")
        return 1
    killed = 0
    with ThreadPoolExecutor(asked.jobs) as pool:
        for mutant, (verdict, seconds) in zip(chosen, pool.map(judge, chosen), strict=True):
            killed += verdict == "killed"
            print(f"{verdict:<9} {seconds:5.0f} s  {mutant.name}", flush=True)
    print(f"{killed} of {len(chosen)} mutants killed")
    return 0 if killed == len(chosen) and chosen else 1


if __name__ == "__main__":
    sys.exit(main())

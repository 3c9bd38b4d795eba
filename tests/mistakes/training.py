"""Known mistakes in training loops, data and networks."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="the gradient mask compares weights without abs: negative weights freeze",
        file="training/enforce.py",
        good="        places.clear(gradient)\n",
        bad="        gradient.masked_fill_(weight < 1e-8, 0.0)\n",
        tests="tests/test_enforce.py",
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
        name="an optimizer that lives across levels is not noticed",
        file="levels.py",
        good="        if optimizer in stage.met or _used(optimizer, parameters):\n",
        bad="        if False:\n",
        tests="tests/test_finding_refusals.py",
    ),
    Mutant(
        name="a loss that is not finite is not noticed",
        file="training/loop.py",
        good="            if not all(value is None or math.isfinite(value) for value in seen):\n",
        bad="            if False:\n",
        tests="tests/test_states.py tests/test_training.py",
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
        name="a checkpoint forgets the sums gathered so far",
        file="training/reference.py",
        good="        self.gathering.load(gathered)\n",
        bad="",
        tests="tests/test_gather.py",
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
        name="in a user's loop: buffers that are in no state live on from level to level",
        file="levels.py",
        good="                value.copy_(self.unsaved[name])\n",
        bad="                pass\n",
        tests="tests/test_finding.py::test_buffers_that_are_in_no_state_are_put_back_too",
    ),
    Mutant(
        name="in a user's loop: a module that the loop has converted stays so",
        file="levels.py",
        good="                value.data = value.data.to(device, dtype)\n",
        bad="                pass\n",
        tests="tests/test_finding.py::test_a_loop_may_convert_the_module",
    ),
)

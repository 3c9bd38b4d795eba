"""Known mistakes in the named networks, their initialisation and their rates."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

_MODELS, _HOUSE, _DRAWS = "tests/test_models.py", "tests/test_models_house.py", "tests/test_initializers.py"

MUTANTS = (
    Mutant(
        name="networks: every seed draws the same weights, so that a re-initialised ticket is the ticket",
        file="models/initializers.py",
        good='stream(seed, "init")',
        bad='stream(0, "init")',
        tests=f"{_DRAWS}::test_networks_take_every_initialisation",
    ),
    Mutant(
        name="networks: Kaiming's variance by outputs instead of inputs",
        file="models/initializers.py",
        good='nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)',
        bad='nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)',
        tests=f"{_DRAWS}::test_the_spread_is_that_of_the_formula",
    ),
    Mutant(
        name="networks: batch-norm scales are drawn among the weights, which move with them",
        file="models/initializers.py",
        good="module.weight.uniform_(generator=scales)",
        bad="module.weight.uniform_(generator=weights)",
        tests=f"{_DRAWS}::test_batch_norm_scales_are_one_or_uniform_and_move_no_weight",
    ),
    Mutant(
        name="networks: a ticket file's initialisation may name code to import",
        file="models/net.py",
        good='good = name in INITIALIZERS and ("=" in options and ":" not in options if colon else True)',
        bad="good = name in INITIALIZERS or bool(colon)",
        tests=f"{_DRAWS}::test_initialisations_that_are_refused "
        f"{_DRAWS}::test_a_ticket_s_note_keeps_the_options_and_imports_nothing",
    ),
    Mutant(
        name="networks: a block's ReLU stands before the sum",
        file="models/residual.py",
        good="self.relu(self.body(x) + self.shortcut(x))",
        bad="self.relu(self.body(x)) + self.shortcut(x)",
        tests=f"{_MODELS}::test_a_block_is_its_formula",
    ),
    Mutant(
        name="networks: a depthwise convolution mixes the channels",
        file="models/residual.py",
        good="stride=step, groups=channels)",
        bad="stride=step)",
        tests=f"{_MODELS}::test_residual_networks_have_the_weights_of_a_sum",
    ),
    Mutant(
        name="networks: a fifth pool in VGG, so that 32 x 32 images end at one place",
        file="models/vgg.py",
        good='    layers["pool"] = nn.AdaptiveAvgPool2d(1)\n',
        bad='    layers["pool5"] = nn.MaxPool2d(2)\n    layers["pool"] = nn.AdaptiveAvgPool2d(1)\n',
        tests=f"{_MODELS}::test_vgg_takes_the_mean_over_places",
    ),
    Mutant(
        name="networks: dropout in front of the first hidden layer too, on the convolutions' outputs",
        file="models/convolutional.py",
        good='    layers["flatten"] = nn.Flatten()\n',
        bad='    layers["flatten"] = nn.Flatten()\n    layers["dropout0"] = nn.Dropout(net.dropout)\n',
        tests=f"{_MODELS}::test_conv_networks_are_plain_chains",
    ),
    Mutant(
        name="networks: convolutions are pruned at the rate of fully connected layers",
        file="allocation/layerwise.py",
        good="self.conv if self.conv and len(shape) > 2 else self.rate",
        bad="self.rate",
        tests=f"{_HOUSE}::test_densities_of_the_paper_level_by_level",
    ),
    Mutant(
        name="networks: levels are counted as if convolutions went at the common rate",
        file="ladder.py",
        good="        wanted = next(enough, last)\n",
        bad="        wanted = first\n",
        tests=f"{_HOUSE}::test_the_convolutions_rate_reaches_the_plan_and_own_loops",
    ),
    Mutant(
        name="networks: batch norm may get one example where a batch goes through in parts",
        file="training/checking.py",
        good="if training.batch_size // training.parts == 1:",
        bad="if training.batch_size == 1:",
        tests=f"{_HOUSE}::test_batch_norm_needs_two_values",
    ),
)

"""Known mistakes around convolutional networks: augmentation, formats, parts of a batch, parts of a data set."""

from __future__ import annotations

from mistakes.base import Mutant

__all__ = ["MUTANTS"]

MUTANTS = (
    Mutant(
        name="augmentation: one move for the whole batch",
        file="data/augmentation.py",
        good="            x = windows[each, :, (down * places).long(), (right * places).long()]\n",
        bad="            x = windows[each, :, (down[:1] * places).long(), (right[:1] * places).long()]\n",
        tests="tests/test_augmentation.py",
    ),
    Mutant(
        name="augmentation: images never move by pad to the far side",
        file="data/augmentation.py",
        good="            places = 2 * self.pad + 1\n",
        bad="            places = 2 * self.pad\n",
        tests="tests/test_augmentation.py",
    ),
    Mutant(
        name="augmentation: every step draws the same noise",
        file="training/reference.py",
        good='            x = self.augment(x, self._key("augment", step))\n',
        bad='            x = self.augment(x, self._key("augment", 0))\n',
        tests="tests/test_augmentation.py",
    ),
    Mutant(
        name="channels last: a resumed optimizer state lies in another order than its weight",
        file="training/reference.py",
        good="    if value.shape != weight.shape:\n",
        bad="    if True:\n",
        tests="tests/test_augmentation.py",
    ),
    Mutant(
        name="parts of a batch: gradients are summed, not averaged by their sizes",
        file="training/reference.py",
        good="                loss = loss * (len(wanted) / count)\n",
        bad="                loss = loss / training.parts\n",
        tests="tests/test_augmentation.py",
    ),
    Mutant(
        name="parts of a batch: all have the same dropout",
        file="training/reference.py",
        good='    return f"dropout/{number}" if part == 0 else f"dropout/{number}/{part}"\n',
        bad='    return f"dropout/{number}"\n',
        tests="tests/test_augmentation.py",
    ),
    Mutant(
        name="bfloat16: losses are rounded too",
        file="training/forward.py",
        good="    return outputs.to(dtype)\n",
        bad="    return outputs\n",
        tests="tests/test_augmentation.py",
    ),
    Mutant(
        name="a part of a data set is its first examples",
        file="data/part.py",
        good='        return torch.randperm(count, generator=stream(0, f"part/{name}"))[:wanted].sort().values\n',
        bad="        return torch.arange(wanted)\n",
        tests="tests/test_data_part.py",
    ),
)

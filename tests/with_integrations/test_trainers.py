"""Lightning's and Transformers' own trainers inside `train`, with no integration at all, and with the callbacks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import same_state
from lightning.pytorch import LightningModule, Trainer
from own_loops import MODULES, built, mlp
from test_enforce_edges import hooks_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, TrainingArguments
from transformers import Trainer as HfTrainer

from tombola import Mask, enforce, find_ticket
from tombola.integrations.lightning import TicketCallback as LightningCallback
from tombola.integrations.transformers import TicketCallback as HfCallback
from tombola.levels import now
from tombola.training.steps import counting

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(64, 6, generator=GENERATOR), torch.randint(3, (64,), generator=GENERATOR)
WORDS = torch.randint(30, (32, 7), generator=GENERATOR)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Their warnings are their own; ours stay errors in all other tests."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)


class Lit(LightningModule):
    """A user's LightningModule around a module of their own."""

    def __init__(self, model: nn.Module, manual: bool = False) -> None:
        super().__init__()
        self.model, self.automatic_optimization = model, not manual
        self.clean = True

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        if not self.automatic_optimization:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.log("loss", loss)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        going, named = now(), dict(self.model.named_parameters())
        assert going is not None
        gone = [named[name].detach()[~going.mask[name]] for name in going.mask]
        self.clean &= not any(bool(values.any()) for values in gone)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.01, fused=False)


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipping": {"gradient_clip_val": 0.1},
    "accumulation": {"accumulate_grad_batches": 2},
    "bfloat16": {"precision": "bf16-mixed"},
    "manual": {"manual": True},
}


def lightning_train(seen: list[tuple[int, bool, dict[str, Any]]], **settings: Any) -> Any:
    def train(model: nn.Module) -> None:
        given = dict(settings)
        lit = Lit(model, given.pop("manual", False))
        quietly = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = Trainer(max_epochs=2, accelerator="cpu", logger=False, **quietly, **given)
        trainer.fit(lit, DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=True))
        seen.append((trainer.global_step, lit.clean, dict(trainer.callback_metrics)))

    return train


@pytest.mark.parametrize("way", WAYS)
def test_lightning_needs_no_integration(way: str) -> None:
    seen: list[tuple[int, bool, dict[str, Any]]] = []
    model, twin = built(MODULES["mlp"]), built(MODULES["mlp"])
    hooks = hooks_of(model, torch.optim.SGD(model.parameters(), lr=0.1))
    ticket = find_ticket(model, lightning_train(seen, **WAYS[way]), levels=2, rate=0.4, rewind_to=2)
    assert (
        [row.steps for row in ticket.history]
        == [step for step, _, _ in seen]
        == [8 // (1 + (way == "accumulation"))] * 3
    )
    assert all(clean for _, clean, _ in seen)
    assert hooks_of(model, torch.optim.SGD(model.parameters(), lr=0.1)) == hooks
    again = find_ticket(twin, lightning_train([], **WAYS[way]), levels=2, rate=0.4, rewind_to=2)
    assert again.mask == ticket.mask and same_state(again.trained or {}, ticket.trained or {})


def test_the_callback_logs_level_and_density(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[tuple[int, bool, dict[str, Any]]] = []
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch").propagate = True
    with caplog.at_level(logging.INFO):
        ticket = find_ticket(mlp(), lightning_train(seen, callbacks=[LightningCallback()]), levels=1, rate=0.5)
    logged = [{k: float(v) for k, v in metrics.items() if k.startswith("ticket")} for _, _, metrics in seen]
    density = pytest.approx(ticket.mask.density)
    assert logged == [{"ticket/level": 0, "ticket/density": 1}, {"ticket/level": 1, "ticket/density": density}]


def bert() -> nn.Module:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(vocab_size=30, max_position_embeddings=16, **sizes, **quiet))


def gpt2() -> nn.Module:
    quiet = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2, **quiet))


def rows(model: nn.Module) -> list[dict[str, Tensor]]:
    if isinstance(model, GPT2LMHeadModel):
        return [{"input_ids": words, "labels": words} for words in WORDS]
    return [{"input_ids": words, "labels": words[0] % 2} for words in WORDS]


HF_WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "bfloat16": {"bf16": True, "use_cpu": True},
    "checkpointing": {"gradient_checkpointing": True},
    "adafactor": {"optim": "adafactor"},
}


def hf_train(place: Path, seen: list[Any], callbacks: list[Any] | None = None, **settings: Any) -> Any:
    def train(model: Any) -> None:
        args = TrainingArguments(
            output_dir=str(place),
            per_device_train_batch_size=8,
            num_train_epochs=2,
            learning_rate=5e-3,
            logging_steps=2,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            **{name: value for name, value in settings.items() if name != "use_cpu"},
        )
        trainer = HfTrainer(model=model, args=args, train_dataset=rows(model), callbacks=callbacks)
        trainer.train()
        seen.append((trainer.state.global_step, trainer.state.log_history))

    return train


@pytest.mark.parametrize("way", HF_WAYS)
@pytest.mark.parametrize("build", [bert, gpt2])
def test_transformers_needs_no_integration(build: Any, way: str, tmp_path: Path) -> None:
    seen: list[Any] = []
    torch.manual_seed(0)
    model, twin = build(), build()
    for _ in range(2):
        hf_train(tmp_path, [], **HF_WAYS[way])(twin)  # gradient checkpointing leaves a hook of Transformers' own
    hooks = hooks_of(twin, torch.optim.SGD(twin.parameters(), lr=0.1))
    ticket = find_ticket(model, hf_train(tmp_path, seen, **HF_WAYS[way]), levels=1, rate=0.5)
    steps = 8 // (1 + (way == "accumulation"))
    assert [row.steps for row in ticket.history] == [found[0] for found in seen] == [steps] * 2
    assert ticket.trained is not None and 0.49 < ticket.mask.density < 0.51
    for name in ticket.mask:
        assert not bool(ticket.trained[name][~ticket.mask[name]].any()), name
        assert not torch.equal(ticket.trained[name], ticket.weights[name]), name
    assert not any("embeddings" in name or "wte" in name or "wpe" in name or "lm_head" in name for name in ticket.mask)
    assert hooks_of(model, torch.optim.SGD(model.parameters(), lr=0.1)) == hooks


def test_the_trainer_callback_adds_level_and_density(tmp_path: Path) -> None:
    seen: list[Any] = []
    ticket = find_ticket(bert(), hf_train(tmp_path, seen, [HfCallback()]), levels=1, rate=0.5)
    for level, (_, history) in enumerate(seen):
        density = 1.0 if level == 0 else ticket.mask.density
        assert len(history) >= 4 and all(row["ticket_level"] == level for row in history)
        assert all(row["ticket_density"] == density for row in history)


def test_the_callbacks_say_nothing_outside(tmp_path: Path) -> None:
    seen: list[Any] = []
    hf_train(tmp_path, seen, [HfCallback()])(bert())
    assert seen and "ticket_level" not in seen[0][1][0]


def test_steps_and_masks_by_hand_around_a_trainer(tmp_path: Path) -> None:
    model, seen = gpt2(), list[Any]()
    mask = Mask({name: torch.rand(shape) < 0.3 for name, shape in Mask.dense(model).shapes.items()})
    with enforce(model, None, mask), counting(model) as steps:
        hf_train(tmp_path, seen, max_grad_norm=0.1)(model)
    assert steps.done == seen[0][0] == 8
    assert all(not bool(dict(model.named_parameters())[name][~mask[name]].any()) for name in mask)

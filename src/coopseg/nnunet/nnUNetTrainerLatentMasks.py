"""Trains nnU-Net v2 on latent hard examples beside its own batches."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn.utils import clip_grad_norm_

from coopseg.latent import LatentMasks, MaskedFeatures

LARGEST_NORM = 12  # of the gradient, as in nnUNetTrainer


class nnUNetTrainerLatentMasks(nnUNetTrainer):  # type: ignore[misc]  # noqa: N801 (nnU-Net finds it by its name)
    """Adds to each step a second pass, in which the decoder reads masked features at every level.

    Both passes have nnU-Net's own loss. A subclass in a folder that nnUNet_extTrainer names can change masks,
    weight (of the second pass) and begin (the share of the epochs that are trained as usual before).
    """

    masks = LatentMasks()
    weight = 1.0
    begin = 0.1

    def _do_i_compile(self) -> bool:
        return False  # hooks do not run in a compiled network

    def initialize(self) -> None:
        """Builds what nnUNetTrainer builds, and finds what the decoder reads."""
        super().initialize()
        self.features = MaskedFeatures(self.network, self.masks)
        self.generator = torch.Generator().manual_seed(self.fold if isinstance(self.fold, int) else 0)
        places = ", ".join(place.name for place in self.features.places)
        self.print_to_log_file(
            f"latent masks on {places}, weight {self.weight}, from epoch {self._first_masked()}; "
            "the network is not compiled"
        )

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Trains on a batch and, from the first masked epoch on, on its hard examples."""
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"]
        target = (
            [part.to(self.device, non_blocking=True) for part in target]
            if isinstance(target, list)
            else (target.to(self.device, non_blocking=True))
        )
        self.optimizer.zero_grad(set_to_none=True)
        hard = self.current_epoch >= self._first_masked()
        with self.features.recorded() if hard else nullcontext():
            loss = self._loss(data, target)
        self._backward(loss)
        if hard:
            with self.features.masked(self.features.sample(self.generator)):
                self._backward(self.weight * self._loss(data, target))
        self._step()
        return {"loss": loss.detach().cpu().numpy()}

    def _first_masked(self) -> int:
        return round(self.begin * int(self.num_epochs))

    def _loss(self, data: torch.Tensor, target: Any) -> torch.Tensor:
        cuda = self.device.type == "cuda"
        with torch.autocast("cuda") if cuda else nullcontext():  # as nnUNetTrainer has it
            found: torch.Tensor = self.loss(self.network(data), target)
        return found

    def _backward(self, loss: torch.Tensor) -> None:
        scaled = loss if self.grad_scaler is None else self.grad_scaler.scale(loss)
        scaled.backward()

    def _step(self) -> None:
        if self.grad_scaler is not None:
            self.grad_scaler.unscale_(self.optimizer)
        clip_grad_norm_(self.network.parameters(), LARGEST_NORM)
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()

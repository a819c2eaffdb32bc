"""Takes a trained network or saved logits; gives what selectors say of identical predictions."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from csl.augment import normalize, to_pixels
from csl.config import SelectionConfig, TrainingConfig
from csl.data.lists import Entry, SplitLists
from csl.data.source import IGNORE, open_source
from csl.errors import InputError, NotANumberError
from csl.evaluate import confusion_matrix, image_logits
from csl.locations import Locations
from csl.models import SegmentationNetwork, build_network
from csl.plane import Plane, feature_plane
from csl.selection.features import confidence_features
from csl.selection.selectors import build_selector

FEATURES = ("p_max", "dispersion", "margin", "entropy", "residual_entropy")
"""What is scored as a predictor of "correct", in the order of ``Judged.features``."""

MOST_PIXELS = 2_000_000
"""Beyond so many, features are kept of a random share of the pixels."""


@dataclass(frozen=True)
class Predictions:
    """Images that can be predicted any number of times, always alike.

    Args:
        classes: K.
        names: of the images.
        get: index to (logits float32 [1, K, H, W], truth uint8 [1, H, W], 255 is not scored).
        picture: index to the image that was predicted, uint8 [H, W, 3]; None for saved logits.
        labeled: likewise of images with labels that a selector may learn from (``daw``).
        trained: the state of the training's own selector, with the running averages it ended with.
    """

    classes: int
    names: tuple[str, ...]
    get: Callable[[int], tuple[Tensor, Tensor]]
    picture: Callable[[int], NDArray[np.uint8]] | None = None
    labeled: "Predictions | None" = None
    trained: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Judged:
    """What every selector made of the same predictions.

    Args:
        confusion: counts by (true, predicted) class, int64 [K, K].
        selected: the same counts of the pixels that each selector calls reliable.
        unscored: images without any truth.
        features: of a deterministic sample of M scored pixels, float64 [5, M], in the order of
            ``FEATURES``, larger is more reliable; p_max and margin are less 1.
        correct: of the same pixels, bool [M].
        plane: of one image.
    """

    confusion: NDArray[np.int64]
    selected: dict[str, NDArray[np.int64]]
    unscored: int
    features: NDArray[np.float64]
    correct: NDArray[np.bool_]
    plane: Plane


def trained_network(
    config: TrainingConfig, checkpoint: Path
) -> tuple[SegmentationNetwork, dict[str, Tensor]]:
    """The best epoch's network, in evaluation mode and on a GPU if there is one, and the state
    of its selector.

    Args:
        config: the training's; no weights file is needed.
        checkpoint: the training's ``best.pt``.

    Raises:
        InputError: the checkpoint cannot be used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(
        config.network.model_copy(update={"pretrained": False}), config.data.classes, None
    )
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        selector = dict(state["selector"])
    except Exception as error:  # torch raises a dozen kinds for a bad file
        raise InputError(
            f"the checkpoint cannot be used: {type(error).__name__}",
            file=checkpoint,
            remedy="name a finished training whose best.pt is in the store; run it again if not",
        ) from error
    return network.to(device).to(memory_format=torch.channels_last).eval(), selector


def network_predictions(
    config: TrainingConfig,
    lists: SplitLists,
    locations: Locations,
    checkpoint: Path,
    images: Literal["val", "unlabeled"],
    limit: int | None,
) -> Predictions:
    """The best epoch's network on whole images, one at a time, in the training's precision.

    Args:
        config, lists: the training's.
        locations: where its data lies; no weights file is needed.
        checkpoint: the training's ``best.pt``.
        images: which list is predicted; unlabeled images without ground truth are not scored.
        limit: the first so many images of it; None for all.

    Raises:
        InputError: the checkpoint or an image cannot be used, or no image has ground truth.
    """
    network, trained = trained_network(config, checkpoint)
    device = next(network.parameters()).device
    source = open_source(config.data, locations)

    @torch.no_grad()
    def predict(entry: Entry, mask: Image.Image | None) -> tuple[Tensor, Tensor]:
        decoded = source.image(entry)
        mask = mask or Image.new("L", decoded.size, IGNORE)
        pixels = to_pixels(decoded).to(device)
        image = normalize(pixels, config.data.mean, config.data.std)
        logits = image_logits(network, image.unsqueeze(0), config)
        return logits.float(), to_pixels(mask).unsqueeze(0).to(device)

    judged = (lists.val if images == "val" else lists.unlabeled)[:limit]
    truth = source.mask if images == "val" else source.unlabeled_truth
    if not any(truth(entry) for entry in judged):
        raise InputError(
            "none of these unlabeled images has ground truth",
            key="--images",
            value=images,
            remedy="use --images val",
        )
    labeled = lists.labeled
    return Predictions(
        config.data.classes,
        tuple(entry.image for entry in judged),
        lambda i: predict(judged[i], truth(judged[i])),
        lambda i: np.asarray(source.image(judged[i])),
        Predictions(
            config.data.classes,
            tuple(entry.image for entry in labeled),
            lambda i: predict(labeled[i], source.mask(labeled[i])),
        ),
        trained=trained,
    )


def saved_predictions(path: Path, limit: int | None) -> Predictions:
    """Logits [N, K, H, W] of any floating type and truth [N, H, W] uint8 from a .npz file.

    Raises:
        InputError: the file cannot be read, or its arrays are not those.
    """

    def wrong(problem: str, key: str | None = None, value: object = None) -> InputError:
        return InputError(
            problem,
            file=path,
            key=key,
            value=value,
            remedy="save it as numpy.savez(file, logits=..., truth=...): "
            "logits float [N, K, H, W], K >= 2, and truth uint8 [N, H, W], 255 is not scored",
        )

    try:
        with np.load(path, allow_pickle=False) as file:
            logits, truth = file["logits"], file["truth"]
    except KeyError as error:
        raise wrong(f"an array is missing: {error.args[0]}") from error
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise wrong(f"the logits cannot be read: {error}") from error
    if logits.ndim != 4 or logits.shape[1] < 2 or not logits.size or logits.dtype.kind != "f":
        raise wrong("these are no logits", "logits", f"{logits.dtype} {list(logits.shape)}")
    classes = logits.shape[1]
    if truth.shape != (logits.shape[0], *logits.shape[2:]) or truth.dtype != np.uint8:
        raise wrong("the truth does not fit", "truth", f"{truth.dtype} {list(truth.shape)}")
    if outside := np.unique(truth[(truth >= classes) & (truth != IGNORE)]).tolist():
        raise wrong("true class outside the logits' classes", "truth", outside[0])

    def get(index: int) -> tuple[Tensor, Tensor]:
        part = logits[index : index + 1].astype(np.float32)
        return torch.from_numpy(part), torch.from_numpy(truth[index : index + 1])

    return Predictions(classes, tuple(f"{i}" for i in range(len(logits)))[:limit], get)


def judge(
    predictions: Predictions,
    config: SelectionConfig,
    selectors: Sequence[str],
    image: int | None = None,
) -> Judged:
    """Put identical predictions through every selector.

    A pixel counts as selected where the selector calls it ``reliable``. Selectors see whole
    images, one at a time, and never the truth; only pixels with a truth are counted. Running
    averages stay as training left them for the training's own selector; those of the others are
    first taken over all the images, each of equal weight (``daw``'s over the labeled ones),
    whatever momentum they have in training. Progress, which ``u2pl`` alone reads, is 0: it drops
    the fifth of an image with the largest entropy.

    Args:
        predictions: of at least one image.
        config: the parameters of every selector.
        selectors: names from the registry.
        image: which one ``plane`` shows; by default that with the largest share of wrong pixels.

    Raises:
        NotANumberError: a logit is NaN or infinite.
    """
    classes = predictions.classes
    judges = {name: _prepared(name, config, predictions) for name in selectors}
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    selected = {name: torch.zeros_like(confusion) for name in selectors}
    sample, shown, worst = _Sample(), 0 if image is None else image, -1.0
    unscored = 0
    for index in range(len(predictions.names)):
        logits, truth = _predicted(predictions, index)
        everywhere = torch.ones_like(truth, dtype=torch.bool)
        seen = confidence_features(
            logits, features=FEATURES[1:], count_argmax_slot=config.count_argmax_slot
        )
        confusion += confusion_matrix(seen.label, truth, classes).cpu()
        for name, selector in judges.items():
            reliable = selector.to(logits.device)(logits, everywhere).reliable
            counts = confusion_matrix(seen.label[reliable], truth[reliable], classes)
            selected[name] += counts.cpu()
        scored = truth != IGNORE
        unscored += not scored.any()
        correct = (seen.label == truth)[scored]
        sample.add(seen.shifted[0][:, scored[0]].cpu().numpy(), correct.cpu().numpy())
        wrong = 1 - correct.double().mean().nan_to_num(1.0).item()
        if image is None and wrong > worst:
            shown, worst = index, wrong
    return Judged(
        confusion.numpy(),
        {name: counts.numpy() for name, counts in selected.items()},
        unscored,
        *sample.arrays(),
        _plane(predictions, shown, config),
    )


def pseudo_labels(
    predictions: Predictions, config: SelectionConfig, images: Sequence[int]
) -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], ...]:
    """What a training's own selector keeps of some images, and the truth (Fig. 7).

    Args:
        predictions: of the training.
        config: its selector, prepared as ``judge`` does.
        images: their indices.

    Returns:
        For each image (the class where the selector calls the pixel reliable, elsewhere 255;
        the truth, 255 where there is none), uint8 [H, W] each.

    Raises:
        NotANumberError: a logit is NaN or infinite.
    """
    selector = _prepared(config.selector, config, predictions)
    found = []
    for index in images:
        logits, truth = _predicted(predictions, index)
        chosen = selector.to(logits.device)(logits, torch.ones_like(truth, dtype=torch.bool))
        kept = chosen.label.masked_fill(~chosen.reliable, IGNORE).to(torch.uint8)
        found.append((kept[0].cpu().numpy(), truth[0].cpu().numpy()))
    return tuple(found)


def _prepared(name: str, config: SelectionConfig, predictions: Predictions) -> Any:
    """The selector in evaluation mode, with its running averages: see ``judge``."""
    selector = build_selector(config.model_copy(update={"selector": name}), predictions.classes)
    if not any(True for _ in selector.buffers()):
        return selector.eval()
    if name == config.selector and predictions.trained is not None:
        selector.load_state_dict(predictions.trained)
        return selector.eval()
    learns = name == "daw"
    if learns and predictions.labeled is None:
        raise InputError(
            "daw learns its threshold from labeled images, and saved logits have none",
            key="--selectors",
            value=name,
            remedy="leave it out, or name a training instead of --logits",
        )
    images = predictions.labeled if learns and predictions.labeled else predictions
    for index in range(len(images.names)):
        # (old · n + new) / (n + 1): the mean of all so far.
        momentum = {"selector": name, "momentum": index / (index + 1)}
        selector.config = config.model_copy(update=momentum)
        logits, truth = _predicted(images, index)
        if index == 0:
            selector.to(logits.device)
        if learns:
            selector.observe_labeled(logits, truth.long(), truth != IGNORE)
        else:
            selector(logits, torch.ones_like(truth, dtype=torch.bool))
    return selector.eval()


def _predicted(predictions: Predictions, index: int) -> tuple[Tensor, Tensor]:
    logits, truth = predictions.get(index)
    if not logits.isfinite().all():  # on a GPU no selector says so
        raise NotANumberError(f"a logit of image {predictions.names[index]} is NaN or infinite")
    return logits, truth


class _Sample:
    """Features of a random share of the pixels, halved whenever there are too many."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)
        self._share = 1.0
        self._parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []

    def add(self, features: NDArray[np.float64], correct: NDArray[np.bool_]) -> None:
        """Features [5, N] and correct [N] of one image."""
        draw = self._generator.random(len(correct))
        self._parts.append((draw, features, correct))
        self._thin(slice(-1, None))
        while sum(len(draw) for draw, *_ in self._parts) > MOST_PIXELS:
            self._share /= 2
            self._thin(slice(None))

    def _thin(self, which: slice) -> None:
        self._parts[which] = [
            (draw[draw < self._share], features[:, draw < self._share], correct[draw < self._share])
            for draw, features, correct in self._parts[which]
        ]

    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Features [5, M] and correct [M]."""
        _, features, correct = zip(*self._parts, strict=True)
        return np.concatenate(features, axis=1), np.concatenate(correct)


def _plane(predictions: Predictions, index: int, config: SelectionConfig) -> Plane:
    return feature_plane(index, predictions.names[index], *_predicted(predictions, index), config)

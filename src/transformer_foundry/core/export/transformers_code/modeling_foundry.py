"""Classes of transformers for a model that was drawn in Transformer Builder (``trust_remote_code=True``).

``model.py`` runs unchanged. The model is built in memory, not on the meta device, so that its own constructor makes the
tables in non-persistent buffers and plain attributes. Nothing here is specific to one model.
"""

import contextlib
import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutput,
    MaskedLMOutput,
    ModelOutput,
    Seq2SeqLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import cached_file

from .configuration_foundry import FoundryConfig

# transformers ships the files that are imported like this; every module has a __name__.
from .model import __name__ as MODEL_CODE  # type: ignore[import-not-found]
from .model_call import call_arguments, construct, pick_logits  # type: ignore[import-not-found]

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
PREFIX = "network."
IGNORED_LABEL = -100
# Arguments of generate and pipelines that do not change this model's logits.
WITHOUT_EFFECT = ("token_type_ids", "cache_position", "use_cache", "logits_to_keep", "next_sequence_length",
                  "is_first_iteration", "position_ids")  # fmt: skip
DOWNLOADING = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class FoundryModel(PreTrainedModel):
    """The model behind the signature of transformers; ``network`` is the module of ``model.py`` itself."""

    config_class = FoundryConfig
    config: FoundryConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = False
    _supports_sdpa = True
    _no_split_modules: list[str] = []  # noqa: RUF012 (transformers reads it from the class)
    output_class: type[ModelOutput] = CausalLMOutput

    def __init__(self, config: FoundryConfig, *_: Any, **__: Any) -> None:
        super().__init__(config)
        self.contract = SimpleNamespace(**config.foundry["contract"])
        names = vars(sys.modules[MODEL_CODE])
        with torch.device("cpu"):
            self.network: nn.Module = construct(config.foundry["expression"], names, config.foundry["config"])
        for module in self.network.modules():
            if isinstance(module, nn.TransformerEncoder):
                # In evaluation mode nested tensors would cut the output to the longest real row.
                module.enable_nested_tensor = module.use_nested_tensor = False
        self.post_init()

    def init_weights(self) -> None:
        """Do nothing: the model's own constructor has initialized and tied its weights."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *_: Any, config: Any = None, **options: Any) -> Any:
        """Build the model and load its weights; respects ``dtype``, ``device_map`` (one device) and ``revision``."""
        hub = {name: options.pop(name) for name in DOWNLOADING if options.get(name) is not None}
        if options.get("quantization_config") is not None:
            raise ValueError(
                "A Transformer Foundry model is not quantized when it is loaded; the package has an int8 file."
            )
        # Not isinstance FoundryConfig: transformers may have run its module twice.
        if not isinstance(config, PretrainedConfig):
            config, _ = FoundryConfig.from_pretrained(
                config or pretrained_model_name_or_path, return_unused_kwargs=True, **hub
            )
        model = cls(copy.deepcopy(config))
        _fill(model, options.get("state_dict") or _read_weights(str(pretrained_model_name_or_path), hub))
        dtype = options.get("dtype") or options.get("torch_dtype")
        if dtype not in (None, "auto"):
            model.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        if (device := _one_device(options.get("device_map"))) is not None:
            model.to(device)
        if model.can_generate():
            with contextlib.suppress(OSError):  # without a file, the one made from the configuration remains
                model.generation_config = GenerationConfig.from_pretrained(pretrained_model_name_or_path, **hub)
        model.name_or_path = str(pretrained_model_name_or_path)
        model.eval()
        report: dict[str, list[str]] = {
            "missing_keys": [],
            "unexpected_keys": [],
            "mismatched_keys": [],
            "error_msgs": [],
        }
        return (model, report) if options.get("output_loading_info") else model

    def save_pretrained(self, save_directory: Any, *, state_dict: Any = None, **options: Any) -> Any:
        """Write a folder that ``from_pretrained`` reads: each tensor once, and the code beside it."""
        if state_dict is None:
            buffers = dict(self.named_buffers())
            state_dict = self.state_dict() | {PREFIX + name: buffers[PREFIX + name] for name in self._kept_buffers()}
        return super().save_pretrained(save_directory, state_dict=_each_once(state_dict), **options)

    def _kept_buffers(self) -> list[str]:
        return list(self.config.foundry.get("buffers", []))

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding of the token ids."""
        for module in self.network.modules():
            if isinstance(module, nn.Embedding) and module.num_embeddings >= self.contract.vocab_size:
                return module
        raise NotImplementedError(f"{type(self.network).__name__} has no nn.Embedding of the whole vocabulary.")

    def get_output_embeddings(self) -> None:
        """Return None: which layer computes the logits is not known."""
        return

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Return the logits, and the loss when ``labels`` are given.

        Args:
            input_ids: (B, T) int64.
            attention_mask: (B, T), 1 where a token is real. The real tokens of each row are moved to its front before
                the model runs, so that positions count from the first real token.
            labels: (B, T) int64 as the model's family defines them, (B,) for a classifier of texts, (B,) or (B, 1)
                numbers for a regression, (B, C) of 0 and 1 where a text may have several labels; -100 is ignored,
                except as a number.
            return_dict: False returns a tuple.
            **others: ``num_items_in_batch`` divides the summed loss; requests for other outputs are refused.
        """
        items = _plain_call(others)
        assert input_ids is not None, "input_ids are needed"
        logits = self._logits(input_ids, attention_mask)
        loss = None if labels is None else self._loss(logits, labels, items)
        return self._output(return_dict, loss=loss, logits=logits)

    def _logits(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        ids, mask, places = _real_first(input_ids, attention_mask)
        logits: Tensor = pick_logits(self.contract, self.network(**call_arguments(self.contract, ids, mask)))
        if places is None or logits.shape[:2] != places.shape:
            return logits
        return logits.gather(1, places[..., None].expand_as(logits))

    def _loss(self, logits: Tensor, labels: Tensor, items: Any) -> Tensor:
        if self.contract.task == "regression":
            total = F.mse_loss(
                logits.reshape(-1).float(), labels.to(logits.device).reshape(-1).float(), reduction="sum"
            )
            return total / (labels.numel() if items is None else items)
        if self.contract.task == "multi_label_classification":
            return _binary_mean(logits[:, : labels.shape[1]], labels.to(logits.device), items)
        classes = logits.shape[-1]
        return _mean(logits.reshape(-1, classes), labels.reshape(-1), items)

    def _output(self, return_dict: bool | None, **fields: Any) -> Any:
        output = self.output_class(**fields)
        return output if return_dict is not False else output.to_tuple()


class FoundryForCausalLM(FoundryModel, GenerationMixin):
    """Decoder-only language model."""

    def _loss(self, logits: Tensor, labels: Tensor, items: Any) -> Tensor:
        return super()._loss(logits[:, :-1], labels[:, 1:], items)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return all tokens so far, or as many of the last ones as the model can read."""
        # transformers reads the arguments of forward only if this one is called kwargs.
        del kwargs
        longest = self.contract.max_length or input_ids.shape[1]
        mask = None if attention_mask is None else attention_mask[:, -longest:]
        return {"input_ids": input_ids[:, -longest:], "attention_mask": mask}


class FoundryForMaskedLM(FoundryModel):
    """Encoder-only language model."""

    output_class = MaskedLMOutput


class FoundryForSequenceClassification(FoundryModel):
    """Classifier of texts."""

    output_class = SequenceClassifierOutput


class FoundryForTokenClassification(FoundryModel):
    """Classifier of tokens."""

    output_class = TokenClassifierOutput


class _Source(nn.Module):
    """Replaces the encoder in ``generate``: passes the source on, and the model encodes it at each step.

    ``model.py`` has one forward for encoder and decoder, which cannot be separated without knowing its code.
    """

    main_input_name = "input_ids"

    def forward(self, input_ids: Tensor, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=input_ids)


class FoundryForSeq2SeqLM(FoundryModel, GenerationMixin):
    """Encoder-decoder."""

    output_class = Seq2SeqLMOutput

    def get_encoder(self, modality: Any = None) -> nn.Module:  # noqa: ARG002
        """Return the module that ``generate`` calls once; it passes the source on."""
        return _Source()

    def prepare_inputs_for_generation(
        self,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        encoder_outputs: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the source and all tokens so far."""
        del kwargs
        longest = self.contract.max_length or decoder_input_ids.shape[1]
        return {
            "encoder_outputs": encoder_outputs,
            "attention_mask": attention_mask,
            "decoder_input_ids": decoder_input_ids[:, -longest:],
        }

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        encoder_outputs: Any = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> Any:
        """Return the (B, S, V) logits of the decoder, and the loss when ``labels`` are given.

        Args:
            input_ids: (B, T) int64, the source.
            attention_mask: (B, T), 1 where a token of the source is real.
            decoder_input_ids: (B, S) int64; made from ``labels`` if omitted.
            decoder_attention_mask: (B, S), 1 where a token of the decoder is real.
            labels: (B, S) int64; -100 is ignored.
            encoder_outputs: What ``get_encoder()`` returned, in place of ``input_ids``.
            return_dict: False returns a tuple.
            **others: As for the other models.
        """
        items = _plain_call(others)
        source = encoder_outputs[0] if input_ids is None else input_ids
        if decoder_input_ids is None:
            assert labels is not None, "decoder_input_ids or labels are needed"
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        source, mask, _ = _real_first(source, attention_mask)
        given = (source, mask, decoder_input_ids, decoder_attention_mask)
        logits = pick_logits(self.contract, self.network(**call_arguments(self.contract, *given)))
        loss = None if labels is None else self._loss(logits, labels, items)
        return self._output(return_dict, loss=loss, logits=logits)

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Return (B, S) ids: the labels one position later, after the start token."""
        shifted = labels.new_full(labels.shape, self.config.decoder_start_token_id)
        shifted[:, 1:] = labels[:, :-1]
        return shifted.masked_fill(shifted == IGNORED_LABEL, self.config.pad_token_id)


def _real_first(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return ids and mask with the real tokens of each row first, and the new place of each token, None if unmoved."""
    if mask is None or mask.ndim != 2 or mask.shape != ids.shape:
        return ids, mask, None
    padding = mask == 0
    if not bool((padding[:, :-1] & ~padding[:, 1:]).any()):
        return ids, mask, None
    order = padding.int().argsort(dim=1, stable=True)
    return ids.gather(1, order), mask.gather(1, order), order.argsort(dim=1)


def _mean(logits: Tensor, labels: Tensor, items: Any) -> Tensor:
    total = F.cross_entropy(logits.float(), labels.to(logits.device), ignore_index=IGNORED_LABEL, reduction="sum")
    return total / ((labels != IGNORED_LABEL).sum().clamp(min=1) if items is None else items)


def _binary_mean(logits: Tensor, labels: Tensor, items: Any) -> Tensor:
    is_known = labels != IGNORED_LABEL
    wanted = labels[is_known].float()
    total = F.binary_cross_entropy_with_logits(logits.float()[is_known], wanted, reduction="sum")
    return total / (max(1, wanted.numel()) if items is None else items)


def _plain_call(others: dict[str, Any]) -> Any:
    """Refuse requests for other outputs than logits and loss; return ``num_items_in_batch``."""
    for name, value in others.items():
        if value is None or value is False or name in WITHOUT_EFFECT or name == "num_items_in_batch":
            continue
        raise ValueError(
            f"A Transformer Foundry model does not take {name}: it has no cache and returns logits and loss only."
        )
    return others.get("num_items_in_batch")


def _read_weights(folder_or_repo: str, hub: dict[str, Any]) -> dict[str, Tensor]:
    single = cached_file(folder_or_repo, WEIGHTS, _raise_exceptions_for_missing_entries=False, **hub)
    if single is not None:
        return _read_file(single)
    index = cached_file(folder_or_repo, SHARDS, **hub)
    shards = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
    tensors: dict[str, Tensor] = {}
    for name in shards:
        tensors |= _read_file(cached_file(folder_or_repo, name, **hub))
    return tensors


def _read_file(path: str) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # Tied tensors are stored once, under one of their names.
        aliases = json.loads((file.metadata() or {}).get("aliases", "{}"))
    return tensors | {name: tensors[kept] for name, kept in aliases.items()}


def _fill(model: FoundryModel, tensors: dict[str, Tensor]) -> None:
    state = model.network.state_dict()
    expected = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    known = expected | dict(model.network.named_buffers())
    if not tensors.keys() <= known.keys():
        # Written by save_pretrained.
        tensors = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    # A tensor that shares memory with a given one is filled with it.
    filled = {known[name].untyped_storage().data_ptr() for name in tensors.keys() & known.keys()}
    missing = {name for name in expected.keys() - tensors.keys() if _is_apart(expected[name], filled)}
    if unfit := missing | (tensors.keys() - known.keys()):
        raise ValueError(f"{WEIGHTS} does not fit model.py: {', '.join(sorted(unfit)[:8])}")
    with torch.no_grad():
        for name, value in tensors.items():
            # In place, so that ties stay. A constant made by expand() cannot be written to, and need not be.
            if not torch.equal(known[name], value):
                known[name].copy_(value)


def _is_apart(tensor: Tensor, filled: set[int]) -> bool:
    return tensor.numel() > 0 and tensor.untyped_storage().data_ptr() not in filled


def _each_once(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return tensors that share no memory; of tied tensors, the first."""
    seen: set[tuple[Any, ...]] = set()
    kept: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            continue
        place = (value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        if value.numel() and place in seen:
            continue
        seen.add(place)
        kept[name] = value.detach().clone(memory_format=torch.contiguous_format)
    return kept


def _one_device(device_map: Any) -> Any:
    if isinstance(device_map, dict):
        devices = set(device_map.values())
        if len(devices) > 1:
            raise ValueError("A Transformer Foundry model is put on one device; device_map names several.")
        return next(iter(devices), None)
    if isinstance(device_map, str) and device_map in ("auto", "balanced", "sequential"):
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device_map

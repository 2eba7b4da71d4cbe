"""Adapters: small Parameters beside a network that stays as it is."""

from paramesh.adapters.lora import Adapter, lora
from paramesh.adapters.lora_layers import LoraDense, LoraEmbedding
from paramesh.adapters.peft_files import load_adapter, save_adapter

__all__ = ["Adapter", "LoraDense", "LoraEmbedding", "load_adapter", "lora", "save_adapter"]

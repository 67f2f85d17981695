"""A tiny random chat model with a real tokenizer and chat template, for tests that need weights but no sense."""

from __future__ import annotations

from pathlib import Path

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
_TEXT = ["system user assistant", "please write a short answer in plain words", "What is the sum of 12 and 30?"] * 3


def make_tiny_model(dir: Path, arch: str = "llama", seed: int = 0, width: int = 32, spread: float = 0.3) -> Path:
    """Write a random model of architecture `arch` (`llama`, `qwen2`, `gpt2`, …) to `dir` and return `dir`.

    `spread` is the standard deviation of its weights: the larger, the more it makes of a small difference.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=_SPECIAL, initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>", chat_template=CHAT_TEMPLATE
    )
    wrapped.save_pretrained(dir)
    sizes = (
        {"n_embd": width, "n_layer": 2, "n_head": 4, "n_positions": 1024}
        if arch == "gpt2"
        else {
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
        }
    )
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 2}
    config = AutoConfig.for_model(arch, vocab_size=len(wrapped), initializer_range=spread, **sizes, **ids)
    before = torch.get_rng_state()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    torch.set_rng_state(before)
    model.generation_config = GenerationConfig(do_sample=True, **ids)
    model.save_pretrained(dir)
    return dir

"""Writes deepseek_v3_golden/: a tiny DeepSeek-V3 model of Hugging Face transformers with its logits,
its loss and the gradient of every parameter, for tests/policy/golden_test.cc.

    pip install torch transformers safetensors && python deepseek_v3_golden.py

Made with torch 2.15.0, transformers 5.23.0, on a CPU in fp32.
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

OUT = pathlib.Path(__file__).parent / "deepseek_v3_golden"


def main():
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    config = DeepseekV3Config(
        vocab_size=48,
        hidden_size=24,
        intermediate_size=20,
        moe_intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        n_shared_experts=1,
        n_routed_experts=8,
        num_experts_per_tok=3,
        n_group=4,
        topk_group=2,
        routed_scaling_factor=2.5,
        kv_lora_rank=16,
        q_lora_rank=12,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=12,
        first_k_dense_replace=1,
        norm_topk_prob=True,
        max_position_embeddings=256,
        initializer_range=0.2,
        rms_norm_eps=1e-6,
        num_nextn_predict_layers=0,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 8.0,
            "beta_slow": 1.0,
            "mscale": 0.8,
            "mscale_all_dim": 1.2,
        },
        attn_implementation="eager",
    )
    model = DeepseekV3ForCausalLM(config).float()
    with torch.no_grad():
        for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
            if "norm" in name:
                tensor.uniform_(0.7, 1.3)
            elif "e_score_correction_bias" in name:
                tensor.uniform_(-0.05, 0.05)
            elif tensor.dim() >= 2:
                tensor.normal_(0.0, 0.2)

    tokens = torch.randint(0, config.vocab_size, (2, 40))
    logits = model(tokens, use_cache=False).logits
    log_probs = torch.log_softmax(logits[:, :-1], -1).gather(-1, tokens[:, 1:, None])
    loss = -log_probs.mean()
    loss.backward()

    OUT.mkdir(exist_ok=True)
    model.save_pretrained(OUT)
    for extra in OUT.glob("generation_config.json"):
        extra.unlink()
    # Gradients under the names of the saved weights: a second model carries them as its weights.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.grad)
    model.save_pretrained(OUT / "gradients")
    (OUT / "gradients" / "model.safetensors").rename(OUT / "gradients.safetensors")
    for extra in (OUT / "gradients").iterdir():
        extra.unlink()
    (OUT / "gradients").rmdir()
    save_file({"logits": logits.detach().contiguous()}, OUT / "logits.safetensors")
    (OUT / "expected.json").write_text(
        json.dumps({"tokens": tokens.tolist(), "loss": loss.item()}) + "\n"
    )


main()

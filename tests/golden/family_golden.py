"""Tiny random models of every family, made by Hugging Face transformers, with their logits, the loss
and the gradient of every parameter: what tests/policy/golden_test.cc compares with.

    pip install torch transformers safetensors
    python family_golden.py                      # writes families/, the committed cases
    python family_golden.py --random DIR [N]     # N (10) random configurations of each family
    MOERL_GOLDEN_CASES=DIR moerl_test_policy --gtest_filter='*DirectoryOfCases*'

A case is a model directory with logits.safetensors (fp32, and of the same weights in bf16),
gradients.safetensors and expected.json. The MTP module, which transformers does not run, is written
here from the DeepSeek-V3 report, section 2.2, around one of its decoder layers.

Made with torch 2.15.0, transformers 5.24.0, on a CPU.
"""

import copy
import json
import pathlib
import random
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file

GROUPED = dict(vocab_size=47, hidden_size=30, intermediate_size=22, num_hidden_layers=2,
               num_attention_heads=6, num_key_value_heads=2, head_dim=12, max_position_embeddings=256)
LATENT = dict(vocab_size=47, hidden_size=24, intermediate_size=22, moe_intermediate_size=9,
              num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, kv_lora_rank=16,
              qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=12, n_routed_experts=8,
              num_experts_per_tok=3, first_k_dense_replace=1, max_position_embeddings=256)


def yarn(**more):
    return dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=8.0, beta_slow=1.0,
                original_max_position_embeddings=64, **more)


def plain(theta=10000.0):
    return dict(rope_type="default", rope_theta=theta)


def llama3(**more):
    return dict(rope_type="llama3", rope_theta=5000.0, factor=8.0, low_freq_factor=1.0,
                high_freq_factor=4.0, original_max_position_embeddings=64) | more


COMMITTED = {
    "deepseek_v3": ("deepseek_v3", LATENT | dict(
        q_lora_rank=12, n_shared_experts=1, n_group=4, topk_group=2, routed_scaling_factor=2.5,
        norm_topk_prob=True, rms_norm_eps=1e-5, num_nextn_predict_layers=0,
        rope_parameters=yarn(mscale=0.8, mscale_all_dim=1.2))),
    "deepseek_v3_mtp": ("deepseek_v3", LATENT | dict(  # the third layer is the MTP module's block
        q_lora_rank=None, n_shared_experts=2, n_group=1, topk_group=1, num_hidden_layers=3,
        routed_scaling_factor=2.446, norm_topk_prob=True, num_nextn_predict_layers=1,
        rope_parameters=plain(50000.0))),
    "deepseek_v2": ("deepseek_v2", LATENT | dict(
        q_lora_rank=12, n_shared_experts=2, n_group=4, topk_group=2,
        topk_method="group_limited_greedy", routed_scaling_factor=16.0,
        rope_parameters=yarn(mscale=0.707, mscale_all_dim=0.707))),
    "deepseek_v2_lite": ("deepseek_v2", LATENT | dict(
        q_lora_rank=None, n_shared_experts=2, n_group=1, topk_group=1, topk_method="greedy",
        rope_parameters=plain())),
    "llama": ("llama", GROUPED | dict(rope_parameters=llama3())),
    "qwen2": ("qwen2", GROUPED | dict(rope_parameters=plain(1e6), tie_word_embeddings=True)),
    "qwen3": ("qwen3", GROUPED | dict(rope_parameters=yarn())),
    "qwen3_moe": ("qwen3_moe", GROUPED | dict(
        num_hidden_layers=3, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=9,
        norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[1],
        rope_parameters=plain(1e6))),
}
FAMILIES = ["deepseek_v3", "deepseek_v2", "llama", "qwen2", "qwen3", "qwen3_moe"]


def random_case(family, rng):
    """The sizes and switches of one configuration."""
    pick = rng.choice
    latent = family.startswith("deepseek")
    heads = rng.randint(1, 6)
    out = dict(vocab_size=rng.randint(20, 90), hidden_size=heads * rng.randint(3, 14),
               intermediate_size=rng.randint(3, 50), num_hidden_layers=rng.randint(1, 3),
               num_attention_heads=heads, max_position_embeddings=256,
               rms_norm_eps=pick([1e-6, 1e-5, 1e-3]), tie_word_embeddings=pick([True, False]))
    scalings = [plain(pick([1e4, 5e5])), yarn()]
    if latent:
        scalings += [yarn(mscale=1.0, mscale_all_dim=1.0), yarn(mscale=0.8, mscale_all_dim=1.2)]
        groups = pick([1, 2, 3, 4])
        experts = groups * rng.randint(2, 5)
        kept = rng.randint(1, groups)
        out |= dict(num_key_value_heads=heads, q_lora_rank=pick([None, rng.randint(3, 20)]),
                    kv_lora_rank=rng.randint(3, 24), qk_nope_head_dim=rng.randint(1, 19),
                    qk_rope_head_dim=2 * rng.randint(1, 9), v_head_dim=rng.randint(1, 19),
                    n_routed_experts=experts, n_shared_experts=rng.randint(1, 2), n_group=groups,
                    topk_group=kept, num_experts_per_tok=rng.randint(1, kept * experts // groups),
                    moe_intermediate_size=rng.randint(1, 20),
                    first_k_dense_replace=rng.randint(0, 2),
                    routed_scaling_factor=pick([1.0, 2.5, 16.0]))
        if family == "deepseek_v3":
            out |= dict(norm_topk_prob=pick([True, False]), rope_interleave=pick([True, True, False]),
                        num_nextn_predict_layers=0)
        else:
            for key in ("kv_lora_rank", "qk_nope_head_dim"):  # its complex numbers want even strides
                out[key] += out[key] % 2
            out["topk_method"] = "group_limited_greedy" if groups > 1 else "greedy"
    else:
        scalings += [llama3(), dict(rope_type="linear", rope_theta=1e4, factor=pick([2.0, 3.5])),
                     yarn(attention_factor=1.3)]
        out |= dict(num_key_value_heads=pick([k for k in range(1, heads + 1) if heads % k == 0]),
                    head_dim=2 * rng.randint(1, 17))
        if family != "qwen2":
            out["attention_bias"] = pick([True, False])
        if family == "qwen3_moe":
            experts = rng.randint(2, 20)
            out |= dict(num_experts=experts, num_experts_per_tok=rng.randint(1, experts),
                        moe_intermediate_size=rng.randint(1, 20), norm_topk_prob=pick([True, False]),
                        decoder_sparse_step=rng.randint(1, 2), mlp_only_layers=pick([[], [0]]))
    out["rope_parameters"] = pick(scalings)
    return out


def make_model(family, settings):
    config = transformers.AutoConfig.for_model(family, **copy.deepcopy(settings))
    config.initializer_range = 0.2
    config._attn_implementation = config._experts_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():
        for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
            if "norm" in name:
                tensor.uniform_(0.7, 1.3)
            elif name.endswith("e_score_correction_bias"):
                tensor.uniform_(-0.6, 0.1)  # most of them negative
            elif name.endswith("bias"):
                tensor.normal_(0.0, 0.3)
            elif tensor.dim() >= 2:
                tensor.normal_(0.0, 0.2)
    return model


def mean_cross_entropy(logits, tokens, distance):
    log_probs = torch.log_softmax(logits[:, :-distance].float(), -1)
    return -log_probs.gather(-1, tokens[:, distance:, None]).mean()


def routing_margin(model, run):
    """How close any token came to other experts: the smallest gap between what was chosen and what
    was not, among experts and among groups. Rounding decides where it is tiny."""
    config, gaps, hooks = model.config, [1.0], []

    def gap(values, kept):
        if kept < values.shape[-1]:
            top = values.sort(-1, descending=True).values
            gaps.append((top[..., kept - 1] - top[..., kept]).min().item())

    def look(gate, args, out):
        scores = out[0].double()
        is_v3 = config.model_type == "deepseek_v3"
        scores = scores.sigmoid() + gate.e_score_correction_bias if is_v3 else scores.softmax(-1)
        groups = getattr(config, "n_group", None) or 1
        if groups > 1 and getattr(config, "topk_method", "") != "greedy":
            members = scores.unflatten(-1, (groups, -1))
            best = members.topk(min(2 if is_v3 else 1, members.shape[-1])).values.sum(-1)
            gap(best, config.topk_group)
            kept = torch.zeros_like(best).scatter(-1, best.topk(config.topk_group).indices, 1.0)
            scores = torch.where(kept[..., None] > 0, members, -torch.inf).flatten(-2)
        gap(scores, config.num_experts_per_tok)

    for module in model.modules():
        if type(module).__name__.lower().endswith("topkrouter"):
            hooks.append(module.register_forward_hook(look))
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return min(gaps)


class Mtp(torch.nn.Module):
    """h'_i = M [RMSNorm_e(Emb(t_{i+1})); RMSNorm_h(h_i)] through a decoder layer and a norm, with h
    the main model's state after its final norm; embedding and head are the main model's."""

    def __init__(self, model):
        super().__init__()
        width = model.config.hidden_size
        norm = type(model.model.norm)
        self.enorm, self.hnorm = norm(width), norm(width)
        self.eh_proj = torch.nn.Linear(2 * width, width, bias=False)
        self.shared_head_norm = norm(width)
        with torch.no_grad():
            for name, tensor in self.named_parameters():
                tensor.uniform_(0.7, 1.3) if tensor.dim() == 1 else tensor.normal_(0.0, 0.2)

    def tensors(self, prefix, of):
        names = {"enorm.weight": self.enorm.weight, "hnorm.weight": self.hnorm.weight,
                 "eh_proj.weight": self.eh_proj.weight,
                 "shared_head.norm.weight": self.shared_head_norm.weight}
        return {prefix + name: of(tensor).detach().clone() for name, tensor in names.items()}


def run_with_mtp(model, mtp, tokens):
    """Main and MTP logits; the model's last layer is the MTP module's block."""
    seen = {}
    hook = model.model.layers[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs, hidden=args[0]), with_kwargs=True)
    model.model(tokens, use_cache=False)
    hook.remove()
    state = seen.pop("hidden")

    def run(layer, x):
        out = layer(x, **seen)
        return out[0] if isinstance(out, tuple) else out

    for layer in model.model.layers[:-1]:
        state = run(layer, state)
    hidden = model.model.norm(state)
    following = model.model.embed_tokens(torch.roll(tokens, -1, 1))
    both = torch.cat([mtp.enorm(following), mtp.hnorm(hidden)], -1)
    state = mtp.shared_head_norm(run(model.model.layers[-1], mtp.eh_proj(both)))
    return model.lm_head(hidden), model.lm_head(state)


def save_weights(model, directory, extra):
    """The model's tensors under their names on disk, and the extra ones."""
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    if extra:
        path = directory / "model.safetensors"
        save_file(load_file(path) | extra, path, metadata={"format": "pt"})


def save_checkpoint(model, mtp, directory):
    """Weights and config.json. `mtp`, or None, takes the place of the last layer, with its copies of embedding and head."""
    prefix = f"model.layers.{model.config.num_hidden_layers - 1}."
    extra = mtp.tensors(prefix, lambda tensor: tensor) if mtp else {}
    if mtp:
        extra[prefix + "embed_tokens.weight"] = model.model.embed_tokens.weight.detach().clone()
        extra[prefix + "shared_head.head.weight"] = model.lm_head.weight.detach().clone()
    save_weights(model, directory, extra)
    if mtp:
        path = directory / "config.json"
        config = json.loads(path.read_text())
        config["num_hidden_layers"] -= 1
        path.write_text(json.dumps(config, indent=2) + "\n")


def write_case(directory, family, settings, length=40):
    torch.manual_seed(hash_of(directory.name))
    with_mtp = bool(settings.get("num_nextn_predict_layers"))
    margin = 0
    while margin < 1e-5:  # well above what fp32 rounding moves
        model = make_model(family, settings)
        mtp = Mtp(model) if with_mtp else None
        tokens = torch.randint(0, model.config.vocab_size, (2, length))
        margin = routing_margin(model, lambda: run_with_mtp(model, mtp, tokens) if with_mtp
                                else model(tokens, use_cache=False))

    def forward(m, extra):
        if with_mtp:
            return run_with_mtp(m, extra, tokens)
        return m(tokens, use_cache=False).logits, None

    with torch.no_grad():
        rounded = forward(copy.deepcopy(model).bfloat16(),
                          copy.deepcopy(mtp).bfloat16() if with_mtp else None)
    logits, mtp_logits = forward(model, mtp)
    loss = mean_cross_entropy(logits, tokens, 1)
    expected = {"tokens": tokens.tolist(), "loss": loss.item()}
    tensors = {"logits": logits, "logits_bf16": rounded[0].float()}
    if with_mtp:
        mtp_loss = mean_cross_entropy(mtp_logits, tokens, 2)
        expected |= {"mtp_loss": mtp_loss.item(), "mtp_loss_weight": 0.3}
        loss = loss + 0.3 * mtp_loss
        tensors["mtp_logits"] = mtp_logits
    loss.backward()

    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    save_checkpoint(model, mtp if with_mtp else None, directory)
    # Gradients under the names of the saved weights: the model carries them as its weights.
    prefix = f"model.layers.{model.config.num_hidden_layers - 1}."
    extra = mtp.tensors(prefix, lambda tensor: tensor.grad) if with_mtp else {}
    with torch.no_grad():
        for parameter in model.parameters():
            grad = parameter.grad
            parameter.copy_(torch.zeros_like(parameter) if grad is None else grad)
    save_weights(model, directory / "gradients", extra)
    (directory / "gradients" / "model.safetensors").rename(directory / "gradients.safetensors")
    shutil.rmtree(directory / "gradients")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()},
              directory / "logits.safetensors")
    (directory / "expected.json").write_text(json.dumps(expected) + "\n")


def hash_of(name):
    return sum((i + 1) * byte for i, byte in enumerate(name.encode())) % 65537


def main():
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--random"]:
        out, count = pathlib.Path(sys.argv[2]), int((sys.argv[3:] or [10])[0])
        for family in FAMILIES:
            rng = random.Random(family)
            for i in range(count):
                write_case(out / f"{family}_{i}", family, random_case(family, rng))
        return
    out = pathlib.Path(__file__).parent / "families"
    for name, (family, settings) in COMMITTED.items():
        write_case(out / name, family, settings)


if __name__ == "__main__":
    main()

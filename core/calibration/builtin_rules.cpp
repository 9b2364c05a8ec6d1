// Kernel names of the serving stacks we read, in order: the first match wins, so special names stand before general
// ones. Names were read in the profiles that docs/calibration.md lists (SGLang and vLLM on MI300X, PyTorch, RCCL,
// DeepSeek).
#include "core/calibration/importers.h"

namespace faultline::calibration {

const std::string& builtin_rules_yaml() {
  static const std::string text = R"(
rules:
  - {operation: dispatch, pattern: "^dispatch(F) dispatch"}
  - {operation: combine, pattern: "^combine(F) combine"}
  - {operation: dispatch, pattern: "*EpDispatch*", note: MoRI}
  - {operation: combine, pattern: "*EpCombine*", note: MoRI}
  - {operation: dispatch, pattern: "deep_ep*dispatch"}
  - {operation: combine, pattern: "deep_ep*combine"}
  - {operation: dispatch, pattern: "^* dispatch", note: kernel class of a summary}
  - {operation: combine, pattern: "^* combine", note: kernel class of a summary}
  - {operation: dispatch, pattern: "notify"}
  - {operation: collective, pattern: "nccl", note: RCCL keeps NCCL's names}
  - {operation: collective, pattern: "rccl"}
  - {operation: collective, pattern: "cross_device_reduce"}
  - {operation: moe, pattern: "_matmul_ogs_", note: Triton grouped matrix product of an expert layer}
  - {operation: moe, pattern: "fmoe"}
  - {operation: moe, pattern: "moe_ck2stages"}
  - {operation: moe, pattern: "fused_moe_kernel"}
  - {operation: moe, pattern: "_finalize_matmul_scatter", note: writes the sum of a token's experts}
  - {operation: attention, pattern: "reduce_segments", note: second half of vLLM's unified attention}
  - {operation: moe, pattern: "expert"}
  - {operation: router, pattern: "_topk_forward"}
  - {operation: router, pattern: "_combined_routing"}
  - {operation: router, pattern: "_sum_bitmatrix"}
  - {operation: router, pattern: "_routing_"}
  - {operation: router, pattern: "moe_sorting"}
  - {operation: router, pattern: "grouped_topk"}
  - {operation: router, pattern: "topkGating"}
  - {operation: router, pattern: "constant_pad_nd_moe_forward", note: pads the router's input}
  - {operation: kv_write, pattern: "store_kvcache"}
  - {operation: kv_write, pattern: "reshape_and_cache"}
  - {operation: attention, pattern: "paged_attention"}
  - {operation: attention, pattern: "unified_attention"}
  - {operation: attention, pattern: "flash"}
  - {operation: attention, pattern: "fmha"}
  - {operation: attention, pattern: "attn_fwd"}
  - {operation: attention, pattern: "attn_bwd"}
  - {operation: attention, pattern: "mla_"}
  - {operation: attention, pattern: "attn core"}
  - {operation: attention, pattern: "attn bwd"}
  - {operation: rope, pattern: "rotary"}
  - {operation: rope, pattern: "rope"}
  - {operation: norm, pattern: "msnorm"}
  - {operation: norm, pattern: "Rmsnorm"}
  - {operation: norm, pattern: "ayer_norm"}
  - {operation: norm, pattern: "LayerNorm"}
  - {operation: norm, pattern: "layer norm"}
  - {operation: norm, pattern: "GradGammaBeta", note: backward of layer norm}
  - {operation: activation, pattern: "act_and_mul"}
  - {operation: activation, pattern: "swiglu"}
  - {operation: activation, pattern: "SwiGLU"}
  - {operation: activation, pattern: "silu"}
  - {operation: activation, pattern: "gelu"}
  - {operation: quantize, pattern: "quant"}
  - {operation: quantize, pattern: "fp8 cast"}
  - {operation: sample, pattern: "ArgMaxOps"}
  - {operation: sample, pattern: "rgmax"}
  - {operation: sample, pattern: "SoftMax"}
  - {operation: sample, pattern: "softmax"}
  - {operation: sample, pattern: "multinomial"}
  - {operation: gemm, pattern: "Cijk_", note: hipBLASLt and Tensile}
  - {operation: gemm, pattern: "gemm"}
  - {operation: gemm, pattern: "Gemm"}
  - {operation: gemm, pattern: "GEMM"}
  - {operation: gemm, pattern: "gemv"}
  - {operation: gemm, pattern: "wvSplitK"}
  - {operation: embedding, pattern: "gather_kernel"}
  - {operation: embedding, pattern: "indexSelect"}
  - {operation: embedding, pattern: "index_select"}
  - {operation: embedding, pattern: "embedding"}
  - {operation: copy, pattern: "multi_tensor_apply*Copy<", note: gathers the step's indices}
  - {operation: router, pattern: "MoE unpermute"}
  - {operation: router, pattern: "MoE permute"}
  - {operation: router, pattern: "MoE routing map"}
  - {operation: router, pattern: "gate topk"}
  - {operation: copy, pattern: "copy tensor"}
  - {operation: optimizer, pattern: "dam"}
  - {operation: optimizer, pattern: "multi_tensor_apply"}
  - {operation: copy, pattern: "rocclr_copyBuffer"}
  - {operation: copy, pattern: "rocclr_fillBuffer"}
  - {operation: copy, pattern: "memory copy"}
  - {operation: copy, pattern: "Memcpy"}
  - {operation: copy, pattern: "direct_copy_kernel"}
  - {operation: copy, pattern: "CatArrayBatchedCopy"}
  - {operation: elementwise, pattern: "elementwise"}
  - {operation: elementwise, pattern: "reduce_kernel"}
  - {operation: elementwise, pattern: "triton_"}
  - {operation: elementwise, pattern: "dropout"}
  - {operation: other, pattern: "rocprim"}
  - {operation: other, pattern: "resolve_future_token_ids"}
  - {operation: other, pattern: "clamp_position"}
  - {operation: other, pattern: "create_flashinfer_kv_indices"}
)";
  return text;
}

KernelRules builtin_rules() {
  KernelRules rules;
  config::Diagnostics diagnostics;
  rules.add(builtin_rules_yaml(), "built-in rules", diagnostics);
  diagnostics.throw_if_any();
  return rules;
}

}  // namespace faultline::calibration

#include "core/model/shape.h"

namespace faultline::model {

using config::Fields;
using config::Range;
namespace {
constexpr Range kCount{.min = 1, .max = 1e9};
constexpr Range kCountOrNone{.min = 0, .max = 1e9};

void describe_mla(Fields& f, AttentionShape& a) {
  f.required("q_lora", a.q_lora, kCount);
  f.required("kv_lora", a.kv_lora, kCount);
  f.required("rope_dim", a.rope_dim, kCount);
  f.required("nope_dim", a.nope_dim, kCount);
  f.required("v_dim", a.v_dim, kCount);
}
/// Where the kind itself is wrong, the keys of both kinds pass: one mistake, one message.
void accept_any(Fields& f) {
  for (const char* key : {"q_lora", "kv_lora", "rope_dim", "nope_dim", "v_dim", "kv_heads", "head_dim"}) f.raw(key);
}
void describe_gqa(Fields& f, AttentionShape& a) {
  f.required("kv_heads", a.kv_heads, kCount);
  f.required("head_dim", a.head_dim, kCount);
}
}  // namespace

void describe(Fields& f, AttentionShape& a) {
  const std::size_t errors = f.reading() ? f.diagnostics().list().size() : 0;
  f.required("kind", a.kind);
  const bool kind_known = !f.reading() || f.diagnostics().list().size() == errors;
  f.required("heads", a.heads, kCount);
  if (!kind_known) {
    accept_any(f);
  } else if (a.kind == AttentionKind::mla) {
    describe_mla(f, a);
  } else {
    describe_gqa(f, a);
    if (f.reading() && a.kv_heads > 0 && a.heads > 0 && a.heads % a.kv_heads != 0) {
      f.error("kv_heads", fmt::format("{} query heads cannot share {} key-value heads equally", a.heads, a.kv_heads));
    }
  }
}

void describe(Fields& f, ModelShape& s) {
  f.required("name", s.name);
  f.required("source", s.source);
  f.required("hidden", s.hidden, kCount);
  f.required("layers", s.layers, {.min = 1, .max = 10000});
  f.required("vocab", s.vocab, kCount);
  f.required("context_max", s.context_max, config::kPositive);
  f.object("attention", s.attention, true);
  f.field("experts", s.experts, kCountOrNone);
  if (s.experts > 0) {
    f.field("dense_layers", s.dense_layers, kCountOrNone);
    f.field("experts_per_token", s.experts_per_token, kCountOrNone);
    f.field("expert_groups", s.expert_groups, kCount);
    f.field("groups_per_token", s.groups_per_token, kCount);
    f.field("shared_experts", s.shared_experts, kCountOrNone);
    f.field("expert_inter", s.expert_inter, kCountOrNone);
  } else {
    s.dense_layers = s.layers;
  }
  f.field("dense_inter", s.dense_inter, kCountOrNone);
  f.field("tied_embeddings", s.tied_embeddings);
  f.required("weight_precision", s.weight_precision);
  if (!f.reading()) return;

  if (s.layers > 0 && s.dense_layers > s.layers) {
    f.error("dense_layers", fmt::format("{} dense layers, but the model has {} layers", s.dense_layers, s.layers));
  }
  if (s.dense_layers > 0 && s.dense_inter == 0) {
    f.error("dense_inter",
            fmt::format("the {} dense layers need 'dense_inter', the width of their MLP", s.dense_layers));
  }
  if (!s.is_moe()) return;
  if (s.expert_inter == 0)
    f.error("expert_inter", "a model with experts needs 'expert_inter', the width of one expert");
  if (s.experts_per_token == 0 || s.experts_per_token > s.experts) {
    f.error("experts_per_token", fmt::format("a token goes to {} experts, it must be between 1 and the {} there are",
                                             s.experts_per_token, s.experts));
  }
  if (s.experts % s.expert_groups != 0) {
    f.error("expert_groups",
            fmt::format("{} experts cannot be split into {} equal groups", s.experts, s.expert_groups));
  }
  if (s.groups_per_token > s.expert_groups) {
    f.error("groups_per_token",
            fmt::format("a token may use {} groups, but there are {}", s.groups_per_token, s.expert_groups));
  }
}

ModelShape read_model(std::string_view text, const std::string& file, config::Diagnostics& diagnostics) {
  ModelShape s;
  const config::Document document(text, file, diagnostics);
  if (document.root().IsDefined() && !document.root().IsNull()) {
    config::read(document, document.root(), "model", s, diagnostics);
  }
  return s;
}

std::int64_t attention_parameters(const ModelShape& s) {
  const AttentionShape& a = s.attention;
  if (a.kind == AttentionKind::mla) {
    return s.hidden * (a.q_lora + a.kv_lora + a.rope_dim) + a.q_lora * a.heads * (a.nope_dim + a.rope_dim) +
           a.kv_lora * a.heads * (a.nope_dim + a.v_dim) + a.heads * a.v_dim * s.hidden;
  }
  return s.hidden * (a.heads + 2 * a.kv_heads) * a.head_dim + a.heads * a.head_dim * s.hidden;
}

std::int64_t expert_parameters(const ModelShape& s) { return 3 * s.hidden * s.expert_inter; }

ParameterCount parameters(const ModelShape& s) {
  ParameterCount p;
  p.attention = s.layers * attention_parameters(s);
  p.dense_mlp = s.dense_layers * 3 * s.hidden * s.dense_inter;
  p.experts = s.moe_layers() * s.experts * expert_parameters(s);
  p.shared = s.moe_layers() * s.shared_experts * expert_parameters(s);
  p.router = s.moe_layers() * s.experts * s.hidden;
  // Two norms a layer and the last one; MLA also normalises both latents.
  p.norms = (2 * s.layers + 1) * s.hidden;
  if (s.attention.kind == AttentionKind::mla) p.norms += s.layers * (s.attention.q_lora + s.attention.kv_lora);
  p.embeddings = s.vocab * s.hidden;
  p.head = s.tied_embeddings ? 0 : s.vocab * s.hidden;
  return p;
}

std::int64_t active_parameters(const ModelShape& s) {
  const ParameterCount p = parameters(s);
  return p.total() - p.experts + s.moe_layers() * s.experts_per_token * expert_parameters(s);
}

Bytes kv_bytes_per_token_layer(const ModelShape& s, Precision kv) {
  const AttentionShape& a = s.attention;
  const std::int64_t elements = a.kind == AttentionKind::mla ? a.kv_lora + a.rope_dim : 2 * a.kv_heads * a.head_dim;
  return {elements * bytes_per_element(kv)};
}

Bytes kv_bytes_per_token(const ModelShape& s, Precision kv) { return s.layers * kv_bytes_per_token_layer(s, kv); }

}  // namespace faultline::model

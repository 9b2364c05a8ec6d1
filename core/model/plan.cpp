#include "core/model/plan.h"

#include <fmt/format.h>

namespace faultline::model {

void describe(config::Fields& f, ParallelPlan& p) {
  f.field("tp", p.tp, {.min = 1, .max = 1024});
  f.field("dp", p.dp, {.min = 1, .max = 4096});
  f.field("ep", p.ep, {.min = 1, .max = 4096});
  f.field("kv_precision", p.kv_precision);
  f.field("dispatch_precision", p.dispatch_precision);
  f.field("dual_batch_overlap", p.dual_batch_overlap);
  f.field("decode_launch", p.decode_launch);
  f.field("fused_shared_expert", p.fused_shared_expert);
  f.field("redundant_experts", p.redundant_experts, {.min = 0, .max = 65536});
  f.field("expert_imbalance", p.expert_imbalance, {.min = 1, .max = 64});
}

std::int64_t nodes_of(const ParallelPlan& p, const DeviceSpec& d) {
  return (p.gpu_count() + d.gpus_per_node - 1) / d.gpus_per_node;
}

std::int64_t experts_per_gpu(const ParallelPlan& p, const ModelShape& s) {
  return (s.experts + p.redundant_experts) / p.ep;
}

std::vector<std::string> plan_problems(const ParallelPlan& p, const ModelShape& s, const DeviceSpec& d) {
  std::vector<std::string> out;
  const auto problem = [&out]<class... A>(fmt::format_string<A...> text, A&&... values) {
    out.push_back(fmt::format(text, std::forward<A>(values)...));
  };
  const AttentionShape& a = s.attention;
  if (p.tp > d.gpus_per_node) {
    problem("tp={} is wider than a node of {} GPUs: tensor parallelism needs the links inside a node", p.tp,
            d.gpus_per_node);
  } else if (d.gpus_per_node % p.tp != 0) {
    problem("tp={} does not divide the {} GPUs of a node: a rank would span two nodes", p.tp, d.gpus_per_node);
  }
  if (a.heads % p.tp != 0) problem("tp={} does not divide the {} attention heads of {}", p.tp, a.heads, s.name);
  if (a.kind == AttentionKind::gqa && a.kv_heads % p.tp != 0 && p.tp % a.kv_heads != 0) {
    problem("tp={} and the {} key-value heads of {} do not divide one another", p.tp, a.kv_heads, s.name);
  }
  if (p.gpu_count() > d.gpus_per_node && p.gpu_count() % d.gpus_per_node != 0) {
    problem("tp*dp = {} GPUs do not fill whole nodes of {}", p.gpu_count(), d.gpus_per_node);
  }
  if (!s.is_moe()) {
    if (p.ep != 1) problem("ep={}, but {} has no experts", p.ep, s.name);
    if (p.dp != 1)
      problem("dp={}, but the ranks of a dense model do not step together: use dp=1 and {} groups", p.dp, p.dp);
    if (p.redundant_experts != 0) problem("redundant_experts={}, but {} has no experts", p.redundant_experts, s.name);
    return out;
  }
  if (p.ep == 1) {
    if (p.dp != 1) {
      problem("ep=1 with dp={} would hold every expert {} times: set ep to tp*dp = {}, or use dp=1 and {} groups", p.dp,
              p.dp, p.gpu_count(), p.dp);
    }
    if (p.redundant_experts != 0) problem("redundant_experts={} need expert parallelism (ep > 1)", p.redundant_experts);
    if (s.expert_inter % p.tp != 0)
      problem("tp={} does not divide the expert width {} of {}", p.tp, s.expert_inter, s.name);
  } else if (p.ep != p.gpu_count()) {
    problem("ep={} must equal the GPUs of its group, tp*dp = {}*{} = {}", p.ep, p.tp, p.dp, p.gpu_count());
  } else if ((s.experts + p.redundant_experts) % p.ep != 0) {
    const std::int64_t rest = (s.experts + p.redundant_experts) % p.ep;
    problem("ep={} does not divide the {} experts and {} replicas of {}: redundant_experts={} would", p.ep, s.experts,
            p.redundant_experts, s.name, p.redundant_experts + p.ep - rest);
  }
  if (p.dual_batch_overlap && !p.exchanges())
    problem("dual_batch_overlap has nothing to hide: the plan has no dispatch and combine");
  if (p.fused_shared_expert && s.shared_experts == 0)
    problem("fused_shared_expert, but {} has no shared expert", s.name);
  return out;
}

}  // namespace faultline::model

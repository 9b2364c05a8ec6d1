#include "core/control/ships.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace faultline::control {
namespace {

// Engines by the name of their profile (topologies/engines). Read in the projects' documents and posts as cited; "none
// known" where no released version was found to do it.
constexpr std::array kShipped{
    Shipped{"none", "vllm sglang", "an engine alone restarts nothing"},
    Shipped{"restart", "vllm sglang", "any supervisor restarts the processes"},
    Shipped{"spare_node", "vllm sglang", "the cluster's scheduler starts the pod elsewhere"},
    Shipped{"spare_instance", "vllm sglang", "the router sends to another replica"},
    Shipped{
        "elastic_ep", "sglang",
        "SGLang Elastic EP post, March 2026, with the Mooncake back end; vLLM's RFCs 27774 and 27866 are not shipped"},
    Shipped{"mask", "", "ReviveMoE (arXiv 2602.21140) describes it for an engine of its own"},
    Shipped{
        "role_switch", "",
        "the role of a worker is a launch argument of vLLM and SGLang; Dynamo's planner moves workers, not on failure"},
    Shipped{"replicate_kv", "", "KevlarFlow (arXiv 2601.22438) and Tarragon (2601.01310) describe it"},
    Shipped{"migrate", "", "NVIDIA Dynamo's frontend does it in front of an engine; vLLM and SGLang alone do not"},
    Shipped{"shed", "", "NVIDIA Dynamo rejects with 503 above a load; not by SLO class"},
    Shipped{"degraded_rail", "", "R2CCL describes it; collective libraries fail instead"},
};

}  // namespace

std::span<const Shipped> shipped() { return kShipped; }

std::vector<std::string> not_shipped(const EngineSpec& engine, const RecoverySpec& recovery, const RouterSpec& router) {
  std::vector<std::string> notes;
  if (engine.name != "vllm" && engine.name != "sglang") return notes;
  const auto check = [&](std::string_view policy) {
    const auto it =
        std::find_if(kShipped.begin(), kShipped.end(), [&](const Shipped& s) { return s.policy == policy; });
    if (it == kShipped.end() || it->engines.find(engine.name) != std::string_view::npos) return;
    notes.push_back(fmt::format("{} does not ship {} ({})", engine.name, policy, it->source));
  };
  check(enum_names(static_cast<const RecoveryAction*>(nullptr))[static_cast<std::size_t>(recovery.policy)]);
  if (router.retry.migrate) check("migrate");
  if (std::any_of(router.shed_above.begin(), router.shed_above.end(), [](std::int64_t t) { return t > 0; }))
    check("shed");
  if (recovery.degraded_rail) check("degraded_rail");
  if (recovery.replicate_kv.enabled) check("replicate_kv");
  return notes;
}

}  // namespace faultline::control

// A small cluster for fault tests: two nodes of two GPUs, two leaves, one router; ids are positions in a list.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "core/fault/schedule.h"

namespace faultline::fault::testing {

inline const std::vector<std::pair<std::string, TargetKind>>& world() {
  static const std::vector<std::pair<std::string, TargetKind>> all{{"node-0", TargetKind::node},
                                                                   {"node-0.gpu-0", TargetKind::gpu},
                                                                   {"node-0.gpu-1", TargetKind::gpu},
                                                                   {"node-0.nic-0", TargetKind::nic},
                                                                   {"node-0.nic-0.cable", TargetKind::cable},
                                                                   {"node-1", TargetKind::node},
                                                                   {"node-1.gpu-0", TargetKind::gpu},
                                                                   {"node-1.gpu-1", TargetKind::gpu},
                                                                   {"leaf-0", TargetKind::switch_},
                                                                   {"leaf-1", TargetKind::switch_},
                                                                   {"rack-0", TargetKind::rack},
                                                                   {"router-0", TargetKind::router}};
  return all;
}

inline Candidates candidates() {
  return {.resolve = [](std::string_view name) -> std::optional<ComponentId> {
            if (name == "instance-0.gpu-1") return ComponentId{2};  // an alias
            for (std::uint32_t i = 0; i < world().size(); ++i) {
              if (world()[i].first == name) return ComponentId{i};
            }
            return std::nullopt;
          },
          .kind_of = [](std::string_view, ComponentId id) -> std::optional<TargetKind> { return world()[id.v].second; },
          .names =
              [](TargetKind kind) {
                std::vector<std::string> out;
                for (const auto& [name, is] : world()) {
                  if (is == kind) out.push_back(name);
                }
                return out;
              }};
}

struct Campaign {
  std::vector<FaultSpec> faults;
};
inline void describe(config::Fields& f, Campaign& c) { f.list("faults", c.faults); }

/// Reads "faults: …" as an experiment does.
inline std::vector<FaultSpec> read_faults(std::string_view text, config::Diagnostics& diagnostics) {
  config::Document document(text, "e.yaml", diagnostics);
  Campaign campaign;
  if (diagnostics.ok()) config::read(document, document.root(), "", campaign, diagnostics);
  if (diagnostics.ok()) finish_list(campaign.faults, diagnostics);
  return campaign.faults;
}

inline FaultSchedule expand_text(std::string_view text, ExpandOptions options = {}, Candidates with = candidates()) {
  config::Diagnostics diagnostics;
  const auto specs = read_faults(text, diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  const auto schedule = expand(specs, options, with, diagnostics);
  EXPECT_EQ(diagnostics.text(), "");
  return schedule;
}

/// Every error of reading and, where reading is clean, of expanding for a run of 100 s.
inline std::string errors_of(std::string_view text, Instant run_end = Instant{100'000'000'000}) {
  config::Diagnostics diagnostics;
  const auto specs = read_faults(text, diagnostics);
  if (diagnostics.ok()) expand(specs, {.seed = 1, .run_end = run_end}, candidates(), diagnostics);
  return diagnostics.text();
}

}  // namespace faultline::fault::testing

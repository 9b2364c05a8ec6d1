// Any number of equal nodes, for tests of rates and statistics.
#pragma once

#include <string>
#include <vector>

#include "core/fault/schedule.h"

namespace faultline::fault::testing {

inline Instant hours(double h) { return Instant{static_cast<std::int64_t>(h * 3'600'000'000'000.0)}; }

/// `count` nodes, `group` of them in one rack.
inline Candidates nodes(std::uint32_t count, std::uint32_t group = 1) {
  return {.resolve =
              [](std::string_view name) {
                return ComponentId{static_cast<std::uint32_t>(std::stoul(std::string(name.substr(5))))};
              },
          .kind_of = [](std::string_view, ComponentId) { return TargetKind::node; },
          .names =
              [count](TargetKind kind) {
                std::vector<std::string> out;
                for (std::uint32_t i = 0; kind == TargetKind::node && i < count; ++i)
                  out.push_back("node-" + std::to_string(i));
                return out;
              },
          .group_of = [group](GroupKind, ComponentId id) -> std::optional<std::uint32_t> { return id.v / group; }};
}

}  // namespace faultline::fault::testing

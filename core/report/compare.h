// The differences between two summaries, field by field. Faults are matched by id, SLO classes by name; figures of the
// machine that ran the simulation (wall time, memory) are shown but do not make two runs different.
#pragma once

#include <string>
#include <vector>

#include "core/report/stored_summary.h"

namespace faultline::report {

struct Difference {
  std::string field;  // "latency.ttft_s.p99", "faults[leaf].phases_s.detect"
  Json a, b;          // null where absent
  bool equal = false;
  bool of_machine = false;
};

/// Every field of either, in the order of A, then those that only B has.
std::vector<Difference> differences(const Json& a, const Json& b);
/// True if nothing but figures of the machine differs.
bool same_run(const std::vector<Difference>& differences);

/// A table of the fields that differ (or all), at `columns`; says so when nothing differs.
std::string differences_text(const std::string& name_a, const std::string& name_b,
                             const std::vector<Difference>& differences, bool all = false, int columns = 80);
Json differences_json(const std::string& name_a, const std::string& name_b, const std::vector<Difference>& differences);

}  // namespace faultline::report

#include "core/record/truth_log.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace faultline::record {

TruthLog::TruthLog(std::uint64_t seed)
    : text_(fmt::format("{{\"truth_log\":{},\"seed\":{}}}\n", kTruthLogVersion, seed)) {}

void TruthLog::append(Instant at, std::string_view fault, std::string_view kind, std::string_view target, bool active,
                      Cause cause) {
  nlohmann::ordered_json line{{"at_ns", at.ns},   {"fault", fault},   {"kind", kind},
                              {"target", target}, {"active", active}, {"applied", cause == Cause::none}};
  if (cause != Cause::none) line["cause"] = name_of(cause);
  text_ += line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace faultline::record

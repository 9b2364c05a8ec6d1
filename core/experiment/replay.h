// Strict replay: fresh controllers, built from the experiment inside the log, are fed the recorded events; every
// command and digest must be the recorded one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/quantity.h"
#include "core/config/document.h"

namespace faultline::experiment {

struct ReplayResult {
  bool matches = true;
  std::uint64_t records = 0;  // compared, the differing one included
  Instant at;
  std::string who;         // "router 0"
  std::string difference;  // a few lines: event, expected and produced commands
};

/// Throws record::CodecError for a damaged log, config::ConfigError where its experiment no longer reads.
ReplayResult replay(std::string_view log, const config::FileReader& reader);

}  // namespace faultline::experiment

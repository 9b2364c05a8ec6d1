// What several logs of one run say about each other: every message that a controller received is one that its sender
// commanded, each at most once and in the sender's order, whatever was lost on the way. No order over all processes is
// assumed; stamps are not compared.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace faultline::experiment {

struct DeliveryResult {
  std::uint64_t received = 0;  // messages between controllers
  std::uint64_t lost = 0;      // sent and never received: peers died, or the run ended
  std::string difference;      // the first message that nobody sent; empty where there is none
};

/// `logs`: one for each incarnation of each controller, any order. A log that ends in the middle of a record counts up
/// to there; then what others received from that process and its log does not hold is no difference if it is the last
/// record. Throws record::CodecError for what is no log at all.
DeliveryResult check_delivery(const std::vector<std::string_view>& logs);

}  // namespace faultline::experiment

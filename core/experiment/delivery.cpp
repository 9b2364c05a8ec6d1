#include "core/experiment/delivery.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/record/codec.h"
#include "core/record/event_log.h"

namespace faultline::experiment {
namespace {

constexpr std::string_view kRoles[] = {"client", "router", "fleet", "instance", "node"};

std::string name_of(Address a) {
  return fmt::format("{} {}", kRoles[std::min<std::size_t>(static_cast<std::size_t>(a.role), 4)], a.index);
}

std::string bytes_of(const control::Message& message) {
  std::string out;
  record::Encoder encoder(out);
  encoder.value(message);
  return out;
}

using Pair = std::pair<Address, Address>;  // from, to
/// By incarnation of the one whose log it is.
using Traffic = std::map<Pair, std::map<std::uint32_t, std::vector<std::string>>>;

/// Whether `got` is what is left of `sent` when some of it is taken out. One receiver hears one sender's incarnations
/// one after another.
std::size_t first_unsent(const std::vector<std::string>& got, const std::vector<std::string>& sent, std::size_t& at) {
  for (std::size_t k = 0; k < got.size(); ++k) {
    while (at < sent.size() && sent[at] != got[k]) ++at;
    if (at == sent.size()) return k;
    ++at;
  }
  return got.size();
}

}  // namespace

DeliveryResult check_delivery(const std::vector<std::string_view>& logs) {
  Traffic sent, got;
  DeliveryResult result;
  std::uint64_t total = 0;
  for (const std::string_view log : logs) {
    record::EventLogReader in(log);
    record::LogRecord r;
    try {
      while (in.next(r)) {
        if (const auto* received = std::get_if<control::Received>(&r.event)) {
          got[{received->from, r.who}][r.incarnation].push_back(bytes_of(received->message));
          ++result.received;
        }
        for (const control::Command& c : r.commands) {
          if (const auto* send = std::get_if<control::Send>(&c)) {
            sent[{r.who, send->to}][r.incarnation].push_back(bytes_of(send->message));
            ++total;
          }
        }
      }
    } catch (const record::CodecError&) {  // its process was killed while it wrote
    }
  }
  result.lost = total - std::min(total, result.received);
  for (const auto& [pair, by_receiver] : got) {
    std::vector<std::string> all;
    for (const auto& [incarnation, messages] : sent[pair]) all.insert(all.end(), messages.begin(), messages.end());
    std::size_t at = 0;
    for (const auto& [incarnation, messages] : by_receiver) {
      const std::size_t k = first_unsent(messages, all, at);
      if (k == messages.size()) continue;
      control::Message message;
      record::Decoder decoder(messages[k]);
      decoder.value(message);
      result.difference = fmt::format(
          "{} received from {}, as message {} of incarnation {}, what was not sent then:{}\n", name_of(pair.second),
          name_of(pair.first), k + 1, incarnation, record::describe_command(control::Send{pair.second, message}));
      return result;
    }
  }
  return result;
}

}  // namespace faultline::experiment

// Mooncake traces (github.com/kvcache-ai/Mooncake, FAST25-release; Qin et al., FAST 2025). One JSON object a line:
//   {"timestamp": 27000, "input_length": 6755, "output_length": 500, "hash_ids": [0, 14, 15]}
// timestamp: ms since the trace began, quantised to ticks of 3 s (TraceSpec::tick spreads them). hash_ids: the chain of
// prefix blocks of 512 tokens, at most ceil(input_length / 512) of them; equal leading ids are reusable KV cache.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/workload/arrival.h"
#include "core/workload/readers.h"

namespace faultline::workload {
namespace {

using Json = nlohmann::json;
constexpr std::uint32_t kBlockTokens = 512;

/// A whole number of a row, or nullopt after reporting what was expected.
std::optional<std::uint64_t> whole(const Json& row, const char* key, std::uint64_t max, int line, RowErrors& errors) {
  const auto found = row.find(key);
  if (found == row.end()) {
    errors.at(line, 1, fmt::format("missing key '{}'", key));
    return std::nullopt;
  }
  if (found->is_number_unsigned() && found->get<std::uint64_t>() <= max) return found->get<std::uint64_t>();
  errors.at(line, 1,
            fmt::format("{}: expected a whole number from 0 to {}, got {}", key, max,
                        shown(found->is_primitive() ? found->dump(-1, ' ', true, Json::error_handler_t::replace)
                                                    : found->type_name())));
  return std::nullopt;
}

/// Appends the ids to `blocks`; false after an error.
bool read_blocks(const Json& row, std::uint64_t prompt, int line, RowErrors& errors,
                 std::vector<std::uint32_t>& blocks) {
  const auto found = row.find("hash_ids");
  if (found == row.end()) return true;
  if (!found->is_array()) {
    errors.at(line, 1, fmt::format("hash_ids: expected a list of block ids, got {}", found->type_name()));
    return false;
  }
  const std::uint64_t most = (prompt + kBlockTokens - 1) / kBlockTokens;
  if (found->size() > most) {
    errors.at(line, 1,
              fmt::format("hash_ids: {} tokens have at most {} blocks of {}, got {} ids", prompt, most, kBlockTokens,
                          found->size()));
    return false;
  }
  for (std::size_t i = 0; i < found->size(); ++i) {
    const Json& id = (*found)[i];
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() > 0xffffffffULL) {
      errors.at(line, 1,
                fmt::format("hash_ids[{}]: expected a whole number from 0 to 4294967295, got {}", i,
                            shown(id.is_primitive() ? id.dump(-1, ' ', true, Json::error_handler_t::replace)
                                                    : id.type_name())));
      return false;
    }
    blocks.push_back(static_cast<std::uint32_t>(id.get<std::uint64_t>()));
  }
  return true;
}

std::optional<TraceRow> read_row(const Json& json, int line, RowErrors& errors, std::vector<std::uint32_t>& blocks) {
  for (const auto& [key, value] : json.items()) {
    if (key != "timestamp" && key != "input_length" && key != "output_length" && key != "hash_ids") {
      errors.at(line, 1, fmt::format("unknown key {}", shown(key)),
                "known keys: timestamp, input_length, output_length, hash_ids");
      return std::nullopt;
    }
  }
  constexpr std::uint64_t kMillisecondsMax = 4'000'000'000'000;  // 126 years
  const auto at = whole(json, "timestamp", kMillisecondsMax, line, errors);
  const auto prompt = whole(json, "input_length", kTokensMax, line, errors);
  const auto output = whole(json, "output_length", kTokensMax, line, errors);
  if (!at || !prompt || !output) return std::nullopt;
  TraceRow row{.at = Instant{static_cast<std::int64_t>(*at) * 1'000'000},
               .prompt = static_cast<std::uint32_t>(*prompt),
               .output = static_cast<std::uint32_t>(*output),
               .session = kNoSession,
               .first_block = blocks.size()};
  if (!read_blocks(json, *prompt, line, errors, blocks)) return std::nullopt;
  row.block_count = static_cast<std::uint32_t>(blocks.size() - row.first_block);
  return row;
}

}  // namespace

void read_mooncake(std::string_view text, const TraceSpec& spec, RowErrors& errors, Trace& trace) {
  trace.prefix_block_tokens = kBlockTokens;
  Lines lines(text);
  std::string_view line;
  while (!lines.rest_is_blank() && lines.next(line)) {
    ++trace.counts.rows;
    const int number = lines.number();
    Json json;
    try {
      json = Json::parse(line);
    } catch (const Json::exception& e) {
      const auto* const parse = dynamic_cast<const Json::parse_error*>(&e);
      errors.at(number, parse ? static_cast<int>(parse->byte) : 1,
                "expected one JSON object a line, got " + shown(line));
      continue;
    }
    if (!json.is_object()) {
      errors.at(number, 1, "expected one JSON object a line, got " + shown(line));
      continue;
    }
    auto row = read_row(json, number, errors, trace.blocks);
    if (!row) continue;
    const bool prompt_is_zero = row->prompt == 0;
    const ZeroCheck zero = check_zero_tokens(spec, *row, trace.counts);
    if (zero == ZeroCheck::error) {
      errors.at(
          number, 1,
          fmt::format("{}: 0 tokens, which zero_tokens refuses", prompt_is_zero ? "input_length" : "output_length"));
    }
    if (zero == ZeroCheck::keep) trace.rows.push_back(*row);
  }
}

}  // namespace faultline::workload

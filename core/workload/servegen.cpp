#include "core/workload/servegen.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/assert.h"
#include "core/workload/gzip.h"
#include "core/workload/table.h"

namespace faultline::workload {
namespace {

constexpr int kClientsMax = 100'000;
constexpr int kMissingInARowMax = 256;
constexpr double kWindowRequestsMin = 1e-3, kWindowRequestsMax = 1e7;  // a window's times are held in memory
constexpr double kProbabilitySlack = 0.01;  // probabilities of a histogram may miss 1 by this much

using Json = nlohmann::json;

bool skip_spaces(std::string_view text, std::size_t& at) {
  while (at < text.size() && (text[at] == ' ' || text[at] == '\t' || text[at] == '\n')) ++at;
  return at < text.size();
}

bool number_at(std::string_view text, std::size_t& at, double& value) {
  skip_spaces(text, at);
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), value);
  if (error != std::errc{} || !std::isfinite(value)) return false;
  at = static_cast<std::size_t>(end - text.data());
  return true;
}

bool mark_at(std::string_view text, std::size_t& at, char mark) {
  if (!skip_spaces(text, at) || text[at] != mark) return false;
  ++at;
  return true;
}

}  // namespace

std::optional<std::vector<std::pair<double, double>>> parse_python_dict(std::string_view text, std::size_t& bad) {
  std::vector<std::pair<double, double>> entries;
  std::size_t& at = bad;
  at = 0;
  if (!mark_at(text, at, '{')) return std::nullopt;
  if (!mark_at(text, at, '}')) {
    for (;;) {
      double key = 0, value = 0;
      if (!number_at(text, at, key) || !mark_at(text, at, ':') || !number_at(text, at, value)) return std::nullopt;
      entries.emplace_back(key, value);
      if (mark_at(text, at, '}')) break;
      if (!mark_at(text, at, ',')) return std::nullopt;
    }
  }
  if (skip_spaces(text, at)) return std::nullopt;
  return entries;
}

namespace {

/// One histogram of the dataset file. JSON keeps no line numbers, so messages name the span and the key.
Histogram read_lengths(const Json& span, const std::string& start, const char* key, const TraceSpec& spec,
                       RowErrors& errors, std::int64_t& zero_values) {
  Histogram histogram;
  const std::string where = fmt::format("\"{}\".{}", start, key);
  const auto found = span.find(key);
  if (found == span.end()) {
    errors.whole_file(fmt::format("{}: missing", where));
    return histogram;
  }
  if (!found->is_string()) {
    errors.whole_file(fmt::format("{}: expected a string with a dict, got {}", where, found->type_name()));
    return histogram;
  }
  const auto& text = found->get_ref<const std::string&>();
  std::size_t bad = 0;
  const auto entries = parse_python_dict(text, bad);
  if (!entries) {
    errors.whole_file(fmt::format("{}: expected {{tokens: probability, …}}, got {} at character {}", where,
                                  shown(std::string_view(text).substr(std::min(bad, text.size()))), bad + 1));
    return histogram;
  }
  double sum = 0;
  for (const auto& [tokens, probability] : *entries) {
    if (tokens < 0 || tokens > kTokensMax || tokens != std::floor(tokens)) {
      errors.whole_file(
          fmt::format("{}: expected a whole number of tokens, at most {}, got {}", where, kTokensMax, tokens));
      return histogram;
    }
    if (probability < 0 || probability > 1) {
      errors.whole_file(fmt::format("{}: expected a probability from 0 to 1, got {}", where, probability));
      return histogram;
    }
    sum += probability;
    auto value = static_cast<std::uint32_t>(tokens);
    if (value == 0) {
      ++zero_values;
      if (spec.zero_tokens == ZeroTokens::error)
        errors.whole_file(fmt::format("{}: 0 tokens, which zero_tokens refuses", where));
      if (spec.zero_tokens == ZeroTokens::skip) continue;
      value = 1;
    }
    histogram.add(value, probability);
  }
  if (!entries->empty() && std::abs(sum - 1) > kProbabilitySlack) {
    errors.whole_file(fmt::format("{}: the probabilities add up to {}, not 1", where, sum));
  }
  return histogram;
}

void read_dataset(std::string_view text, const TraceSpec& spec, RowErrors& errors, Client& client,
                  std::int64_t& zero_values) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& e) {
    const auto* const parse = dynamic_cast<const Json::parse_error*>(&e);
    const auto before = text.substr(0, parse && parse->byte > 0 ? std::min(parse->byte - 1, text.size()) : 0);
    const auto line = static_cast<int>(std::count(before.begin(), before.end(), '\n')) + 1;
    const auto line_begin = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
    errors.at(line, static_cast<int>(before.size() - line_begin) + 1, "not valid JSON");
    return;
  }
  if (!json.is_object()) {
    errors.whole_file(fmt::format("expected an object of spans of hours, got {}", json.type_name()));
    return;
  }
  for (const auto& [start, span] : json.items()) {
    std::int64_t at = 0;
    const auto [end, error] = std::from_chars(start.data(), start.data() + start.size(), at);
    if (error != std::errc{} || end != start.data() + start.size() || at < 0) {
      errors.whole_file(fmt::format("expected the start of a span in whole seconds, got {}", shown(start)));
      continue;
    }
    if (!span.is_object()) {
      errors.whole_file(
          fmt::format("\"{}\": expected input_tokens and output_tokens, got {}", start, span.type_name()));
      continue;
    }
    auto& lengths = client.lengths[at];
    lengths[0] = read_lengths(span, start, "input_tokens", spec, errors, zero_values);
    lengths[1] = read_lengths(span, start, "output_tokens", spec, errors, zero_values);
  }
}

void read_windows(std::string_view text, RowErrors& errors, Client& client) {
  Table table(text, errors, {"start_s", "rate", "cv", "pattern", "shape", "scale_s"});
  while (table.next_row()) {
    const auto start = table.number(0, 0, 4e9);
    const auto rate = table.number(1, 0, 1e6);
    const auto cv = table.number(2, 0, 1e6);
    if (!start || !rate || !cv) continue;
    if (*start != std::floor(*start)) {
      table.error(0, "expected whole seconds, got " + shown(table.text(0)));
      continue;
    }
    ClientWindow window{.begin_s = static_cast<std::int64_t>(*start), .rate = *rate};
    if (!client.windows.empty() && window.begin_s <= client.windows.back().begin_s) {
      table.error(0, fmt::format("expected a start after {}, got {}", client.windows.back().begin_s, window.begin_s));
      continue;
    }
    const std::string_view pattern = table.text(3);
    if (pattern == "Gamma") window.pattern = ClientWindow::Pattern::gamma;
    else if (pattern == "Weibull") window.pattern = ClientWindow::Pattern::weibull;
    else if (!pattern.empty()) table.error(3, "expected Gamma, Weibull or nothing (idle), got " + shown(pattern));
    if (pattern.empty() != (*rate == 0)) {
      table.error(3, fmt::format("a rate of {} {} a pattern", *rate, *rate == 0 ? "goes without" : "needs"));
      continue;
    }
    if (window.pattern != ClientWindow::Pattern::idle) {
      const auto shape = table.number(4, 1e-4, 1e4);
      const auto scale = table.number(5, 0, 1e300);  // implied by the rate; read to be checked
      if (!shape || !scale) continue;
      window.shape = *shape;
    }
    client.windows.push_back(window);
  }
  for (std::size_t i = 0; i < client.windows.size(); ++i) {
    auto& w = client.windows[i];
    const bool last = i + 1 == client.windows.size();
    constexpr std::int64_t step_s = 600;  // of a client with a single window; else the step before the last window
    w.end_s = !last   ? client.windows[i + 1].begin_s
              : i > 0 ? w.begin_s + (w.begin_s - client.windows[i - 1].begin_s)
                      : w.begin_s + step_s;
    const double requests = w.rate * static_cast<double>(w.end_s - w.begin_s);
    if (w.rate > 0 && (requests < kWindowRequestsMin || requests > kWindowRequestsMax)) {
      errors.whole_file(fmt::format("the window at {} s brings {} requests, expected {} to {}", w.begin_s, requests,
                                    kWindowRequestsMin, kWindowRequestsMax));
    }
  }
}

/// The lengths in force at a window: the last span that began, or nullptr.
const std::array<Histogram, 2>* lengths_at(const Client& client, std::int64_t at_s) {
  auto after = client.lengths.upper_bound(at_s);
  return after == client.lengths.begin() ? nullptr : &std::prev(after)->second;
}

void check_lengths(const Client& client, RowErrors& errors) {
  for (const ClientWindow& w : client.windows) {
    if (w.pattern == ClientWindow::Pattern::idle) continue;
    const auto* lengths = lengths_at(client, w.begin_s);
    if (!lengths || (*lengths)[0].empty() || (*lengths)[1].empty()) {
      errors.whole_file(fmt::format("no lengths for the requests of the window at {} s", w.begin_s));
    }
  }
}

}  // namespace

double busiest_window(const ServeGenFolder& folder) {
  double most = 0;
  for (const Client& client : folder.clients) {
    for (const ClientWindow& w : client.windows)
      most = std::max(most, w.rate * static_cast<double>(w.end_s - w.begin_s));
  }
  return most;
}

std::optional<ServeGenFolder> read_servegen(const TraceSpec& spec, const config::FileReader& reader,
                                            config::Diagnostics& diagnostics) {
  ServeGenFolder folder{.path = spec.path};
  while (folder.path.size() > 1 && folder.path.back() == '/') folder.path.pop_back();
  bool good = true;
  int missing = 0;
  for (int n = 0; reader && n < kClientsMax && missing < kMissingInARowMax; ++n) {
    const std::string stem = fmt::format("{}/chunk-{}-", folder.path, n);
    const std::string windows_path = stem + "trace.csv";
    auto content = reader(windows_path);
    if (!content) {
      ++missing;
      continue;
    }
    missing = 0;
    Client client{.number = n};
    const auto windows = unpacked(*std::move(content), windows_path, diagnostics);
    if (windows) {
      RowErrors errors(windows_path, diagnostics);
      read_windows(*windows, errors, client);
      if (errors.count() == 0 && client.windows.empty()) errors.whole_file("the file has no windows");
      good = good && errors.count() == 0;
    }
    std::string dataset_path = stem + "dataset.json.gz";
    content = reader(dataset_path);
    if (!content) dataset_path = stem + "dataset.json";
    const auto dataset = content ? unpacked(*std::move(content), dataset_path, diagnostics)
                                 : read_unpacked(dataset_path, reader, diagnostics);
    if (dataset) {
      RowErrors errors(dataset_path, diagnostics);
      read_dataset(*dataset, spec, errors, client, folder.zero_values);
      if (errors.count() == 0) check_lengths(client, errors);
      good = good && errors.count() == 0;
    }
    good = good && windows && dataset;
    folder.clients.push_back(std::move(client));
  }
  if (folder.clients.empty()) {
    diagnostics.error({spec.path, 0, 0}, "cannot read the file, and it is no ServeGen folder (no chunk-N-trace.csv)");
    return std::nullopt;
  }
  if (!good) return std::nullopt;
  return folder;
}

}  // namespace faultline::workload

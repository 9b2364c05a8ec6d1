#include "core/config/diagnostics.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace faultline::config {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string Mark::text() const {
  if (line == 0) return file;
  return fmt::format("{}:{}:{}", file, line, column);
}

void Diagnostics::error(Mark mark, std::string message, std::string note) {
  list_.push_back({std::move(mark), std::move(message), std::move(note)});
}

std::string Diagnostics::text() const {
  std::vector<const Diagnostic*> sorted;
  for (const auto& d : list_) sorted.push_back(&d);
  std::stable_sort(sorted.begin(), sorted.end(), [](const Diagnostic* a, const Diagnostic* b) {
    return std::tie(a->mark.file, a->mark.line, a->mark.column) < std::tie(b->mark.file, b->mark.line, b->mark.column);
  });
  std::string out;
  for (const Diagnostic* d : sorted) {
    out += fmt::format("{}: error: {}\n", d->mark.text(), d->message);
    if (!d->note.empty()) out += fmt::format("  {}\n", d->note);
  }
  return out;
}

void Diagnostics::throw_if_any() const {
  if (!ok()) throw ConfigError(text());
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const auto& candidate : candidates) {
    if (candidate.size() > word.size() + best_distance || word.size() > candidate.size() + best_distance) continue;
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  const std::string best = nearest(word, candidates);
  return best.empty() ? "" : fmt::format("(did you mean '{}'?)", best);
}

std::string name_list(const std::vector<std::string>& names, std::size_t most) {
  std::string out;
  for (std::size_t i = 0; i < names.size() && i < most; ++i) out += (i ? ", " : "") + names[i];
  if (names.size() > most) out += fmt::format(" … ({} more)", names.size() - most);
  return out;
}

}  // namespace faultline::config

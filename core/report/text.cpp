#include "core/report/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace faultline::report {
namespace {

constexpr std::array<std::string_view, 9> kEighthsUp{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr std::array<std::string_view, 8> kEighthsRight{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};

/// Length of the valid UTF-8 sequence at the start of `s`, 0 where there is none (overlong and surrogates included).
std::size_t sequence_length(std::string_view s) {
  const auto byte = [&](std::size_t i) { return i < s.size() ? static_cast<unsigned char>(s[i]) : 0u; };
  const unsigned a = byte(0);
  const auto continues = [&](std::size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a <= 0xDF && continues(1)) return 2;
  if (a >= 0xE0 && a <= 0xEF && continues(1) && continues(2)) {
    if ((a == 0xE0 && byte(1) < 0xA0) || (a == 0xED && byte(1) > 0x9F)) return 0;
    return 3;
  }
  if (a >= 0xF0 && a <= 0xF4 && continues(1) && continues(2) && continues(3)) {
    if ((a == 0xF0 && byte(1) < 0x90) || (a == 0xF4 && byte(1) > 0x8F)) return 0;
    return 4;
  }
  return 0;
}

bool is_control(std::string_view sequence) {
  const auto a = static_cast<unsigned char>(sequence[0]);
  if (sequence.size() == 1) return a < 0x20 || a == 0x7F;
  if (sequence.size() == 2) return a == 0xC2 && static_cast<unsigned char>(sequence[1]) < 0xA0;
  // Bidirectional overrides and isolates (U+202A … 202E, U+2066 … 2069) reorder what follows them.
  if (sequence.size() == 3 && a == 0xE2) {
    const auto b = static_cast<unsigned char>(sequence[1]), c = static_cast<unsigned char>(sequence[2]);
    return (b == 0x80 && c >= 0xAA && c <= 0xAE) || (b == 0x81 && c >= 0xA6 && c <= 0xA9);
  }
  return false;
}

template <class Each>
void each_character(std::string_view text, Each each) {
  while (!text.empty()) {
    const std::size_t n = sequence_length(text);
    const bool bad = n == 0 || is_control(text.substr(0, n));
    each(text.substr(0, std::max<std::size_t>(n, 1)), bad);
    text.remove_prefix(std::max<std::size_t>(n, 1));
  }
}

}  // namespace

std::string with_commas(std::int64_t n) {
  std::string digits = fmt::format("{}", n);
  const std::size_t first = n < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string number(double x) {
  if (!std::isfinite(x)) return "–";
  const double size = std::abs(x);
  if (size >= 999.5) return with_commas(static_cast<std::int64_t>(x + (x < 0 ? -0.5 : 0.5)));
  if (size == 0) return "0";
  if (size >= 99.95) return fmt::format("{:.0f}", x);
  if (size >= 9.995) return fmt::format("{:.1f}", x);
  if (size >= 0.9995) return fmt::format("{:.2f}", x);
  return fmt::format("{:#.3g}", x);
}

std::string time_text(std::optional<Duration> d) {
  if (!d) return "–";
  const std::int64_t ns = d->v;
  const std::int64_t size = ns < 0 ? -ns : ns;
  if (size == 0) return "0 s";
  if (size < 1'000) return fmt::format("{} ns", ns);
  const double x = static_cast<double>(ns);
  if (size < 1'000'000) return number(x * 1e-3) + " us";
  if (size < 1'000'000'000) return number(x * 1e-6) + " ms";
  if (size < 120'000'000'000) return number(x * 1e-9) + " s";
  const std::int64_t whole = (size + 500'000'000) / 1'000'000'000;
  const char* sign = ns < 0 ? "-" : "";
  if (whole < 7'200) return fmt::format("{}{} min {:02} s", sign, whole / 60, whole % 60);
  return fmt::format("{}{} h {:02} min", sign, whole / 3600, whole % 3600 / 60);
}

std::string bytes_text(std::int64_t bytes) {
  constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  double x = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; std::abs(x) >= 1023.5 && unit + 1 < units.size(); ++unit) x /= 1024;
  return unit == 0 ? fmt::format("{} B", bytes) : number(x) + " " + units[unit];
}

std::string percent(double share) { return fmt::format("{:.1f} %", share * 100); }

std::size_t width_of(std::string_view text) {
  std::size_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return n;
}

std::string fit(std::string_view text, std::size_t columns, bool right_aligned) {
  const std::size_t width = width_of(text);
  if (width <= columns) {
    const std::string blanks(columns - width, ' ');
    return right_aligned ? blanks + std::string(text) : std::string(text) + blanks;
  }
  std::string out;
  std::size_t n = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) != 0x80 && ++n >= columns) break;
    out += c;
  }
  return columns == 0 ? "" : out + "…";
}

std::string printable(std::string_view text) {
  std::string out;
  each_character(text, [&](std::string_view c, bool bad) { out += bad ? std::string_view("?") : c; });
  return out;
}

std::vector<std::string> wrapped(std::string_view text, std::size_t columns) {
  std::vector<std::string> lines;
  std::string line;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && width_of(line) + 1 + width_of(word) > columns) {
      lines.push_back(std::move(line));
      line.clear();
    }
    if (!line.empty()) line += ' ';
    line += word;
    if (width_of(line) > columns) line = fit(line, columns);
  }
  if (!line.empty()) lines.push_back(std::move(line));
  return lines;
}

std::string html_escape(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  each_character(text, [&](std::string_view c, bool bad) {
    if (c == "\n" || c == "\t") out += c;
    else if (bad) out += "\xEF\xBF\xBD";
    else if (c == "&") out += "&amp;";
    else if (c == "<") out += "&lt;";
    else if (c == ">") out += "&gt;";
    else if (c == "\"") out += "&quot;";
    else if (c == "'") out += "&#39;";
    else out += c;
  });
  return out;
}

std::vector<std::string> bar_chart(const std::vector<double>& values, const std::vector<double>& reference, double top,
                                   int rows) {
  std::vector<std::string> out(static_cast<std::size_t>(rows));
  const auto level = [&](const std::vector<double>& v, std::size_t i) {
    if (i >= v.size() || !(top > 0)) return 0;
    return static_cast<int>(std::clamp(v[i] / top, 0.0, 1.0) * rows * 8 + 0.5);
  };
  for (int row = 0; row < rows; ++row) {
    const int base = (rows - 1 - row) * 8;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const int filled = std::clamp(level(values, i) - base, 0, 8);
      // A cell is shaded where the reference fills most of it and the value does not reach into it.
      const bool missing = filled == 0 && level(reference, i) - base >= 4;
      out[static_cast<std::size_t>(row)] += missing ? "░" : kEighthsUp[static_cast<std::size_t>(filled)];
    }
  }
  return out;
}

std::string bar(double share, std::size_t columns) {
  std::size_t eighths = static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(columns) * 8 + 0.5);
  if (share > 0) eighths = std::max<std::size_t>(1, eighths);
  std::string out;
  for (std::size_t i = 0; i < eighths / 8; ++i) out += "█";
  return out + std::string(kEighthsRight[eighths % 8]);
}

}  // namespace faultline::report

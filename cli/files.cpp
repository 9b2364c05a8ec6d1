#include <fmt/format.h>
#include <zlib.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "cli/command.h"
#include "core/config/diagnostics.h"

namespace faultline::cli {

std::optional<std::string> read_file(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return std::nullopt;
  gzFile file = gzopen(path.c_str(), "rb");  // reads plain files as they are
  if (!file) return std::nullopt;
  gzbuffer(file, 1 << 18);
  std::string text;
  char buffer[1 << 16];
  int count = 0;
  while ((count = gzread(file, buffer, sizeof buffer)) > 0) text.append(buffer, static_cast<std::size_t>(count));
  const bool bad = count < 0;
  const bool closed = gzclose(file) == Z_OK;
  if (bad || !closed) return std::nullopt;
  return text;
}

std::string must_read_file(const std::string& path) {
  if (auto text = read_file(path)) return *std::move(text);
  const int reason = errno;
  std::vector<std::string> beside;
  std::error_code error;
  auto folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    beside.push_back((folder == "." ? entry.path().filename() : entry.path()).string());
  }
  const std::string suggestion = config::did_you_mean(path, beside);
  throw config::ConfigError(
      fmt::format("{}: error: cannot read the file: {}\n{}", path,
                  std::filesystem::is_directory(path, error) ? "it is a folder" : std::strerror(reason),
                  suggestion.empty() ? "" : "  " + suggestion + "\n"));
}

void write_file(const std::string& path, std::string_view content) {
  const std::string partial = path + ".partial";
  std::FILE* file = std::fopen(partial.c_str(), "wb");
  if (!file) throw std::runtime_error(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
  const bool written = std::fwrite(content.data(), 1, content.size(), file) == content.size();
  const int reason = errno;
  const bool closed = std::fclose(file) == 0;
  if (!written || !closed || std::rename(partial.c_str(), path.c_str()) != 0) {
    const int why = written && closed ? errno : reason;
    std::remove(partial.c_str());
    throw std::runtime_error(fmt::format("cannot write {}: {}", path, std::strerror(why)));
  }
}

CLI::Validator whole_number() {
  return {[](std::string& text) -> std::string {
            constexpr std::uint64_t kMost = 9'200'000'000'000'000'000U;
            std::uint64_t value = 0;
            const char* const end = text.data() + text.size();
            const auto [stop, error] = std::from_chars(text.data(), end, value);
            if (error == std::errc{} && stop == end && value <= kMost) return {};
            return fmt::format("expected a whole number from 0 to {}, got '{}'", kMost, text);
          },
          ""};
}

}  // namespace faultline::cli

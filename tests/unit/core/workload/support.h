// Helpers of the workload tests: files from a map, the shared data where it is present, errors as text.
#pragma once

#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>

#include "core/config/diagnostics.h"
#include "core/config/document.h"
#include "core/config/fields.h"
#include "core/workload/spec.h"

namespace faultline::workload {

inline config::FileReader files(std::map<std::string, std::string> content) {
  return [content = std::move(content)](const std::string& path) -> std::optional<std::string> {
    const auto found = content.find(path);
    return found == content.end() ? std::nullopt : std::optional(found->second);
  };
}

/// Bytes of a file on disk, not unpacked.
inline std::optional<std::string> disk(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path)) return std::nullopt;
  std::ostringstream out;
  out << in.rdbuf();
  return in.good() ? std::optional(out.str()) : std::nullopt;
}

/// Folder of real traces: $FAULTLINE_DATA/traces, else ../shared/data/traces beside the repository.
inline std::string trace_folder() {
  const char* data = std::getenv("FAULTLINE_DATA");
  return (data ? std::string(data) : std::string(FAULTLINE_SOURCE_DIR) + "/../shared/data") + "/traces/requests/";
}

inline std::string gzipped(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// Reads "workload" settings; the errors' text, "" when there are none.
inline std::string read_spec(const std::string& yaml, WorkloadSpec& spec) {
  config::Diagnostics diagnostics;
  const config::Document document(yaml, "w.yaml", diagnostics);
  if (diagnostics.ok()) config::read(document, document.root(), "workload", spec, diagnostics);
  return diagnostics.text();
}

/// All arrivals, prefix blocks copied.
struct Recorded {
  Arrival arrival;
  std::vector<std::uint32_t> blocks;
};
inline std::vector<Recorded> drain(ArrivalSource& source, std::size_t most = 10'000'000) {
  std::vector<Recorded> all;
  Arrival a;
  while (all.size() < most && source.next(a)) all.push_back({a, {a.prefix_blocks.begin(), a.prefix_blocks.end()}});
  return all;
}

}  // namespace faultline::workload

/// Skips the test with the reason in its output when a data file is absent.
#define SKIP_WITHOUT_DATA(path)                                                                    \
  do {                                                                                             \
    if (!::faultline::workload::disk(path)) GTEST_SKIP() << "shared data not present: " << (path); \
  } while (false)

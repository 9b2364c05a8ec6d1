#include "core/workload/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

namespace faultline::workload {

bool is_gzip(std::string_view content) { return content.starts_with("\x1f\x8b"); }

std::optional<std::string> unpack_gzip(std::string_view content, std::size_t unpacked_max) {
  std::string out;
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return std::nullopt;  // 16: gzip framing, whose checksum is verified
  char buffer[1 << 16];
  int status = Z_OK;
  bool good = true;
  do {
    if (stream.avail_in == 0) {
      constexpr std::size_t most = std::numeric_limits<uInt>::max();
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
      stream.avail_in = static_cast<uInt>(std::min(content.size(), most));
      content.remove_prefix(stream.avail_in);
    }
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof buffer;
    status = inflate(&stream, Z_NO_FLUSH);
    out.append(buffer, sizeof buffer - stream.avail_out);
    const bool more = stream.avail_in > 0 || !content.empty();
    if (status == Z_STREAM_END && more) status = inflateReset(&stream);      // the next member of the file
    else if (status == Z_OK && !more && stream.avail_out > 0) good = false;  // cut off
  } while (good && status == Z_OK && out.size() <= unpacked_max);
  inflateEnd(&stream);
  if (!good || status != Z_STREAM_END || out.size() > unpacked_max) return std::nullopt;
  return out;
}

std::optional<std::string> unpacked(std::string content, const std::string& path, config::Diagnostics& diagnostics) {
  if (!is_gzip(content)) return content;
  auto text = unpack_gzip(content);
  if (!text) diagnostics.error({path, 0, 0}, "the gzip content is damaged or cut off");
  return text;
}

std::optional<std::string> read_unpacked(const std::string& path, const config::FileReader& reader,
                                         config::Diagnostics& diagnostics) {
  auto text = reader ? reader(path) : std::nullopt;
  if (!text) {
    diagnostics.error({path, 0, 0}, "cannot read the file");
    return std::nullopt;
  }
  return unpacked(*std::move(text), path, diagnostics);
}

}  // namespace faultline::workload

// A file as a stream, unpacked on the way when it is gzip: a profile of a gigabyte passes through 256 KiB.
#pragma once

#include <istream>
#include <memory>
#include <string>

namespace faultline::cli {

/// Null when the file cannot be opened. A damaged gzip file ends early; check `stream->bad()`.
std::unique_ptr<std::istream> open_stream(const std::string& path);

}  // namespace faultline::cli

#include "cli/gzip_stream.h"

#include <zlib.h>

#include <array>
#include <filesystem>
#include <streambuf>

namespace faultline::cli {
namespace {

class GzipBuffer final : public std::streambuf {
 public:
  explicit GzipBuffer(gzFile file) : file_(file) { gzbuffer(file_, 1 << 17); }
  ~GzipBuffer() override { gzclose(file_); }
  GzipBuffer(const GzipBuffer&) = delete;
  GzipBuffer& operator=(const GzipBuffer&) = delete;

 protected:
  int_type underflow() override {
    const int count = gzread(file_, buffer_.data(), static_cast<unsigned>(buffer_.size()));
    if (count < 0) throw std::ios_base::failure("damaged gzip content");  // istream turns it into badbit
    if (count == 0) return traits_type::eof();
    setg(buffer_.data(), buffer_.data(), buffer_.data() + count);
    return traits_type::to_int_type(*gptr());
  }

 private:
  gzFile file_;
  std::array<char, 1 << 17> buffer_{};
};

class GzipStream final : public std::istream {
 public:
  explicit GzipStream(gzFile file) : std::istream(nullptr), buffer_(file) { rdbuf(&buffer_); }

 private:
  GzipBuffer buffer_;
};

}  // namespace

std::unique_ptr<std::istream> open_stream(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return nullptr;
  gzFile file = gzopen(path.c_str(), "rb");  // reads plain files as they are
  if (!file) return nullptr;
  return std::make_unique<GzipStream>(file);
}

}  // namespace faultline::cli

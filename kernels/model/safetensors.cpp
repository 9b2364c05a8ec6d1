#include "kernels/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

namespace faultline::kernels::model {
namespace {

constexpr std::uint64_t kHeaderLimit = 100'000'000;  // the reference implementation's limit
constexpr std::size_t kMaxDimensions = 8;

std::uint64_t type_size(const std::string& type) {
  static const std::map<std::string, std::uint64_t> sizes{
      {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"BF16", 2}, {"F16", 2}, {"U16", 2},
      {"I16", 2},     {"F32", 4},     {"I32", 4},  {"U32", 4}, {"F64", 8}, {"I64", 8},  {"U64", 8}};
  const auto found = sizes.find(type);
  return found == sizes.end() ? 0 : found->second;
}

Tensor parse_tensor(const std::string& name, const nlohmann::json& entry, std::span<const std::uint8_t> data) {
  auto refuse = [&](const std::string& why) -> BadFile {
    return BadFile("safetensors: tensor '" + name + "': " + why);
  };
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets"))
    throw refuse("lacks dtype, shape or data_offsets");
  const auto &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  if (!dtype.is_string()) throw refuse("dtype is not a string");
  Tensor t;
  t.type = dtype.get<std::string>();
  const std::uint64_t size = type_size(t.type);
  if (size == 0) throw refuse("unknown dtype '" + t.type.substr(0, 20) + "'");
  if (!shape.is_array() || shape.size() > kMaxDimensions) throw refuse("shape is not an array of at most 8 numbers");
  std::uint64_t bytes = size;
  for (const auto& d : shape) {
    if (!d.is_number_unsigned()) throw refuse("a dimension is not a non-negative integer");
    const auto n = d.get<std::uint64_t>();
    if (n > data.size() + 1) throw refuse("dimension " + std::to_string(n) + " is larger than the file");
    if (__builtin_mul_overflow(bytes, n, &bytes)) throw refuse("the shape overflows");
    t.shape.push_back(static_cast<std::int64_t>(n));
  }
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    throw refuse("data_offsets are not two non-negative integers");
  const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > data.size())
    throw refuse("bytes " + std::to_string(begin) + " … " + std::to_string(end) + " are outside the file's " +
                 std::to_string(data.size()));
  if (end - begin != bytes)
    throw refuse("has " + std::to_string(end - begin) + " bytes, its shape needs " + std::to_string(bytes));
  t.bytes = data.subspan(begin, end - begin);
  return t;
}

std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw BadFile("cannot read " + path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

std::map<std::string, Tensor> parse_safetensors(std::span<const std::uint8_t> file) {
  if (file.size() < 8) throw BadFile("safetensors: " + std::to_string(file.size()) + " bytes are too few for a header");
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | file[static_cast<std::size_t>(i)];
  if (length > kHeaderLimit || length > file.size() - 8)
    throw BadFile("safetensors: a header of " + std::to_string(length) + " bytes in a file of " +
                  std::to_string(file.size()));
  const auto text = file.subspan(8, length);
  const auto data = file.subspan(8 + length);
  // A repeated key would silently hide a tensor.
  std::set<std::string> seen;
  bool repeated = false;
  const auto header = nlohmann::json::parse(
      text.begin(), text.end(),
      [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& value) {
        if (depth == 1 && event == nlohmann::json::parse_event_t::key)
          repeated = !seen.insert(value.get<std::string>()).second || repeated;
        return true;
      },
      false);
  if (!header.is_object()) throw BadFile("safetensors: the header is not a JSON object");
  if (repeated) throw BadFile("safetensors: a tensor is named twice");
  std::map<std::string, Tensor> out;
  std::vector<std::pair<const std::uint8_t*, const std::uint8_t*>> ranges;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const Tensor t = parse_tensor(name, entry, data);
    if (!t.bytes.empty()) ranges.emplace_back(t.bytes.data(), t.bytes.data() + t.bytes.size());
    out.emplace(name, t);
  }
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first < ranges[i - 1].second) throw BadFile("safetensors: two tensors overlap");
  return out;
}

class Checkpoint::Mapping {
 public:
  explicit Mapping(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) throw BadFile("cannot read " + path + ": " + std::strerror(errno));
    struct stat info {};
    if (fstat(fd, &info) != 0 || info.st_size < 0) {
      ::close(fd);
      throw BadFile("cannot read the size of " + path);
    }
    size_ = static_cast<std::size_t>(info.st_size);
    if (size_ > 0) memory_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    ::close(fd);
    if (memory_ == MAP_FAILED) throw BadFile("cannot map " + path);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (memory_ != nullptr && memory_ != MAP_FAILED) munmap(memory_, size_);
  }
  std::span<const std::uint8_t> bytes() const { return {static_cast<const std::uint8_t*>(memory_), size_}; }

 private:
  void* memory_ = nullptr;
  std::size_t size_ = 0;
};

Checkpoint::Checkpoint(const std::string& folder) {
  config_ = read_text(folder + "/config.json");
  std::map<std::string, std::string> home;  // tensor to file, when there is an index
  std::set<std::string> names;
  if (std::ifstream(folder + "/model.safetensors.index.json")) {
    const auto index = nlohmann::json::parse(read_text(folder + "/model.safetensors.index.json"), nullptr, false);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
      throw BadFile(folder + "/model.safetensors.index.json has no weight_map");
    for (const auto& [tensor, file] : index["weight_map"].items()) {
      if (!file.is_string()) throw BadFile("index: the file of '" + tensor + "' is not a string");
      const auto name = file.get<std::string>();
      if (name.empty() || name.find('/') != std::string::npos || name.find('\0') != std::string::npos)
        throw BadFile("index: '" + name + "' is not the name of a file in the folder");
      home[tensor] = name;
      names.insert(name);
    }
  } else {
    names.insert("model.safetensors");
  }
  for (const std::string& name : names) {
    files_.push_back(std::make_unique<Mapping>(folder + "/" + name));
    for (auto& [tensor, value] : parse_safetensors(files_.back()->bytes())) {
      const auto found = home.find(tensor);
      if (!home.empty() && (found == home.end() || found->second != name)) continue;  // not where the index says
      tensors_.emplace(tensor, value);
    }
  }
  for (const auto& [tensor, file] : home)
    if (!tensors_.contains(tensor)) throw BadFile("index: '" + tensor + "' is not in " + file);
}

Checkpoint::~Checkpoint() = default;

const Tensor& Checkpoint::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw BadFile("the checkpoint has no tensor '" + name + "'");
  return found->second;
}

std::vector<std::uint8_t> write_safetensors(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::uint64_t at = 0;
  for (const auto& [name, t] : tensors) {
    header[name] = {{"dtype", t.type}, {"shape", t.shape}, {"data_offsets", {at, at + t.bytes.size()}}};
    at += t.bytes.size();
  }
  std::string text = header.dump();
  while (text.size() % 8 != 0) text += ' ';
  std::vector<std::uint8_t> out;
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<std::uint8_t>(text.size() >> (8 * i)));
  out.insert(out.end(), text.begin(), text.end());
  for (const auto& [name, t] : tensors) out.insert(out.end(), t.bytes.begin(), t.bytes.end());
  return out;
}

}  // namespace faultline::kernels::model

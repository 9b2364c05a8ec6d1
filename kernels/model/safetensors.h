// Reads safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes. Never trusts the file:
// lengths, types, shapes and offsets are checked against the size before anything is read. Source of the format:
// https://github.com/huggingface/safetensors, README, "Format".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace faultline::kernels::model {

/// Why a file is refused; `what` names the tensor.
class BadFile : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Tensor {
  std::string type;  // "F8_E4M3", "BF16", "F32", …
  std::vector<std::int64_t> shape;
  std::span<const std::uint8_t> bytes;  // shape's product times the type's size, inside the file
};

/// Tensors by name; spans point into `file`. Throws BadFile. Limits: header at most 100 MB, at most 8 dimensions.
std::map<std::string, Tensor> parse_safetensors(std::span<const std::uint8_t> file);

/// A folder with config.json and either model.safetensors or shards with model.safetensors.index.json. Files are
/// mapped, not copied.
class Checkpoint {
 public:
  explicit Checkpoint(const std::string& folder);  // throws BadFile
  ~Checkpoint();
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;

  const std::string& config_text() const { return config_; }
  bool has(const std::string& name) const { return tensors_.contains(name); }
  const Tensor& tensor(const std::string& name) const;  // throws BadFile when absent
  std::size_t size() const { return tensors_.size(); }

 private:
  class Mapping;
  std::string config_;
  std::vector<std::unique_ptr<Mapping>> files_;
  std::map<std::string, Tensor> tensors_;
};

/// Writes one file; for tests and for making tiny models. Tensors are laid out in the order given.
std::vector<std::uint8_t> write_safetensors(const std::vector<std::pair<std::string, Tensor>>& tensors);

}  // namespace faultline::kernels::model

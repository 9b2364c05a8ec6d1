#include "kernels/runtime/code_objects.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#if defined(FAULTLINE_HAS_GFX942)
extern "C" {
extern const std::uint8_t faultline_gfx942_gemm_begin[], faultline_gfx942_gemm_end[];
extern const std::uint8_t faultline_gfx942_attention_begin[], faultline_gfx942_attention_end[];
extern const std::uint8_t faultline_gfx942_moe_begin[], faultline_gfx942_moe_end[];
extern const std::uint8_t faultline_gfx942_rows_begin[], faultline_gfx942_rows_end[];
}
#endif
#if defined(FAULTLINE_HAS_SM90)
extern "C" {
extern const std::uint8_t faultline_sm_90_gemm_begin[], faultline_sm_90_gemm_end[];
extern const std::uint8_t faultline_sm_90_attention_begin[], faultline_sm_90_attention_end[];
extern const std::uint8_t faultline_sm_90_moe_begin[], faultline_sm_90_moe_end[];
extern const std::uint8_t faultline_sm_90_rows_begin[], faultline_sm_90_rows_end[];
}
#endif

namespace faultline::kernels {
namespace {

using Bytes = std::span<const std::uint8_t>;

template <class T>
std::optional<T> read_at(Bytes bytes, std::uint64_t offset) {
  if (offset > bytes.size() || sizeof(T) > bytes.size() - offset) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

std::optional<Bytes> slice(Bytes bytes, std::uint64_t offset, std::uint64_t size) {
  if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
  return bytes.subspan(offset, size);
}

// The MessagePack document in the NT_AMDGPU_METADATA note (type 32) of a little-endian ELF64 file.
std::optional<Bytes> metadata_note(Bytes elf) {
  if (elf.size() < 64 || std::memcmp(elf.data(), "\177ELF\2\1", 6) != 0) return std::nullopt;
  const auto table = read_at<std::uint64_t>(elf, 32);
  const auto entry_size = read_at<std::uint16_t>(elf, 54), count = read_at<std::uint16_t>(elf, 56);
  if (!table || !entry_size || !count) return std::nullopt;
  for (std::uint64_t i = 0; i < *count; ++i) {
    const std::uint64_t header = *table + i * *entry_size;
    const auto type = read_at<std::uint32_t>(elf, header);
    const auto offset = read_at<std::uint64_t>(elf, header + 8), size = read_at<std::uint64_t>(elf, header + 32);
    if (!type || !offset || !size) return std::nullopt;
    if (*type != 4) continue;  // PT_NOTE
    const auto notes = slice(elf, *offset, *size);
    if (!notes) return std::nullopt;
    for (std::uint64_t at = 0; at + 12 <= notes->size();) {
      const auto name_size = read_at<std::uint32_t>(*notes, at), text_size = read_at<std::uint32_t>(*notes, at + 4);
      const auto note_type = read_at<std::uint32_t>(*notes, at + 8);
      if (!name_size || !text_size || !note_type) return std::nullopt;
      const std::uint64_t text = at + 12 + (std::uint64_t{*name_size} + 3) / 4 * 4;
      if (*note_type == 32) return slice(*notes, text, *text_size);
      at = text + (std::uint64_t{*text_size} + 3) / 4 * 4;
    }
  }
  return std::nullopt;
}

}  // namespace

// The groups of kernels/groups, which the build embeds between two symbols each.
#define FAULTLINE_OBJECT(target, group)                                                  \
  {                                                                                      \
#group, { faultline_##target##_##group##_begin, faultline_##target##_##group##_end } \
  }
#define FAULTLINE_OBJECTS(target)                                                                     \
  FAULTLINE_OBJECT(target, gemm), FAULTLINE_OBJECT(target, attention), FAULTLINE_OBJECT(target, moe), \
      FAULTLINE_OBJECT(target, rows)

std::span<const CodeObject> gfx942_code() {
#if defined(FAULTLINE_HAS_GFX942)
  static const CodeObject objects[] = {FAULTLINE_OBJECTS(gfx942)};
  return objects;
#else
  return {};
#endif
}

std::span<const CodeObject> sm_90_code() {
#if defined(FAULTLINE_HAS_SM90)
  static const CodeObject objects[] = {FAULTLINE_OBJECTS(sm_90)};
  return objects;
#else
  return {};
#endif
}

#undef FAULTLINE_OBJECTS
#undef FAULTLINE_OBJECT

int KernelResources::waves_per_simd() const {
  const int granules = std::max(1, (vgprs + 7) / 8);
  const int by_registers = std::min(8, 64 / granules);
  const int by_lds =
      lds_bytes == 0 ? 8 : std::min(8, 65536 / lds_bytes);  // a block of 256 threads puts one wave on each SIMD
  return std::min(by_registers, by_lds);
}

std::vector<KernelResources> read_resources(Bytes object) {
  std::vector<KernelResources> out;
  const auto note = metadata_note(object);
  if (!note) return out;
  const auto document = nlohmann::json::from_msgpack(note->begin(), note->end(), true, false);
  if (!document.is_object() || !document.contains("amdhsa.kernels") || !document["amdhsa.kernels"].is_array())
    return out;
  for (const auto& kernel : document["amdhsa.kernels"]) {
    if (!kernel.is_object()) continue;
    auto number = [&](const char* key) {
      return kernel.contains(key) && kernel[key].is_number_integer() ? kernel[key].get<int>() : 0;
    };
    KernelResources r;
    if (kernel.contains(".name") && kernel[".name"].is_string()) r.name = kernel[".name"].get<std::string>();
    if (r.name.starts_with("fl_")) r.name.erase(0, 3);
    r.vgprs = number(".vgpr_count");
    r.agprs = number(".agpr_count");
    r.sgprs = number(".sgpr_count");
    r.lds_bytes = number(".group_segment_fixed_size");
    r.scratch_bytes = number(".private_segment_fixed_size");
    r.vgpr_spills = number(".vgpr_spill_count");
    r.sgpr_spills = number(".sgpr_spill_count");
    out.push_back(r);
  }
  return out;
}

}  // namespace faultline::kernels

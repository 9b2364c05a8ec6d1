// Unpacks gzip content. Files usually arrive unpacked (the reader of the command line does that); content from
// elsewhere is recognised by its first two bytes.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/config/document.h"

namespace faultline::workload {

inline constexpr std::size_t kUnpackedMax = std::size_t{2} << 30;  // refuse more: a broken or hostile file

bool is_gzip(std::string_view content);
/// All members of a gzip file. nullopt where it is cut off, damaged or larger than `unpacked_max` bytes.
std::optional<std::string> unpack_gzip(std::string_view content, std::size_t unpacked_max = kUnpackedMax);

/// Content of `path` as it is, or unpacked if it is gzip; nullopt after reporting that it is damaged.
std::optional<std::string> unpacked(std::string content, const std::string& path, config::Diagnostics& diagnostics);
/// The text of a file, unpacked; nullopt after reporting that it cannot be read or is damaged.
std::optional<std::string> read_unpacked(const std::string& path, const config::FileReader& reader,
                                         config::Diagnostics& diagnostics);

}  // namespace faultline::workload

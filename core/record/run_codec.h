// RunRecord as bytes, for results that cross a process or a file.
#pragma once

#include <string>
#include <string_view>

#include "core/record/run_record.h"

namespace faultline::record {

std::string encode_run(const RunRecord& run);
/// Throws CodecError for damaged data.
RunRecord decode_run(std::string_view bytes);

}  // namespace faultline::record

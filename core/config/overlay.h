// A file with changes: `engine: {from: ../engines/sglang.yaml, kv_fraction: 0.8}`, and what `--set
// engine.kv_fraction=0.8` makes of `engine: ../engines/sglang.yaml`.
#pragma once

#include "core/config/document.h"

namespace faultline::config {

/// Lays the keys of `map` but "from" over the root of `base`: mappings key by key, everything else as a whole. `map`
/// stands in `changes`; in errors each node keeps the place that it has there, or the --set that it came from.
void overlay(const Document& base, const Document& changes, const YAML::Node& map);

}  // namespace faultline::config

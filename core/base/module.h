// Parts of the program that few commands need and that are slow to load lie beside it as modules of the same build and
// are opened when first used.
#pragma once

namespace faultline {

/// The function `symbol` (C linkage) of the module `file` in the program's own folder. Throws std::runtime_error with
/// the loader's reason where it cannot be opened or has no such function. A module is never closed.
void* open_module(const char* file, const char* symbol);

template <class Function>
Function* open_module(const char* file, const char* symbol) {
  return reinterpret_cast<Function*>(open_module(file, symbol));
}

}  // namespace faultline

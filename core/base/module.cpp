#include "core/base/module.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>

namespace faultline {

void* open_module(const char* file, const char* symbol) {
  const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / file;
  void* module = dlopen(beside.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) throw std::runtime_error(fmt::format("a part of the program cannot be loaded: {}", dlerror()));
  void* function = dlsym(module, symbol);
  if (function == nullptr)
    throw std::runtime_error(fmt::format("{} is not of this build: it has no {}", beside.string(), symbol));
  return function;
}

}  // namespace faultline

// core/control, core/model and core/ports read no clock, file, environment, socket, thread or random device: the
// symbols that their object files leave undefined are searched for those that could.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

std::string output_of(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (!pipe) return {};
  std::string out;
  std::array<char, 65536> buffer;
  while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe.get())) out.append(buffer.data(), n);
  return out;
}

/// Undefined symbols of an object file, demangled.
std::vector<std::string> undefined_symbols(const std::string& object) {
  std::istringstream lines(output_of("nm --undefined-only --demangle '" + object + "' 2>/dev/null"));
  std::vector<std::string> symbols;
  for (std::string line; std::getline(lines, line);) {
    if (const auto at = line.find(" U "); at != std::string::npos) symbols.push_back(line.substr(at + 3));
  }
  return symbols;
}

/// Empty, or why the symbol must not be used by a state machine.
std::string banned(const std::string& symbol) {
  static const std::vector<std::pair<std::regex, std::string>> rules = [] {
    const auto word = [](const char* names) {
      return std::regex("^(?:__)?(?:" + std::string(names) + ")(?:64)?(?:_chk)?(?:@.*)?$");
    };
    std::vector<std::pair<std::regex, std::string>> r;
    r.emplace_back(word("clock|clock_gettime|clock_getres|gettimeofday|time|times|ftime|timespec_get|nanosleep|clock_"
                        "nanosleep|usleep|sleep|"
                        "localtime|localtime_r|gmtime|gmtime_r|mktime|timerfd_create|alarm|setitimer"),
                   "a clock");
    r.emplace_back(std::regex("std::chrono::.*(?:system_clock|steady_clock|high_resolution_clock)::now.*"), "a clock");
    r.emplace_back(word("pthread_.*|thrd_.*|mtx_.*|cnd_.*|fork|vfork|clone|futex|sem_.*"), "a thread");
    r.emplace_back(
        std::regex("std::(?:this_thread|thread|jthread|mutex|condition_variable|__future_base|_V2::condition).*"),
        "a thread");
    r.emplace_back(word("socket|connect|bind|listen|accept|accept4|send|sendto|sendmsg|recv|recvfrom|recvmsg|"
                        "getaddrinfo|poll|ppoll|select|"
                        "epoll_.*|inotify_.*|eventfd"),
                   "a socket");
    r.emplace_back(word("open|openat|creat|read|write|pread|pwrite|readv|writev|fopen|fdopen|freopen|fread|fwrite|"
                        "fputs|puts|printf|fprintf|"
                        "vfprintf|putchar|fputc|fgets|getline|opendir|readdir|stat|fstat|lstat|unlink|rename|mkdir|"
                        "mmap|popen|system|execve?|execvp"),
                   "a file or a process");
    r.emplace_back(std::regex("std::(?:basic_(?:i|o)?fstream|basic_filebuf|filesystem|(?:__cxx11::)?(?:basic_(?:i|o)?"
                              "fstream|basic_filebuf)).*"),
                   "a file");
    r.emplace_back(std::regex("std::(?:cout|cerr|clog|cin|ios_base::Init).*"), "a standard stream");
    r.emplace_back(std::regex("(?:vtable for )?std::(?:__cxx11::)?basic_(?:i|o)?fstream.*"), "a file");
    r.emplace_back(word("getenv|secure_getenv|setenv|putenv|environ|setlocale"), "the environment");
    r.emplace_back(std::regex("std::random_device.*"), "a random device");
    r.emplace_back(word("rand|srand|rand_r|random|srandom|drand48|lrand48|arc4random|getrandom|getentropy"),
                   "a random device");
    return r;
  }();
  for (const auto& [pattern, reason] : rules) {
    if (std::regex_match(symbol, pattern)) return reason;
  }
  return {};
}

std::vector<std::string> objects_of(const std::string& folder) {
  std::istringstream lines(
      output_of("find '" FAULTLINE_CORE_OBJECTS "/" + folder + "' -name '*.o' 2>/dev/null | sort"));
  std::vector<std::string> files;
  for (std::string line; std::getline(lines, line);) files.push_back(line);
  return files;
}

void expect_no_io(const std::string& folder, std::size_t objects_min) {
  const auto objects = objects_of(folder);
  ASSERT_GE(objects.size(), objects_min) << "no object files below " FAULTLINE_CORE_OBJECTS "/" << folder;
  std::size_t looked_at = 0;
  for (const std::string& object : objects) {
    const auto symbols = undefined_symbols(object);
    looked_at += symbols.size();
    for (const std::string& s : symbols) EXPECT_EQ(banned(s), "") << object << " uses " << s;
  }
  EXPECT_GT(looked_at, 10 * objects.size()) << "nm found nothing to look at";
}

TEST(SansIo, TheControlPlaneTouchesNothingOutsideItsArguments) { expect_no_io("control", 8); }
TEST(SansIo, TheModelTouchesNothingOutsideItsArguments) { expect_no_io("model", 6); }

TEST(SansIo, ThePortsTouchNothingOutsideTheirArguments) { expect_no_io("ports", 3); }

TEST(SansIo, APlantedViolationIsFound) {
  const std::string folder = output_of("mktemp -d | tr -d '\\n'");
  ASSERT_FALSE(folder.empty());
  const std::vector<std::pair<std::string, std::string>> planted{
      {"#include <chrono>\nlong f() { return std::chrono::steady_clock::now().time_since_epoch().count(); }",
       "a clock"},
      {"#include <ctime>\nlong f() { return time(nullptr); }", "a clock"},
      {"#include <thread>\nvoid f() { std::thread([] {}).detach(); }", "a thread"},
      {"#include <sys/socket.h>\nint f() { return socket(AF_INET, SOCK_STREAM, 0); }", "a socket"},
      {"#include <fstream>\nbool f() { return std::ifstream(\"x\").good(); }", "a file"},
      {"#include <cstdio>\nvoid f() { std::puts(\"x\"); }", "a file or a process"},
      {"#include <cstdlib>\nchar* f() { return std::getenv(\"x\"); }", "the environment"},
      {"#include <random>\nunsigned f() { return std::random_device{}(); }", "a random device"},
  };
  for (const auto& [source, reason] : planted) {
    const std::string object = folder + "/planted.o";
    std::unique_ptr<FILE, int (*)(FILE*)> compiler(
        popen((std::string(FAULTLINE_CXX) + " -std=c++20 -O1 -x c++ -c - -o '" + object + "'").c_str(), "w"), pclose);
    ASSERT_TRUE(compiler);
    std::fputs(source.c_str(), compiler.get());
    compiler.reset();
    std::set<std::string> reasons;
    for (const std::string& s : undefined_symbols(object)) reasons.insert(banned(s));
    EXPECT_TRUE(reasons.contains(reason)) << source;
  }
  output_of("rm -r '" + folder + "'");
}

TEST(SansIo, WhatStateMachinesNeedIsAllowed) {
  for (const char* symbol :
       {"operator new(unsigned long)", "memcpy", "memmove", "std::_Rb_tree_increment(std::_Rb_tree_node_base*)",
        "faultline::control::Router::step(faultline::Instant, int)", "fmt::v9::vformat[abi:cxx11]()", "abort"}) {
    EXPECT_EQ(banned(symbol), "") << symbol;
  }
}

}  // namespace

// Two transports of one test process stand for two processes. What orders a write on one side before a look at it from
// the other are sockets between them, which ThreadSanitizer does not follow. Only the tests' own looks at the memory of
// the other side are excused; every race inside a transport is still reported.
#if defined(__SANITIZE_THREAD__)
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:faultline::contract::equal\n"
         "race:faultline::contract::all_zero\n"
         "race:faultline::contract::fill\n"
         "race:faultline::contract::transport_clauses_detail\n"
         "race:faultline::contract::Link::share\n"
         "race:faultline::transport::(anonymous namespace)::Target::guards_whole\n"
         "race:HostilePeer_\n";
}
#endif

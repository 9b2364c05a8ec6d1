// What the MPI module (mpi_module.cpp) offers: messages between the ranks of a job. The module is opened only under a
// launcher, so that other commands start without MPI.
#pragma once

#include <string>

namespace faultline::cli {

struct MpiMessage {
  int from = -1;
  std::string bytes;
};

class MpiLink {
 public:
  virtual ~MpiLink() = default;  // MPI_Finalize
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void send(int to, const std::string& bytes) = 0;
  /// False when no message waits.
  virtual bool receive(MpiMessage& message) = 0;
};

}  // namespace faultline::cli

extern "C" faultline::cli::MpiLink* faultline_open_mpi();

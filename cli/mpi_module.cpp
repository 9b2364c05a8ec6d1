// The MPI module: two-sided messages over MPI_COMM_WORLD, polled. One thread.
#include <mpi.h>

#include "cli/mpi_link.h"

namespace faultline::cli {
namespace {

constexpr int kTag = 1;

class Link final : public MpiLink {
 public:
  Link() {
    MPI_Init(nullptr, nullptr);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  ~Link() override { MPI_Finalize(); }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void send(int to, const std::string& bytes) override {
    MPI_Send(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, to, kTag, MPI_COMM_WORLD);
  }
  bool receive(MpiMessage& message) override {
    int there = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, kTag, MPI_COMM_WORLD, &there, &status);
    if (!there) return false;
    int count = 0;
    MPI_Get_count(&status, MPI_BYTE, &count);
    message.from = status.MPI_SOURCE;
    message.bytes.resize(static_cast<std::size_t>(count));
    MPI_Recv(message.bytes.data(), count, MPI_BYTE, message.from, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    return true;
  }

 private:
  int rank_ = 0, size_ = 1;
};

}  // namespace
}  // namespace faultline::cli

faultline::cli::MpiLink* faultline_open_mpi() { return new faultline::cli::Link; }

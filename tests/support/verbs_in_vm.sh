#!/bin/bash
# Runs the verbs tests on software RoCE in a throw-away virtual machine. Usage: verbs_in_vm.sh BIN_FOLDER [part]
#   part: contract | matrix | rails | cycles | all (default: the first three, and 40 cycles)
#   FAULTLINE_CYCLES=1000 for the long run of `cycles`
# Exit status 77 and a sentence where something is missing (programs, the guest kernel's package).
here=$(cd "$(dirname "$0")" && pwd)
bin=$1 part=${2:-all}
skip() { echo "skipped: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "the virtual machine shares / over 9p and needs root"
for program in qemu-system-x86_64 busybox cpio depmod xz rdma ip tc; do
  command -v $program > /dev/null || skip "$program is not installed (packages.txt)"
done
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rxe-vm
if [ ! -e "$cache/ready" ]; then
  apt-cache depends linux-image-amd64 2> /dev/null | grep -q Depends || skip "no package lists to download the guest kernel from (apt-get update)"
  timeout 180 "$here/rxe-vm.sh" -t 60 -- true || { [ -e "$cache/ready" ] || skip "the guest kernel could not be downloaded"; }
fi
# On an emulated, shared core a queue pair may run out of retries with no fault injected (measured once in 30 runs); such a run is
# repeated once, a real failure fails twice.
# Two virtual cores: with one, rxe's resend loop after a lost local carrier starves everything else for seconds.
run() { # seconds, devices, command
  "$here/rxe-vm.sh" -c 2 -n "$2" -t "$1" -- "$3" || { echo "second try"; "$here/rxe-vm.sh" -c 2 -n "$2" -t "$1" -- "$3"; }
}
status=0
wants() { [ "$part" = all ] || [ "$part" = "$1" ]; }
if wants contract; then run 420 2 "'$bin/test_contract' --gtest_brief=1 --gtest_filter='Transport_Verbs*'" || status=1; fi
if wants matrix; then run 90 2 "'$bin/test_verbs' --gtest_brief=1 --gtest_filter='FailureMatrix.*'" || status=1; fi
if wants rails; then run 120 4 "'$bin/test_verbs' --gtest_brief=1 --gtest_filter='RailFailover.*'" || status=1; fi
cycles=${FAULTLINE_CYCLES:-40}
if wants cycles; then run $((60 + cycles * 2)) 2 "FAULTLINE_CYCLES=$cycles '$bin/test_verbs' --gtest_brief=1 --gtest_filter='PeerCycles.*'" || status=1; fi
exit $status

// What the kernel says about the other side, asked about real processes: children that connect,
// change who they are, fork, and die. What needs another uid runs as root only.
#include "credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <string>
#include <vector>

#include "check.h"
#include "deny.h"
#include "socket.h"

using namespace coroipc;

namespace {

struct Pair {
  Fd a, b;
  Pair() {
    int fds[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0) {
      a.Reset(fds[0]);
      b.Reset(fds[1]);
    }
  }
};

// An abstract name that no other run of this program has.
Address Name() {
  static int number = 0;
  Address address;
  const std::string name =
      "@coroipc-credentials-" + std::to_string(getpid()) + "-" + std::to_string(number++);
  if (ResolveListen(name.c_str(), &address) != COROIPC_OK) abort();
  return address;
}

Status WaitAccept(Listener& listener, Fd* peer) {
  struct pollfd wait = {.fd = listener.fd(), .events = POLLIN, .revents = 0};
  poll(&wait, 1, 10000);
  return listener.Accept(peer);
}

bool Ended(int pidfd, int wait_ms) {
  struct pollfd wait = {.fd = pidfd, .events = POLLIN, .revents = 0};
  return poll(&wait, 1, wait_ms) == 1;
}

// A child that does `before`, connects, does `after`, and lives until told, or killed.
class Client {
 public:
  template <typename Before, typename After>
  Client(const Address& address, Before before, After after) {
    pid_ = fork();
    if (pid_ != 0) return;
    before();
    Fd socket;
    if (Connect(address, &socket) != COROIPC_OK) _exit(2);
    after();
    for (;;) pause();
  }
  explicit Client(const Address& address)
      : Client(
            address, [] {}, [] {}) {}
  ~Client() { Kill(); }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

template <typename Body>
bool InChild(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  return waitpid(child, &status, 0) == child && status == 0;
}

std::vector<gid_t> Groups(const Credentials& credentials) {
  const auto& view = credentials.view();
  std::vector<gid_t> groups(view.groups, view.groups + view.group_count);
  std::sort(groups.begin(), groups.end());
  return groups;
}

std::vector<gid_t> OwnGroups() {
  std::vector<gid_t> groups(static_cast<size_t>(getgroups(0, nullptr)));
  if (!groups.empty() && getgroups(static_cast<int>(groups.size()), groups.data()) < 0) abort();
  std::sort(groups.begin(), groups.end());
  return groups;
}

}  // namespace

TEST("nobody is asked: nobody's credentials") {
  Credentials credentials;
  CHECK_EQ(credentials.view().pid, 0);
  CHECK_EQ(credentials.view().uid, 65534u);
  CHECK_EQ(credentials.view().gid, 65534u);
  CHECK_EQ(credentials.view().pidfd, -1);
  CHECK_EQ(credentials.pidfd(), -1);
  CHECK_EQ(credentials.view().group_count, 0u);
}

TEST("a peer in this process is this process") {
  Pair pair;
  uid_t uid = 77;
  CHECK_EQ(Credentials::PeerUid(pair.a.get(), &uid), COROIPC_OK);
  CHECK_EQ(uid, geteuid());
  Credentials credentials;
  REQUIRE(credentials.FromPeer(pair.a.get()) == COROIPC_OK);
  CHECK_EQ(credentials.view().pid, getpid());
  CHECK_EQ(credentials.view().uid, geteuid());
  CHECK_EQ(credentials.view().gid, getegid());
  CHECK(Groups(credentials) == OwnGroups());
  CHECK_EQ(credentials.view().pidfd, credentials.pidfd());
}

TEST("the pidfd closes on exec, tells the death of its process and can be given up") {
  const Address address = Name();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  Client client(address);
  Fd peer;
  REQUIRE(WaitAccept(listener, &peer) == COROIPC_OK);
  Credentials credentials;
  REQUIRE(credentials.FromPeer(peer.get()) == COROIPC_OK);
  CHECK_EQ(credentials.view().pid, client.pid());
  if (credentials.pidfd() < 0) SKIP("no pidfd in this kernel");
  CHECK_EQ(fcntl(credentials.pidfd(), F_GETFD), FD_CLOEXEC);
  CHECK(!Ended(credentials.pidfd(), 0));
  client.Kill();
  CHECK(Ended(credentials.pidfd(), 10000));
  const int number = credentials.pidfd();
  credentials.ClosePidfd();
  CHECK_EQ(credentials.pidfd(), -1);
  CHECK_EQ(credentials.view().pidfd, -1);
  CHECK_EQ(fcntl(number, F_GETFD), -1);
  credentials.ClosePidfd();
}

TEST("a grandchild that holds the socket does not hide the death of the client") {
  const Address address = Name();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  Fd end[2];
  int pipes[2];
  REQUIRE(pipe2(pipes, O_CLOEXEC) == 0);
  end[0].Reset(pipes[0]);
  end[1].Reset(pipes[1]);
  Client client(
      address, [] {},
      [&] {
        if (fork() != 0) return;
        char byte;
        close(pipes[1]);
        (void)!read(pipes[0], &byte, 1);
        _exit(0);
      });
  Fd peer;
  REQUIRE(WaitAccept(listener, &peer) == COROIPC_OK);
  Credentials credentials;
  REQUIRE(credentials.FromPeer(peer.get()) == COROIPC_OK);
  if (credentials.pidfd() < 0) SKIP("no pidfd in this kernel");
  client.Kill();
  CHECK(Ended(credentials.pidfd(), 10000));
}

TEST("a peer that is dead and gone is PEER_DEAD, or has a pidfd that says so") {
  const Address address = Name();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  Fd peer;
  {
    Client client(address);
    REQUIRE(WaitAccept(listener, &peer) == COROIPC_OK);
  }
  Credentials credentials;
  const Status status = credentials.FromPeer(peer.get());
  if (status == COROIPC_OK && credentials.pidfd() >= 0)
    CHECK(Ended(credentials.pidfd(), 0));
  else if (status != COROIPC_OK)
    CHECK_EQ(status, COROIPC_PEER_DEAD);
  uid_t uid = 77;
  CHECK_EQ(Credentials::PeerUid(peer.get(), &uid), COROIPC_OK);
  CHECK_EQ(uid, geteuid());
}

TEST("what is no connected socket has no peer") {
  const Fd alone(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const Fd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (auto [fd, error] : {std::pair{alone.get(), ENOTCONN}, {file.get(), ENOTSOCK}, {-1, EBADF}}) {
    uid_t uid = 77;
    Credentials credentials;
    CHECK_EQ(Credentials::PeerUid(fd, &uid), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), error);
    CHECK_EQ(uid, 77u);
    CHECK_EQ(credentials.FromPeer(fd), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), error);
    CHECK_EQ(credentials.view().uid, 65534u);
  }
}

TEST("without a free fd for the pidfd: NO_MEMORY, nothing known; the uid is known all the same") {
  CHECK(InChild([] {
    Pair pair;
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    uid_t uid = 77;
    CHECK_EQ(Credentials::PeerUid(pair.a.get(), &uid), COROIPC_OK);
    CHECK_EQ(uid, geteuid());
    Credentials credentials;
    CHECK_EQ(credentials.FromPeer(pair.a.get()), COROIPC_NO_MEMORY);
    CHECK_EQ(coroipc_errno(), EMFILE);
    CHECK_EQ(credentials.view().uid, 65534u);
    CHECK_EQ(credentials.view().pidfd, -1);
  }));
}

TEST("no group, one, as many as fit at first, one more, and all that there can be") {
  if (geteuid() != 0) SKIP("needs root: sets groups");
  for (size_t count : {0u, 1u, 63u, 64u, 65u, 1000u, 65536u}) {
    std::vector<gid_t> groups;
    for (size_t i = 0; i < count; i++) groups.push_back(static_cast<gid_t>(100000 + i));
    const Address address = Name();
    Listener listener;
    REQUIRE(listener.Open(address) == COROIPC_OK);
    Client client(
        address,
        [&] {
          if (setgroups(groups.size(), groups.data()) != 0) _exit(3);
        },
        [] {});
    Fd peer;
    REQUIRE(WaitAccept(listener, &peer) == COROIPC_OK);
    Credentials credentials;
    REQUIRE(credentials.FromPeer(peer.get()) == COROIPC_OK);
    CHECK_EQ(credentials.view().group_count, count);
    CHECK(Groups(credentials) == groups);
    CHECK((credentials.view().groups == nullptr) == (count == 0));
    // A second peer in the same object leaves nothing of the first.
    Pair own;
    REQUIRE(credentials.FromPeer(own.a.get()) == COROIPC_OK);
    CHECK(Groups(credentials) == OwnGroups());
    CHECK_EQ(credentials.view().pid, getpid());
  }
}

TEST("another user is seen as he was when he connected, whoever he is later") {
  if (geteuid() != 0) SKIP("needs root: changes the uid");
  const Address address = Name();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  Client user(
      address,
      [] {
        if (setgroups(0, nullptr) != 0 || setgid(4321) != 0 || setuid(1234) != 0) _exit(3);
      },
      [] {});
  Fd peer;
  REQUIRE(WaitAccept(listener, &peer) == COROIPC_OK);
  Credentials credentials;
  REQUIRE(credentials.FromPeer(peer.get()) == COROIPC_OK);
  CHECK_EQ(credentials.view().uid, 1234u);
  CHECK_EQ(credentials.view().gid, 4321u);
  uid_t uid = 0;
  CHECK_EQ(Credentials::PeerUid(peer.get(), &uid), COROIPC_OK);
  CHECK_EQ(uid, 1234u);

  int pipes[2];
  REQUIRE(pipe2(pipes, O_CLOEXEC) == 0);
  Client later(
      address, [] {},
      [&] {
        if (setuid(1234) != 0 || write(pipes[1], "x", 1) != 1) _exit(3);
      });
  REQUIRE(WaitAccept(listener, &peer) == COROIPC_OK);
  char byte;
  REQUIRE(read(pipes[0], &byte, 1) == 1);
  REQUIRE(credentials.FromPeer(peer.get()) == COROIPC_OK);
  CHECK_EQ(credentials.view().uid, 0u);
  close(pipes[0]);
  close(pipes[1]);
}

TEST("a user namespace does not hide who a client is, and shows outsiders as 65534 inside") {
  const Address address = Name();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  const pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWUSER) != 0) _exit(77);
    Fd socket;
    uid_t uid = 0;
    if (Connect(address, &socket) != COROIPC_OK) _exit(2);
    if (Credentials::PeerUid(socket.get(), &uid) != COROIPC_OK) _exit(3);
    _exit(uid == 65534 ? 0 : 4);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) SKIP("no user namespaces here");
  CHECK_EQ(status, 0);
  Fd peer;
  REQUIRE(listener.Accept(&peer) == COROIPC_OK);
  uid_t uid = 77;
  CHECK_EQ(Credentials::PeerUid(peer.get(), &uid), COROIPC_OK);
  CHECK_EQ(uid, geteuid());
}

TEST(
    "credentials of a message that names who we knew change nothing; another uid drops the "
    "groups") {
  CHECK(InChild([] {
    const gid_t groups[] = {7, 8};
    if (geteuid() == 0) REQUIRE(setgroups(2, groups) == 0);  // else those that the user has
    Pair pair;
    Credentials credentials;
    REQUIRE(credentials.FromPeer(pair.a.get()) == COROIPC_OK);
    const int pidfd = credentials.pidfd();
    CHECK_EQ(credentials.Replace({.pid = getpid(), .uid = geteuid(), .gid = getegid()}),
             COROIPC_OK);
    CHECK_EQ(credentials.pidfd(), pidfd);
    CHECK(Groups(credentials) == OwnGroups());
    // The same process: its pidfd stays.
    CHECK_EQ(credentials.Replace({.pid = getpid(), .uid = 5, .gid = getegid()}), COROIPC_OK);
    CHECK_EQ(credentials.view().uid, 5u);
    CHECK_EQ(credentials.pidfd(), pidfd);
    CHECK_EQ(credentials.view().group_count, 0u);
    CHECK(credentials.view().groups == nullptr);
  }));
}

TEST("a server on an inherited socket is known by its message, as the process that it is") {
  const Address address = Name();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  // The child serves on the parent's listening socket, without calling listen(2) again.
  const pid_t child = fork();
  if (child == 0) {
    Fd peer;
    if (WaitAccept(listener, &peer) != COROIPC_OK) _exit(2);
    if (SendMessage(peer.get(), "hello", 5, -1, true) != COROIPC_OK) _exit(3);
    for (;;) pause();
  }
  Fd socket;
  REQUIRE(Connect(address, &socket) == COROIPC_OK);
  Credentials credentials;
  REQUIRE(credentials.FromPeer(socket.get()) == COROIPC_OK);
  CHECK_EQ(credentials.view().pid, getpid());
  struct pollfd wait = {.fd = socket.get(), .events = POLLIN, .revents = 0};
  CHECK_EQ(poll(&wait, 1, 10000), 1);
  char bytes[16];
  Received received;
  REQUIRE(ReceiveMessage(socket.get(), bytes, sizeof bytes, false, &received) == COROIPC_OK);
  CHECK(received.has_credentials);
  CHECK_EQ(received.credentials.pid, child);
  REQUIRE(credentials.Replace(received.credentials) == COROIPC_OK);
  CHECK_EQ(credentials.view().pid, child);
  CHECK_EQ(credentials.view().uid, geteuid());
  CHECK_EQ(credentials.view().group_count, 0u);
  CHECK(credentials.view().groups == nullptr);
  CHECK_EQ(credentials.view().pidfd, credentials.pidfd());
  if (credentials.pidfd() >= 0) CHECK(!Ended(credentials.pidfd(), 0));
  kill(child, SIGKILL);
  if (credentials.pidfd() >= 0) CHECK(Ended(credentials.pidfd(), 10000));
  waitpid(child, nullptr, 0);
}

TEST("a server that adopts an inherited socket is named by SO_PEERCRED itself") {
  const Address address = Name();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  int ready[2];
  REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    Listener adopted;
    if (adopted.Adopt(dup(listener.fd())) != COROIPC_OK || write(ready[1], "x", 1) != 1) _exit(2);
    for (;;) pause();
  }
  char byte;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  Fd socket;
  REQUIRE(Connect(address, &socket) == COROIPC_OK);
  Credentials credentials;
  REQUIRE(credentials.FromPeer(socket.get()) == COROIPC_OK);
  CHECK_EQ(credentials.view().pid, child);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

TEST("a sender that is gone is PEER_DEAD and replaces nobody") {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  Pair pair;
  Credentials credentials;
  REQUIRE(credentials.FromPeer(pair.a.get()) == COROIPC_OK);
  if (credentials.pidfd() < 0) SKIP("no pidfd in this kernel");
  CHECK_EQ(credentials.Replace({.pid = child, .uid = 1, .gid = 2}), COROIPC_PEER_DEAD);
  CHECK_EQ(credentials.view().pid, getpid());
  CHECK_EQ(credentials.view().uid, geteuid());
  CHECK(credentials.pidfd() >= 0);
}

TEST("a sender outside of our pid namespace has no pidfd, and not that of somebody else") {
  Pair pair;
  Credentials credentials;
  REQUIRE(credentials.FromPeer(pair.a.get()) == COROIPC_OK);
  CHECK_EQ(credentials.Replace({.pid = 0, .uid = 5, .gid = 6}), COROIPC_OK);
  CHECK_EQ(credentials.view().pid, 0);
  CHECK_EQ(credentials.view().uid, 5u);
  CHECK_EQ(credentials.view().gid, 6u);
  CHECK_EQ(credentials.pidfd(), -1);
  CHECK_EQ(credentials.view().pidfd, -1);
}

// -- older kernels, and filters of system calls
// ----------------------------------------------------

constexpr uint32_t kPeerPidfd = 77;  // SO_PEERPIDFD

TEST("a kernel without SO_PEERPIDFD has the pidfd of the number, without pidfd_open(2) none") {
  const Address address = Name();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  Client client(address);
  Fd peer;
  REQUIRE(WaitAccept(listener, &peer) == COROIPC_OK);
  CHECK(InChild([&] {
    REQUIRE(Deny(SYS_getsockopt, ENOPROTOOPT, DenyWhen::kEqual, 2, kPeerPidfd));
    Credentials credentials;
    CHECK_EQ(credentials.FromPeer(peer.get()), COROIPC_OK);
    CHECK_EQ(credentials.view().pid, client.pid());
    CHECK(credentials.pidfd() >= 0);
    CHECK_EQ(fcntl(credentials.pidfd(), F_GETFD), FD_CLOEXEC);
    CHECK(!Ended(credentials.pidfd(), 0));
    for (int error : {EPERM, ENOSYS}) {
      REQUIRE(Deny(SYS_pidfd_open, error));
      CHECK_EQ(credentials.FromPeer(peer.get()), COROIPC_OK);
      CHECK_EQ(credentials.view().pid, client.pid());
      CHECK_EQ(credentials.pidfd(), -1);
      CHECK_EQ(credentials.view().pidfd, -1);
    }
  }));
  // And a process that is gone has none.
  client.Kill();
  CHECK(InChild([&] {
    REQUIRE(Deny(SYS_getsockopt, ENOPROTOOPT, DenyWhen::kEqual, 2, kPeerPidfd));
    Credentials credentials;
    CHECK_EQ(credentials.FromPeer(peer.get()), COROIPC_PEER_DEAD);
    CHECK_EQ(credentials.view().uid, 65534u);
  }));
}

TEST("a kernel that says ESRCH or EINVAL of a peer's pidfd means a dead peer") {
  for (int error : {ESRCH, EINVAL}) {
    CHECK(InChild([&] {
      Pair pair;
      REQUIRE(Deny(SYS_getsockopt, error, DenyWhen::kEqual, 2, kPeerPidfd));
      Credentials credentials;
      CHECK_EQ(credentials.FromPeer(pair.a.get()), COROIPC_PEER_DEAD);
      CHECK_EQ(credentials.view().pidfd, -1);
    }));
  }
}

TEST("a kernel without SO_PEERGROUPS knows no groups; another failure is one") {
  constexpr uint32_t kPeerGroups = 59;
  for (int error : {ENOPROTOOPT, EPERM}) {
    CHECK(InChild([&] {
      Pair pair;
      REQUIRE(Deny(SYS_getsockopt, error, DenyWhen::kEqual, 2, kPeerGroups));
      Credentials credentials;
      CHECK_EQ(credentials.FromPeer(pair.a.get()),
               error == ENOPROTOOPT ? COROIPC_OK : COROIPC_SYSTEM);
      CHECK_EQ(credentials.view().group_count, 0u);
      CHECK_EQ(credentials.view().pid, error == ENOPROTOOPT ? getpid() : 0);
    }));
  }
}

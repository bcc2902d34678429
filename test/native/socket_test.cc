// Names and addresses; who may listen, with everything that can lie in the way of a path; whole
// messages with fds and credentials; the doorbell. Races, deaths and fds between real processes.
// What depends on another uid, or on a /run of its own, runs as root only.
#include "socket.h"

#include <coroipc/abi.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "deny.h"

using namespace coroipc;

namespace {

// -- helpers --------------------------------------------------------------------------------------

// A directory of its own for each test, emptied at the end.
class Place {
 public:
  Place() {
    char path[] = "/tmp/coroipc-socket-XXXXXX";
    if (mkdtemp(path) == nullptr || chmod(path, 0755) != 0) abort();
    path_ = path;
  }
  ~Place() {
    for (const auto& name : List()) {
      unlink((*this)(name).c_str());
      rmdir((*this)(name).c_str());
    }
    rmdir(path_.c_str());
  }
  std::string operator()(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  std::vector<std::string> List() const {
    std::vector<std::string> names;
    DIR* directory = opendir(path_.c_str());
    while (const dirent* entry = readdir(directory))
      if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
        names.push_back(entry->d_name);
    closedir(directory);
    return names;
  }

 private:
  std::string path_;
};

class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    const char* old = getenv(name);
    had_ = old != nullptr;
    if (had_) old_ = old;
    if (value != nullptr)
      setenv(name, value, 1);
    else
      unsetenv(name);
  }
  ~Environment() {
    if (had_)
      setenv(name_, old_.c_str(), 1);
    else
      unsetenv(name_);
  }

 private:
  const char* name_;
  bool had_ = false;
  std::string old_;
};

struct Pair {
  Fd a, b;
  explicit Pair(int type = SOCK_SEQPACKET) {
    int fds[2] = {-1, -1};
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) abort();
    a.Reset(fds[0]);
    b.Reset(fds[1]);
  }
};

template <typename Body>
int ChildStatus(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  return waitpid(child, &status, 0) == child ? status : -1;
}
template <typename Body>
bool InChild(Body body) {
  return ChildStatus(body) == 0;
}

// Whether `body` fell asleep for good, in a child. One that gets no CPU for a while is not asleep.
template <typename Body>
bool Waits(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(check_failures == 0 ? 0 : 1);
  }
  const std::string path = "/proc/" + std::to_string(child) + "/stat";
  int status = 0, asleep = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    char line[64] = {};
    const Fd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    (void)!read(file.get(), line, sizeof line - 1);
    const char* const state = strrchr(line, ')');
    asleep = state != nullptr && strlen(state) > 2 && state[2] == 'S' ? asleep + 1 : 0;
    if (asleep == 200) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
      return true;
    }
    poll(nullptr, 0, 5);
  }
  CHECK_EQ(status, 0);
  return false;
}

// As anybody does who shares the open file description.
void ClearNonblock(int fd) {
  CHECK(InChild([=] { CHECK_EQ(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0); }));
  REQUIRE((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0);
}

bool BecomeNobody() {
  return setgroups(0, nullptr) == 0 && setgid(65533) == 0 && setuid(65533) == 0;
}

Address At(const std::string& text) {
  Address address;
  if (ResolveListen(text.c_str(), &address) != COROIPC_OK) abort();
  return address;
}

// An abstract name that no other run of this program has.
Address Abstract() {
  static int number = 0;
  return At("@coroipc-socket-" + std::to_string(getpid()) + "-" + std::to_string(number++));
}

int OpenFds() {
  int count = 0;
  DIR* directory = opendir("/proc/self/fd");
  while (readdir(directory) != nullptr) count++;
  closedir(directory);
  return count;
}

bool Exists(const std::string& path) {
  struct stat file;
  return lstat(path.c_str(), &file) == 0;
}
mode_t Mode(const std::string& path) {
  struct stat file;
  return lstat(path.c_str(), &file) == 0 ? file.st_mode : 0;
}
ino_t Inode(const std::string& path) {
  struct stat file;
  return lstat(path.c_str(), &file) == 0 ? file.st_ino : 0;
}

bool MakeFile(const std::string& path) {
  return Fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)).valid();
}

// A socket of somebody who knows nothing of us.
Fd Foreign(const std::string& path, int type, bool listening) {
  const Address address = At(path);
  Fd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.raw), address.bytes) != 0) abort();
  if (listening && listen(fd.get(), 1) != 0) abort();
  return fd;
}

Status Wait(int fd) {
  struct pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&wait, 1, 10000) == 1 ? COROIPC_OK : COROIPC_TIMED_OUT;
}

// As ReceiveMessage, with the test's own eyes on the kernel.
bool SendFds(int socket, size_t bytes, const std::vector<int>& fds) {
  std::vector<char> data(bytes, 'x');
  iovec part = {.iov_base = data.data(), .iov_len = bytes};
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  return sendmsg(socket, &message, 0) == static_cast<ssize_t>(bytes);
}

}  // namespace

// -- modes that somebody else changes -------------------------------------------------------------

// First of all, and required: the tests behind them would wait with a call that does.

TEST("no message is waited for, nor room for one, on a socket in blocking mode") {
  const Pair pair;
  const int a = pair.a.get(), b = pair.b.get();
  ClearNonblock(a);
  ClearNonblock(b);
  const bool receiving = Waits([=] {
    char byte;
    Received received;
    CHECK_EQ(ReceiveMessage(b, &byte, 1, false, &received), COROIPC_AGAIN);
  });
  REQUIRE(!receiving);
  while (send(a, "x", 1, MSG_DONTWAIT) == 1) continue;
  const bool sending = Waits([=] { CHECK_EQ(SendMessage(a, "x", 1, -1, false), COROIPC_AGAIN); });
  REQUIRE(!sending);
  const bool ringing = Waits([=] { CHECK_EQ(RingDoorbell(a), COROIPC_OK); });
  REQUIRE(!ringing);
}

TEST("a listening socket in blocking mode is accepted from, and is in blocking mode no longer") {
  const Address address = Abstract();
  for (const bool adopted : {false, true}) {
    Listener made, listener;
    REQUIRE(made.Open(address) == COROIPC_OK);
    if (adopted) REQUIRE(listener.Adopt(dup(made.fd())) == COROIPC_OK);
    Listener& used = adopted ? listener : made;
    ClearNonblock(used.fd());
    const bool accepting = Waits([&] {
      Fd peer;
      CHECK_EQ(used.Accept(&peer), COROIPC_AGAIN);
    });
    REQUIRE(!accepting);
    CHECK((fcntl(used.fd(), F_GETFL) & O_NONBLOCK) != 0);
    ClearNonblock(used.fd());
    Fd client, peer;
    CHECK_EQ(Connect(address, &client), COROIPC_OK);
    CHECK_EQ(used.Accept(&peer), COROIPC_OK);
  }
}

TEST("a listening socket whose mode cannot be kept is accepted from only when somebody is there") {
  const Address address = Abstract();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  ClearNonblock(listener.fd());
  // As if it were cleared again at once, and the bound of accepting taken away as well.
  const timeval for_ever = {};
  REQUIRE(setsockopt(listener.fd(), SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever) == 0);
  const bool accepting = Waits([&] {
    if (!Deny(SYS_fcntl, EPERM, DenyWhen::kEqual, 1, F_SETFL)) return;
    Fd client, peer;
    CHECK_EQ(listener.Accept(&peer), COROIPC_AGAIN);
    CHECK_EQ(Connect(address, &client), COROIPC_OK);
    CHECK_EQ(listener.Accept(&peer), COROIPC_OK);
    CHECK_EQ(listener.Accept(&peer), COROIPC_AGAIN);
    CHECK_EQ(fcntl(listener.fd(), F_GETFL) & O_NONBLOCK, 0);
  });
  REQUIRE(!accepting);
}

TEST("a client that somebody else takes at the last moment is waited for a tick, not for ever") {
  Listener made, listener;
  REQUIRE(made.Open(Abstract()) == COROIPC_OK);
  const timeval for_ever = {};
  const int fd = dup(made.fd());
  for (Listener* const each : {&made, &listener}) {
    if (each == &listener) {
      REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever) == 0);
      REQUIRE(listener.Adopt(fd) == COROIPC_OK);
    }
    ClearNonblock(each->fd());
    const bool accepting = Waits([=] {
      const int accepted = accept4(each->fd(), nullptr, nullptr, SOCK_CLOEXEC);
      CHECK(accepted < 0 && errno == EAGAIN);
    });
    REQUIRE(!accepting);
  }
}

// -- names ----------------------------------------------------------------------------------------

TEST("names that cannot be are refused for listening and connecting") {
  const Environment directory("COROIPC_RUNTIME_DIR", "/tmp");
  const std::string long_path = "/" + std::string(107, 'a');
  const std::string long_abstract = "@" + std::string(108, 'a');
  const std::string long_plain(200, 'a');
  for (const char* name :
       {"", ".", "..", ".hidden", "a/b", "../a", "a b", "a\n", "caf\xc3\xa9", "~", "a@", "a\\", "%",
        "@", "/", "/tmp/", long_path.c_str(), long_abstract.c_str(), long_plain.c_str()}) {
    Address address;
    CHECK_EQ(ResolveListen(name, &address), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(ResolveConnect(name, 0, &address), COROIPC_INVALID_ARGUMENT);
  }
  Address address;
  CHECK_EQ(ResolveListen(nullptr, &address), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(ResolveConnect(nullptr, 0, &address), COROIPC_INVALID_ARGUMENT);
}

TEST("a path stands for itself, up to the last byte that fits") {
  for (const std::string& path :
       {std::string("/a"), "/" + std::string(106, 'a'), std::string("/a b/\xff.sock")}) {
    for (bool listening : {true, false}) {
      Address address;
      REQUIRE((listening ? ResolveListen(path.c_str(), &address)
                         : ResolveConnect(path.c_str(), 0, &address)) == COROIPC_OK);
      CHECK(address.text == path);
      CHECK_EQ(address.raw.sun_family, AF_UNIX);
      CHECK_STR_EQ(address.raw.sun_path, path.c_str());
      CHECK_EQ(address.bytes, offsetof(sockaddr_un, sun_path) + path.size() + 1);
    }
    Address address;
    CHECK_EQ(ResolveConnect(path.c_str(), 1, &address), COROIPC_AGAIN);
  }
}

TEST("an abstract name has no NUL at its end, up to the last byte that fits") {
  for (const std::string& name :
       {std::string("@a"), "@" + std::string(107, 'a'), std::string("@a/b")}) {
    Address address;
    REQUIRE(ResolveListen(name.c_str(), &address) == COROIPC_OK);
    CHECK(address.text == name);
    CHECK_EQ(address.raw.sun_path[0], '\0');
    CHECK_EQ(memcmp(address.raw.sun_path + 1, name.data() + 1, name.size() - 1), 0);
    CHECK_EQ(address.bytes, offsetof(sockaddr_un, sun_path) + name.size());
    Listener listener;
    CHECK_EQ(listener.Open(address), COROIPC_OK);
    Fd fd;
    REQUIRE(ResolveConnect(name.c_str(), 0, &address) == COROIPC_OK);
    CHECK_EQ(Connect(address, &fd), COROIPC_OK);
    CHECK_EQ(ResolveConnect(name.c_str(), 1, &address), COROIPC_AGAIN);
  }
}

TEST("COROIPC_RUNTIME_DIR replaces both directories, and is made when its parent allows") {
  const Place place;
  const Environment directory("COROIPC_RUNTIME_DIR", place("new").c_str());
  const Environment own("XDG_RUNTIME_DIR", place.path().c_str());
  Address address;
  REQUIRE(ResolveConnect("Demo_1.2-x", 0, &address) == COROIPC_OK);
  CHECK(address.text == place("new/Demo_1.2-x"));
  CHECK(!Exists(place("new")));
  CHECK_EQ(ResolveConnect("Demo_1.2-x", 1, &address), COROIPC_AGAIN);
  REQUIRE(ResolveListen("Demo_1.2-x", &address) == COROIPC_OK);
  CHECK(address.text == place("new/Demo_1.2-x"));
  CHECK_EQ(Mode(place("new")), S_IFDIR | 0700);
  CHECK_EQ(ResolveListen("Demo_1.2-x", &address), COROIPC_OK);  // also when it is there
}

TEST("a directory that cannot be used is said by errno") {
  const Place place;
  REQUIRE(MakeFile(place("file")));
  Address address;
  {
    const Environment directory("COROIPC_RUNTIME_DIR", place("missing/new").c_str());
    CHECK_EQ(ResolveListen("demo", &address), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), ENOENT);
    CHECK_STR_EQ(coroipc_syscall(), "mkdir");
  }
  {
    const Environment directory("COROIPC_RUNTIME_DIR", place("file").c_str());
    CHECK_EQ(ResolveListen("demo", &address), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), ENOTDIR);
  }
  {
    const Environment directory("COROIPC_RUNTIME_DIR", "relative");
    CHECK_EQ(ResolveListen("demo", &address), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(ResolveConnect("demo", 0, &address), COROIPC_INVALID_ARGUMENT);
  }
  {
    const Environment directory("COROIPC_RUNTIME_DIR", place("read-only").c_str());
    REQUIRE(mkdir(place("read-only").c_str(), 0555) == 0);
    CHECK(InChild([&] {
      if (geteuid() == 0) REQUIRE(BecomeNobody());
      CHECK_EQ(ResolveListen("demo", &address), COROIPC_SYSTEM);
      CHECK_EQ(coroipc_errno(), EACCES);
    }));
  }
}

TEST("a client looks in /run/coroipc, then in the user's directory, and stops") {
  const Environment none("COROIPC_RUNTIME_DIR", nullptr);
  Address address;
  {
    const Environment own("XDG_RUNTIME_DIR", "/run/user/7");
    REQUIRE(ResolveConnect("demo", 0, &address) == COROIPC_OK);
    CHECK(address.text == "/run/coroipc/demo");
    REQUIRE(ResolveConnect("demo", 1, &address) == COROIPC_OK);
    CHECK(address.text == "/run/user/7/coroipc/demo");
    CHECK_EQ(ResolveConnect("demo", 2, &address), COROIPC_AGAIN);
    CHECK_EQ(ResolveConnect("demo", UINT32_MAX, &address), COROIPC_AGAIN);
  }
  for (const char* useless : {static_cast<const char*>(nullptr), "", "relative"}) {
    const Environment own("XDG_RUNTIME_DIR", useless);
    CHECK_EQ(ResolveConnect("demo", 0, &address), COROIPC_OK);
    CHECK_EQ(ResolveConnect("demo", 1, &address), COROIPC_AGAIN);
  }
  {
    const Environment empty("COROIPC_RUNTIME_DIR", "");  // as if not set
    REQUIRE(ResolveConnect("demo", 0, &address) == COROIPC_OK);
    CHECK(address.text == "/run/coroipc/demo");
  }
}

TEST("a directory that leaves no room for the name is passed over") {
  const Environment none("COROIPC_RUNTIME_DIR", nullptr);
  const Environment own("XDG_RUNTIME_DIR", "/x");
  Address address;
  const std::string fits_second(107 - strlen("/x/coroipc/"), 'a');  // /run/coroipc/ is longer
  REQUIRE(ResolveConnect(fits_second.c_str(), 0, &address) == COROIPC_OK);
  CHECK(address.text == "/x/coroipc/" + fits_second);
  CHECK_EQ(ResolveConnect(fits_second.c_str(), 1, &address), COROIPC_AGAIN);
  CHECK_EQ(ResolveConnect((fits_second + "a").c_str(), 0, &address), COROIPC_INVALID_ARGUMENT);
}

TEST("a server takes /run/coroipc if it may, made for everybody whatever the umask; else its own") {
  if (geteuid() != 0) SKIP("needs root: a /run of its own");
  const Place place;
  const int status = ChildStatus([&] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", "/run", "tmpfs", 0, nullptr) != 0)
      _exit(77);
    const Environment none("COROIPC_RUNTIME_DIR", nullptr);
    const Environment own("XDG_RUNTIME_DIR", place.path().c_str());
    REQUIRE(chown(place.path().c_str(), 65533, 65533) == 0);
    umask(077);
    Address address;
    REQUIRE(ResolveListen("demo", &address) == COROIPC_OK);
    CHECK(address.text == "/run/coroipc/demo");
    CHECK_EQ(Mode("/run/coroipc"), S_IFDIR | 0755);
    CHECK(!Exists(place("coroipc")));
    Listener listener;
    REQUIRE(listener.Open(address) == COROIPC_OK);
    umask(0);
    REQUIRE(BecomeNobody());
    Fd fd;
    CHECK_EQ(Connect(address, &fd), COROIPC_OK);  // another user comes through
    REQUIRE(ResolveListen("demo", &address) == COROIPC_OK);
    CHECK(address.text == place("coroipc/demo"));
    CHECK_EQ(Mode(place("coroipc")), S_IFDIR | 0700);
    unsetenv("XDG_RUNTIME_DIR");
    CHECK_EQ(ResolveListen("demo", &address), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), EACCES);
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) SKIP("no mount namespaces here");
  CHECK_EQ(status, 0);
}

// -- listening ------------------------------------------------------------------------------------

TEST("a listener is there with mode 0666 whatever the umask, closes on exec and leaves no trace") {
  const Place place;
  const mode_t before = umask(0777 & ~0600);
  {
    Listener listener;
    REQUIRE(listener.Open(At(place("s"))) == COROIPC_OK);
    CHECK_EQ(umask(077), 0777 & ~0600);  // and the umask is not touched
    CHECK(listener.text() == place("s"));
    CHECK_EQ(Mode(place("s")), S_IFSOCK | 0666);
    CHECK_EQ(Mode(place("s.lock")), S_IFREG | 0600);
    CHECK_EQ(fcntl(listener.fd(), F_GETFD), FD_CLOEXEC);
    Fd peer, accepted;
    CHECK_EQ(Connect(At(place("s")), &peer), COROIPC_OK);
    CHECK_EQ(listener.Accept(&accepted), COROIPC_OK);
    CHECK_EQ(fcntl(peer.get(), F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(accepted.get(), F_GETFD), FD_CLOEXEC);
  }
  umask(before);
  CHECK(place.List().empty());
}

TEST("a listener can be closed twice, opened again, and not opened twice") {
  const Place place;
  Listener listener;
  listener.Close();
  for (int i = 0; i < 3; i++) {
    REQUIRE(listener.Open(At(place("s"))) == COROIPC_OK);
    CHECK_EQ(listener.Open(At(place("t"))), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(listener.Adopt(listener.fd()), COROIPC_INVALID_ARGUMENT);
    CHECK(listener.text() == place("s"));
    listener.Close();
    listener.Close();
    CHECK_EQ(listener.fd(), -1);
    CHECK(listener.text().empty());
    CHECK(place.List().empty());
  }
}

TEST(
    "a second listener gets ADDRESS_IN_USE, in this process and in another, and the first goes "
    "on") {
  const Place place;
  const Address names[] = {At(place("s")), Abstract()};
  for (const Address& address : names) {
    Listener first, second;
    REQUIRE(first.Open(address) == COROIPC_OK);
    CHECK_EQ(second.Open(address), COROIPC_ADDRESS_IN_USE);
    CHECK_EQ(second.fd(), -1);
    CHECK(InChild([&] {
      Listener third;
      CHECK_EQ(third.Open(address), COROIPC_ADDRESS_IN_USE);
    }));
    Fd fd;
    CHECK_EQ(Connect(address, &fd), COROIPC_OK);
    first.Close();
    CHECK_EQ(second.Open(address), COROIPC_OK);
  }
}

TEST("the socket and the lock of a killed server are taken over") {
  const Place place;
  const Address address = At(place("s"));
  for (int i = 0; i < 3; i++) {
    const int status = ChildStatus([&] {
      Listener listener;
      if (listener.Open(address) != COROIPC_OK) _exit(1);
      raise(SIGKILL);
    });
    CHECK(WIFSIGNALED(status));
    CHECK(Exists(place("s")) && Exists(place("s.lock")));
    Fd fd;
    CHECK_EQ(Connect(address, &fd), COROIPC_CONNECT_REFUSED);
  }
  Listener listener;
  CHECK_EQ(listener.Open(address), COROIPC_OK);
  Fd fd;
  CHECK_EQ(Connect(address, &fd), COROIPC_OK);
}

TEST("symlinks, files, directories and fifos in the way stay as they are") {
  for (const char* what :
       {"file", "directory", "fifo", "symlink", "dangling", "loop", "to-socket"}) {
    for (bool at_lock : {false, true}) {
      if (at_lock && strcmp(what, "file") == 0) continue;  // a file is what a lock is
      const Place place;
      const std::string path = place(at_lock ? "s.lock" : "s");
      Fd kept;
      const std::string kind = what;
      if (kind == "file") REQUIRE(MakeFile(path));
      if (kind == "directory") REQUIRE(mkdir(path.c_str(), 0755) == 0);
      if (kind == "fifo") REQUIRE(mkfifo(path.c_str(), 0600) == 0);
      if (kind == "symlink") REQUIRE(MakeFile(place("t")) && symlink("t", path.c_str()) == 0);
      if (kind == "dangling") REQUIRE(symlink("t", path.c_str()) == 0);
      if (kind == "loop") REQUIRE(symlink(at_lock ? "s.lock" : "s", path.c_str()) == 0);
      if (kind == "to-socket") {
        kept = Foreign(place("t"), SOCK_SEQPACKET, false);
        kept.Reset();  // a stale one, even
        REQUIRE(symlink("t", path.c_str()) == 0);
      }
      const mode_t mode = Mode(path), target = Mode(place("t"));
      const ino_t inode = Inode(path);
      const size_t files = place.List().size();
      Listener listener;
      CHECK_EQ(listener.Open(At(place("s"))), COROIPC_ADDRESS_IN_USE);
      CHECK_EQ(listener.fd(), -1);
      CHECK_EQ(Mode(path), mode);
      CHECK_EQ(Inode(path), inode);
      CHECK_EQ(Mode(place("t")), target);
      CHECK_EQ(place.List().size(), files);  // no lock is left either
    }
  }
}

TEST("a socket in the place of the lock stays as it is") {
  const Place place;
  const Fd socket = Foreign(place("s.lock"), SOCK_SEQPACKET, true);
  Listener listener;
  CHECK_EQ(listener.Open(At(place("s"))), COROIPC_ADDRESS_IN_USE);
  CHECK_EQ(place.List().size(), 1u);
}

TEST("a live socket of a program that knows no lock is not stale, of whatever type") {
  for (int type : {SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM}) {
    const Place place;
    const Fd socket = Foreign(place("s"), type, type != SOCK_DGRAM);
    const ino_t inode = Inode(place("s"));
    Listener listener;
    CHECK_EQ(listener.Open(At(place("s"))), COROIPC_ADDRESS_IN_USE);
    CHECK_EQ(Inode(place("s")), inode);
    CHECK_EQ(place.List().size(), 1u);
  }
}

TEST("a lock that somebody holds without a socket keeps the name taken") {
  const Place place;
  const Fd lock(open(place("s.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(flock(lock.get(), LOCK_EX | LOCK_NB) == 0);
  Listener listener;
  CHECK_EQ(listener.Open(At(place("s"))), COROIPC_ADDRESS_IN_USE);
  CHECK(Exists(place("s.lock")));
}

TEST("a missing directory, a file for one, and one that may not be written are said by errno") {
  const Place place;
  REQUIRE(MakeFile(place("file")) && mkdir(place("read-only").c_str(), 0555) == 0);
  Listener listener;
  CHECK_EQ(listener.Open(At(place("missing/s"))), COROIPC_SYSTEM);
  CHECK_EQ(coroipc_errno(), ENOENT);
  CHECK_EQ(listener.Open(At(place("file/s"))), COROIPC_SYSTEM);
  CHECK_EQ(coroipc_errno(), ENOTDIR);
  CHECK(InChild([&] {
    if (geteuid() == 0) REQUIRE(BecomeNobody());
    CHECK_EQ(listener.Open(At(place("read-only/s"))), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), EACCES);
  }));
  CHECK_EQ(listener.fd(), -1);
  CHECK_EQ(place.List().size(), 2u);
}

TEST("the longest path works, with a lock whose path is longer than a socket's may be") {
  const Place place;
  const std::string path = place(std::string(107 - place("").size(), 'n'));
  REQUIRE(path.size() == 107);
  Listener listener;
  REQUIRE(listener.Open(At(path)) == COROIPC_OK);
  Fd fd;
  CHECK_EQ(Connect(At(path), &fd), COROIPC_OK);
  listener.Close();
  CHECK(place.List().empty());
}

TEST("whichever fd is missing: NO_MEMORY, and no socket, lock or fd is left") {
  const Place place;
  CHECK(InChild([&] {
    const int lowest = dup(0);
    close(lowest);
    bool opened = false;
    for (int spare = 0; spare < 8 && !opened; spare++) {
      const auto limit = static_cast<rlim_t>(lowest + spare);
      const struct rlimit limits = {.rlim_cur = limit, .rlim_max = 1024};
      REQUIRE(setrlimit(RLIMIT_NOFILE, &limits) == 0);
      Listener listener;
      const Status status = listener.Open(At(place("s")));
      opened = status == COROIPC_OK;
      if (!opened) {
        CHECK_EQ(status, COROIPC_NO_MEMORY);
        CHECK_EQ(coroipc_errno(), EMFILE);
        CHECK_EQ(listener.fd(), -1);
      }
      listener.Close();
      const struct rlimit enough = {.rlim_cur = 1024, .rlim_max = 1024};
      REQUIRE(setrlimit(RLIMIT_NOFILE, &enough) == 0);
      CHECK(place.List().empty());
      const int now = dup(0);
      CHECK_EQ(now, lowest);
      close(now);
    }
    CHECK(opened);
  }));
}

#ifdef SYS_chmod
TEST("without /proc the mode is 0666 too, or the listener is not opened") {
  const Place place;
  CHECK(InChild([&] {
    umask(077);
    REQUIRE(Deny(SYS_chmod, ENOENT));
    Listener listener;
    const Status status = listener.Open(At(place("s")));
    if (status == COROIPC_OK) {
      CHECK_EQ(Mode(place("s")), S_IFSOCK | 0666);
      return;
    }
    CHECK_EQ(status, COROIPC_SYSTEM);  // before 6.6
    CHECK_STR_EQ(coroipc_syscall(), "chmod");
    CHECK_EQ(coroipc_errno(), ENOENT);
  }));
  CHECK(place.List().empty());
}

TEST("whichever step fails, a listener leaves neither socket nor lock") {
  const Place place;
  for (long call : {SYS_flock, SYS_socket, SYS_bind, SYS_chmod, SYS_listen}) {
    CHECK(InChild([&] {
      REQUIRE(Deny(call, EPERM));
      Listener listener;
      CHECK_EQ(listener.Open(At(place("s"))), COROIPC_SYSTEM);
      CHECK_EQ(coroipc_errno(), EPERM);
      CHECK_EQ(listener.fd(), -1);
    }));
    // A lock file that nobody could lock may belong to anybody.
    const std::vector<std::string> left = place.List();
    CHECK(call == SYS_flock ? left == std::vector<std::string>{"s.lock"} : left.empty());
  }
}
#endif

TEST("of servers that race for a name, stale or new, exactly one wins") {
  constexpr int kServers = 4, kRounds = 200;
  const Place place;
  const Address address = At(place("s"));
  for (int round = 0; round < kRounds; round++) {
    int go[2], results[2], done[2];
    REQUIRE(pipe(go) == 0 && pipe(results) == 0 && pipe(done) == 0);
    pid_t children[kServers];
    for (pid_t& child : children) {
      child = fork();
      if (child != 0) continue;
      char byte;
      close(go[1]);
      close(done[1]);
      Listener listener;
      (void)!read(go[0], &byte, 1);
      byte = static_cast<char>(listener.Open(address));
      if (write(results[1], &byte, 1) != 1) _exit(1);
      (void)!read(done[0], &byte, 1);
      if (round % 2 == 0) listener.Close();  // in odd rounds the name becomes stale
      _exit(0);
    }
    close(go[1]);
    int won = 0, lost = 0;
    for (int i = 0; i < kServers; i++) {
      char byte = -1;
      REQUIRE(read(results[0], &byte, 1) == 1);
      won += byte == COROIPC_OK;
      lost += byte == COROIPC_ADDRESS_IN_USE;
    }
    CHECK_EQ(won, 1);
    CHECK_EQ(lost, kServers - 1);
    Fd fd;
    CHECK_EQ(Connect(address, &fd), COROIPC_OK);
    close(done[1]);
    for (pid_t child : children) waitpid(child, nullptr, 0);
    for (int pipe_end : {go[0], results[0], results[1], done[0]}) close(pipe_end);
  }
}

TEST("a lock file that its holder removes between our open and our flock is not the lock") {
  for (bool replaced : {false, true}) {  // by another server, which has no socket yet
    const Place place;
    Listener first;
    REQUIRE(first.Open(At(place("s"))) == COROIPC_OK);
    const pid_t child = fork();
    if (child == 0) {
      first.Close();  // our copies of its fds would keep it alive
      if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
      raise(SIGSTOP);
      Listener second;
      CHECK_EQ(second.Open(At(place("s"))), replaced ? COROIPC_ADDRESS_IN_USE : COROIPC_OK);
      CHECK(Exists(place("s.lock")));
      _exit(check_failures == 0 ? 0 : 1);
    }
    Fd lock;
    int status = 0;
    bool removed = false;
    while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
      __ptrace_syscall_info call = {};
      ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD);
      if (ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof call, &call) > 0 && !removed &&
          call.op == PTRACE_SYSCALL_INFO_ENTRY && call.entry.nr == SYS_flock) {
        first.Close();
        removed = true;
        if (replaced) {
          lock.Reset(open(place("s.lock").c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
          REQUIRE(lock.valid() && flock(lock.get(), LOCK_EX | LOCK_NB) == 0);
        }
      }
      ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) SKIP("no ptrace(2) here");
    CHECK(removed);
    CHECK_EQ(status, 0);
  }
}

TEST("servers that come and go never hold a name together, and each is the one that is reached") {
  constexpr int kServers = 4, kTurns = 400;
  const Place place;
  const Address address = At(place("s"));
  auto* inside = static_cast<std::atomic<int>*>(
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t children[kServers];
  for (pid_t& child : children) {
    child = fork();
    if (child != 0) continue;
    for (int turns = 0; turns < kTurns;) {
      Listener listener;
      const Status status = listener.Open(address);
      if (status != COROIPC_OK) {
        CHECK_EQ(status, COROIPC_ADDRESS_IN_USE);
        sched_yield();
        continue;
      }
      turns++;
      CHECK_EQ(inside->fetch_add(1), 0);
      Fd client, peer;
      CHECK_EQ(Connect(address, &client), COROIPC_OK);
      CHECK_EQ(listener.Accept(&peer), COROIPC_OK);
      CHECK_EQ(inside->fetch_sub(1), 1);
    }
    _exit(check_failures == 0 ? 0 : 1);
  }
  for (pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
  }
  munmap(inside, 4096);
  CHECK(place.List().empty());
}

TEST("what has come into the place of our socket or lock is not ours to remove") {
  const Place place;
  Listener listener;
  REQUIRE(listener.Open(At(place("s"))) == COROIPC_OK);
  REQUIRE(unlink(place("s").c_str()) == 0 && unlink(place("s.lock").c_str()) == 0);
  REQUIRE(MakeFile(place("s")) && MakeFile(place("s.lock")));
  listener.Close();
  CHECK(Exists(place("s")) && Exists(place("s.lock")));
  unlink(place("s").c_str());

  // The same with a server that came after somebody had removed our files.
  Listener second;
  REQUIRE(listener.Open(At(place("s"))) == COROIPC_OK);
  REQUIRE(unlink(place("s").c_str()) == 0 && unlink(place("s.lock").c_str()) == 0);
  REQUIRE(second.Open(At(place("s"))) == COROIPC_OK);
  listener.Close();
  Fd fd;
  CHECK_EQ(Connect(At(place("s")), &fd), COROIPC_OK);
  CHECK_EQ(listener.Open(At(place("s"))), COROIPC_ADDRESS_IN_USE);
}

TEST("a server whose lock was removed still lives: its socket is not stale") {
  const Place place;
  Listener first, second;
  REQUIRE(first.Open(At(place("s"))) == COROIPC_OK);
  REQUIRE(unlink(place("s.lock").c_str()) == 0);
  CHECK_EQ(second.Open(At(place("s"))), COROIPC_ADDRESS_IN_USE);
  Fd fd;
  CHECK_EQ(Connect(At(place("s")), &fd), COROIPC_OK);
}

TEST("a forked child that closes its copy takes nothing from its parent") {
  const Place place;
  Listener listener;
  REQUIRE(listener.Open(At(place("s"))) == COROIPC_OK);
  CHECK(InChild([&] { listener.Close(); }));
  CHECK(Exists(place("s")) && Exists(place("s.lock")));
  CHECK(InChild([&] {
    Listener other;
    CHECK_EQ(other.Open(At(place("s"))), COROIPC_ADDRESS_IN_USE);
  }));
  Fd fd;
  CHECK_EQ(Connect(At(place("s")), &fd), COROIPC_OK);
}

TEST("a forked child that still lives does not keep the name after its parent has closed") {
  const Place place;
  Listener listener;
  REQUIRE(listener.Open(At(place("s"))) == COROIPC_OK);
  const pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  listener.Close();
  Listener next;
  CHECK_EQ(next.Open(At(place("s"))), COROIPC_OK);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

// -- inherited sockets ----------------------------------------------------------------------------

TEST("what is not a listening SOCK_SEQPACKET of AF_UNIX is not adopted, and stays the caller's") {
  const Place place;
  const Fd stream = Foreign(place("a"), SOCK_STREAM, true);
  const Fd datagram = Foreign(place("b"), SOCK_DGRAM, false);
  const Fd bound = Foreign(place("c"), SOCK_SEQPACKET, false);
  const Fd fresh(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const Fd internet(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Fd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  const Pair pair;
  if (internet.valid()) (void)listen(internet.get(), 1);
  for (int fd : {stream.get(), datagram.get(), bound.get(), fresh.get(), internet.get(), file.get(),
                 pair.a.get(), -1, 1 << 20}) {
    Listener listener;
    CHECK_EQ(listener.Adopt(fd), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(listener.fd(), -1);
  }
  CHECK_EQ(fcntl(stream.get(), F_GETFD), FD_CLOEXEC);
}

TEST("an adopted socket serves, has its name, closes on exec, and its path stays") {
  const Place place;
  const Address names[] = {At(place("s")), Abstract()};
  for (const Address& address : names) {
    Fd made(socket(AF_UNIX, SOCK_SEQPACKET, 0));
    REQUIRE(bind(made.get(), reinterpret_cast<const sockaddr*>(&address.raw), address.bytes) == 0);
    REQUIRE(listen(made.get(), 1) == 0);
    Listener listener;
    REQUIRE(listener.Adopt(made.Release()) == COROIPC_OK);
    CHECK(listener.text() == address.text);
    CHECK_EQ(fcntl(listener.fd(), F_GETFD), FD_CLOEXEC);
    Fd client, peer;
    CHECK_EQ(listener.Accept(&peer), COROIPC_AGAIN);  // and does not block
    CHECK_EQ(Connect(address, &client), COROIPC_OK);
    CHECK_EQ(listener.Accept(&peer), COROIPC_OK);
    listener.Close();
    CHECK_EQ(listener.fd(), -1);
  }
  CHECK(Exists(place("s")));
  CHECK(!Exists(place("s.lock")));
}

// -- accepting and connecting ---------------------------------------------------------------------

// A socket that listens at `path`, or at a name that the kernel chooses.
int ListeningAt(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  const auto bytes = static_cast<socklen_t>(
      path.empty() ? sizeof address.sun_family : offsetof(sockaddr_un, sun_path) + path.size() + 1);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), bytes) != 0 || listen(fd, 1) != 0)
    abort();
  return fd;
}

TEST("a call that fails when a socket is inherited is said, and neither it nor the lock is kept") {
  const struct {
    long call;
    DenyWhen when;
    uint32_t argument, value;
  } cases[] = {{SYS_fcntl, DenyWhen::kEqual, 1, F_SETFD},
               {SYS_fcntl, DenyWhen::kEqual, 1, F_GETFL},
               {SYS_fcntl, DenyWhen::kEqual, 1, F_SETFL},
               {SYS_listen, DenyWhen::kAlways, 0, 0},
               {SYS_getsockname, DenyWhen::kAlways, 0, 0}};
  constexpr int kNoFilters = 255;
  for (const auto& each : cases) {
    for (const bool locked : {false, true}) {
      const pid_t child = fork();
      if (child == 0) {
        const int fd = ListeningAt(""), lock = locked ? open("/dev/null", O_RDONLY) : -1;
        if (!Deny(each.call, EPERM, each.when, each.argument, each.value)) _exit(kNoFilters);
        Listener listener;
        CHECK_EQ(listener.Inherit(fd, lock), COROIPC_SYSTEM);
        CHECK_EQ(coroipc_errno(), EPERM);
        CHECK_EQ(listener.fd(), -1);
        struct stat file;
        CHECK(fstat(fd, &file) != 0 && errno == EBADF);
        if (locked) CHECK(fstat(lock, &file) != 0 && errno == EBADF);
        _exit(check_failures == 0 ? 0 : 1);
      }
      int status = 0;
      waitpid(child, &status, 0);
      if (WIFEXITED(status) && WEXITSTATUS(status) == kNoFilters) SKIP("no seccomp filters here");
      CHECK_EQ(status, 0);
    }
  }
}

TEST("an inherited path is ours only with its lock, and only while it is a socket") {
  Place place;
  const std::string path = place("name");
  enum What { kSocket, kGone, kFile, kNoPath };
  for (const What what : {kSocket, kGone, kFile, kNoPath}) {
    for (const bool locked : {false, true}) {
      const int fd = ListeningAt(what == kNoPath ? "" : path);
      const int lock = locked ? open("/dev/null", O_RDONLY) : -1;
      if (what == kGone || what == kFile) unlink(path.c_str());
      if (what == kFile) close(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600));
      Listener listener;
      CHECK_EQ(listener.Inherit(fd, lock), COROIPC_OK);
      CHECK_EQ(listener.fd(), fd);
      CHECK_EQ(listener.lock(), locked && what == kSocket ? lock : -1);
      listener.Close();
      struct stat file;
      const bool there = lstat(path.c_str(), &file) == 0;
      CHECK_EQ(there, what == kFile || (what == kSocket && !locked));
      unlink(path.c_str());
    }
  }
}

TEST("nobody waits: AGAIN; a client that has gone is accepted and found dead") {
  Listener listener;
  const Address address = Abstract();
  REQUIRE(listener.Open(address) == COROIPC_OK);
  Fd peer;
  CHECK_EQ(listener.Accept(&peer), COROIPC_AGAIN);
  CHECK(!peer.valid());
  {
    Fd client;
    REQUIRE(Connect(address, &client) == COROIPC_OK);
    REQUIRE(SendMessage(client.get(), "bye", 3, -1, false) == COROIPC_OK);
  }
  CHECK_EQ(listener.Accept(&peer), COROIPC_OK);
  char bytes[8];
  Received received;
  CHECK_EQ(ReceiveMessage(peer.get(), bytes, sizeof bytes, false, &received), COROIPC_OK);
  CHECK_EQ(ReceiveMessage(peer.get(), bytes, sizeof bytes, false, &received), COROIPC_PEER_DEAD);
  CHECK_EQ(listener.Accept(&peer), COROIPC_AGAIN);
}

TEST("no fd for a new client: NO_MEMORY, and the client waits") {
  CHECK(InChild([] {
    Listener listener;
    const Address address = Abstract();
    REQUIRE(listener.Open(address) == COROIPC_OK);
    Fd client, peer;
    REQUIRE(Connect(address, &client) == COROIPC_OK);
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = 1024};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQ(listener.Accept(&peer), COROIPC_NO_MEMORY);
    CHECK_EQ(coroipc_errno(), EMFILE);
    CHECK_EQ(Connect(address, &peer), COROIPC_NO_MEMORY);
    limit.rlim_cur = 1024;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQ(listener.Accept(&peer), COROIPC_OK);
  }));
}

TEST("a listener that is closed, or shut down from outside, is not asked for ever") {
  Listener listener;
  Fd peer;
  CHECK_EQ(listener.Accept(&peer), COROIPC_SYSTEM);
  CHECK_EQ(coroipc_errno(), EBADF);
  REQUIRE(listener.Open(Abstract()) == COROIPC_OK);
  REQUIRE(shutdown(listener.fd(), SHUT_RD) == 0);
  const Status status = listener.Accept(&peer);  // the kernel says EAGAIN or EINVAL
  CHECK(status == COROIPC_AGAIN || status == COROIPC_SYSTEM);
}

TEST("nobody there is CONNECT_REFUSED: no file, no directory, no listener, no name") {
  const Place place;
  REQUIRE(MakeFile(place("file")));
  Foreign(place("stale"), SOCK_SEQPACKET, true).Reset();
  const Fd deaf = Foreign(place("deaf"), SOCK_SEQPACKET, false);
  const Address addresses[] = {At(place("none")), At(place("none/s")), At(place("file/s")),
                               At(place("file")), At(place("stale")),  At(place("deaf")),
                               Abstract()};
  for (const Address& address : addresses) {
    Fd fd;
    CHECK_EQ(Connect(address, &fd), COROIPC_CONNECT_REFUSED);
    CHECK(!fd.valid());
  }
}

TEST("another kind of server is a system error, not a refusal") {
  const Place place;
  const Fd stream = Foreign(place("s"), SOCK_STREAM, true);
  Fd fd;
  CHECK_EQ(Connect(At(place("s")), &fd), COROIPC_SYSTEM);
  CHECK_EQ(coroipc_errno(), EPROTOTYPE);
  CHECK_STR_EQ(coroipc_syscall(), "connect");
}

TEST("a full backlog is AGAIN, until somebody is accepted") {
  const Address address = Abstract();
  const Fd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  REQUIRE(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address.raw), address.bytes) ==
          0);
  REQUIRE(listen(listener.get(), 0) == 0);
  std::vector<Fd> clients;
  Status status = COROIPC_OK;
  for (int i = 0; i < 4 && status == COROIPC_OK; i++) {
    Fd fd;
    status = Connect(address, &fd);
    CHECK_EQ(status == COROIPC_OK, fd.valid());
    clients.push_back(std::move(fd));
  }
  CHECK_EQ(status, COROIPC_AGAIN);
  const Fd peer(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  Fd fd;
  CHECK_EQ(Connect(address, &fd), COROIPC_OK);
}

TEST("a socket that may not be written is DENIED") {
  const Place place;
  const Fd socket = Foreign(place("s"), SOCK_SEQPACKET, true);
  REQUIRE(chmod(place("s").c_str(), 0400) == 0);
  CHECK(InChild([&] {
    if (geteuid() == 0) REQUIRE(BecomeNobody());
    Fd fd;
    CHECK_EQ(Connect(At(place("s")), &fd), COROIPC_DENIED);
  }));
}

TEST("a client asks for credentials before it connects") {
  const Address address = Abstract();
  Listener listener;
  REQUIRE(listener.Open(address) == COROIPC_OK);
  Fd client, peer;
  REQUIRE(Connect(address, &client) == COROIPC_OK);
  int on = 0;
  socklen_t bytes = sizeof on;
  REQUIRE(getsockopt(client.get(), SOL_SOCKET, SO_PASSCRED, &on, &bytes) == 0);
  CHECK_EQ(on, 1);
  REQUIRE(listener.Accept(&peer) == COROIPC_OK);
  REQUIRE(getsockopt(peer.get(), SOL_SOCKET, SO_PASSCRED, &on, &bytes) == 0);
  CHECK_EQ(on, 0);  // the server has SO_PEERCRED and pays for no more
}

// -- messages -------------------------------------------------------------------------------------

TEST("a message comes whole, of one byte and of all that fit, and is never joined with the next") {
  const Pair pair;
  for (size_t count : {size_t{1}, size_t{64}, size_t{96}, size_t{4096}}) {
    std::vector<char> sent(count, static_cast<char>(count)), got(4096);
    REQUIRE(SendMessage(pair.a.get(), sent.data(), count, -1, false) == COROIPC_OK);
    REQUIRE(SendMessage(pair.a.get(), "x", 1, -1, false) == COROIPC_OK);
    Received received;
    CHECK_EQ(ReceiveMessage(pair.b.get(), got.data(), got.size(), false, &received), COROIPC_OK);
    CHECK_EQ(received.bytes, count);
    CHECK_EQ(memcmp(sent.data(), got.data(), count), 0);
    CHECK(!received.fd.valid() && !received.has_credentials);
    CHECK_EQ(ReceiveMessage(pair.b.get(), got.data(), got.size(), false, &received), COROIPC_OK);
    CHECK_EQ(received.bytes, 1u);
    CHECK_EQ(ReceiveMessage(pair.b.get(), got.data(), got.size(), false, &received), COROIPC_AGAIN);
    CHECK_EQ(received.bytes, 0u);
  }
}

TEST("a message that is larger than the buffer by one byte is PROTOCOL, the next is read whole") {
  const Pair pair;
  REQUIRE(SendMessage(pair.a.get(), "12345", 5, -1, false) == COROIPC_OK);
  REQUIRE(SendMessage(pair.a.get(), "1234", 4, -1, false) == COROIPC_OK);
  char bytes[4];
  Received received;
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received), COROIPC_PROTOCOL);
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received), COROIPC_OK);
  CHECK_EQ(received.bytes, 4u);
}

TEST("an fd comes to another process as the same file, and closes on exec") {
  const Pair pair;
  const Fd file(memfd_create("test", MFD_CLOEXEC));
  REQUIRE(write(file.get(), "hello", 5) == 5);
  const pid_t child = fork();
  if (child == 0) {
    char bytes[8];
    Received received;
    REQUIRE(Wait(pair.b.get()) == COROIPC_OK);
    REQUIRE(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received) == COROIPC_OK);
    REQUIRE(received.fd.valid());
    CHECK_EQ(received.bytes, 1u);
    CHECK_EQ(fcntl(received.fd.get(), F_GETFD), FD_CLOEXEC);
    CHECK_EQ(pread(received.fd.get(), bytes, sizeof bytes, 0), 5);
    CHECK_EQ(memcmp(bytes, "hello", 5), 0);
    // The next message takes the place of this one, its fd too.
    const int number = received.fd.get();
    REQUIRE(Wait(pair.b.get()) == COROIPC_OK);
    REQUIRE(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received) == COROIPC_OK);
    CHECK(!received.fd.valid());
    CHECK_EQ(fcntl(number, F_GETFD), -1);
    _exit(check_failures == 0 ? 0 : 1);
  }
  CHECK_EQ(SendMessage(pair.a.get(), "x", 1, file.get(), false), COROIPC_OK);
  CHECK_EQ(SendMessage(pair.a.get(), "y", 1, -1, false), COROIPC_OK);
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
}

TEST("credentials name the sender, alone and beside an fd") {
  const Pair pair;
  const int on = 1;
  REQUIRE(setsockopt(pair.b.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
  for (bool with_fd : {false, true}) {
    const pid_t child = fork();
    if (child == 0)
      _exit(SendMessage(pair.a.get(), "x", 1, with_fd ? 0 : -1, true) == COROIPC_OK ? 0 : 1);
    char bytes[8];
    Received received;
    REQUIRE(Wait(pair.b.get()) == COROIPC_OK);
    REQUIRE(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received) == COROIPC_OK);
    CHECK_EQ(received.bytes, 1u);
    CHECK_EQ(received.fd.valid(), with_fd);
    CHECK(received.has_credentials);
    CHECK_EQ(received.credentials.pid, child);
    CHECK_EQ(received.credentials.uid, geteuid());
    CHECK_EQ(received.credentials.gid, getegid());
    int status = -1;
    waitpid(child, &status, 0);
    CHECK_EQ(status, 0);
  }
}

TEST("credentials end when they are stopped") {
  const Pair pair;
  const int on = 1;
  REQUIRE(setsockopt(pair.b.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
  StopCredentials(pair.b.get());
  REQUIRE(SendMessage(pair.a.get(), "x", 1, -1, true) == COROIPC_OK);
  char bytes[8];
  Received received;
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received), COROIPC_OK);
  CHECK(!received.has_credentials);
}

TEST("credentials are the effective ids, as SO_PEERCRED has them") {
  if (geteuid() != 0) SKIP("needs root: changes the uid");
  const Pair pair;
  const int on = 1;
  REQUIRE(setsockopt(pair.b.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
  CHECK(InChild([&] {
    REQUIRE(setresgid(4321, 4322, 0) == 0 && setresuid(1234, 1235, 0) == 0);
    CHECK_EQ(SendMessage(pair.a.get(), "x", 1, -1, true), COROIPC_OK);
  }));
  char bytes[8];
  Received received;
  REQUIRE(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received) == COROIPC_OK);
  CHECK_EQ(received.credentials.uid, 1235u);
  CHECK_EQ(received.credentials.gid, 4322u);
}

TEST(
    "an fd that nobody asked for, or more than one, is PROTOCOL and closed, however many they "
    "are") {
  const Pair pair;
  const int before = OpenFds();
  for (int passcred : {0, 1}) {
    REQUIRE(setsockopt(pair.b.get(), SOL_SOCKET, SO_PASSCRED, &passcred, sizeof passcred) == 0);
    for (size_t count : {1u, 2u, 3u, 4u, 10u, 253u}) {
      for (bool accept_fd : {false, true}) {
        if (count == 1 && accept_fd) continue;
        REQUIRE(SendFds(pair.a.get(), 1, std::vector<int>(count, 0)));
        char bytes[8];
        Received received;
        CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, accept_fd, &received),
                 COROIPC_PROTOCOL);
        CHECK(!received.fd.valid());
        CHECK_EQ(OpenFds(), before);
      }
    }
  }
}

TEST("an fd with a message that is too large, or empty, is closed") {
  const Pair pair;
  const int before = OpenFds();
  char bytes[8];
  Received received;
  REQUIRE(SendFds(pair.a.get(), 9, {0}));
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received), COROIPC_PROTOCOL);
  CHECK(!received.fd.valid());
  REQUIRE(SendFds(pair.a.get(), 0, {0}));
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received), COROIPC_PEER_DEAD);
  CHECK(!received.fd.valid());
  CHECK_EQ(OpenFds(), before);
}

TEST("an fd that finds our table full is NO_MEMORY: not the peer's fault") {
  CHECK(InChild([] {
    const Pair pair;
    REQUIRE(SendMessage(pair.a.get(), "x", 1, 0, false) == COROIPC_OK);
    REQUIRE(SendMessage(pair.a.get(), "y", 1, -1, false) == COROIPC_OK);
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    char bytes[8];
    Received received;
    CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received), COROIPC_NO_MEMORY);
    CHECK_EQ(coroipc_errno(), EMFILE);
    CHECK(!received.fd.valid());
    CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received), COROIPC_OK);
    CHECK_EQ(bytes[0], 'y');
  }));
}

TEST("a pidfd that a former owner of the listening socket asked for is not leaked") {
  const Pair pair;
  const int on = 1;
  constexpr int kPassPidfd = 76;  // SO_PASSPIDFD, 6.5
  if (setsockopt(pair.b.get(), SOL_SOCKET, kPassPidfd, &on, sizeof on) != 0)
    SKIP("no SO_PASSPIDFD in this kernel");
  const int before = OpenFds();
  REQUIRE(SendMessage(pair.a.get(), "x", 1, -1, false) == COROIPC_OK);
  char bytes[8];
  Received received;
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received), COROIPC_OK);
  CHECK_EQ(received.bytes, 1u);
  CHECK_EQ(OpenFds(), before);
}

TEST("what a peer sent before it closed is read to the end, also when it left ours unread") {
  for (bool unread : {false, true}) {
    Pair pair;
    if (unread) REQUIRE(SendMessage(pair.b.get(), "unread", 6, -1, false) == COROIPC_OK);
    REQUIRE(SendMessage(pair.a.get(), "one", 3, -1, false) == COROIPC_OK);
    REQUIRE(SendMessage(pair.a.get(), "three", 5, -1, false) == COROIPC_OK);
    pair.a.Reset();
    char bytes[8];
    Received received;
    CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received), COROIPC_OK);
    CHECK_EQ(received.bytes, 3u);
    CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received), COROIPC_OK);
    CHECK_EQ(received.bytes, 5u);
    for (int i = 0; i < 3; i++)
      CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received),
               COROIPC_PEER_DEAD);
  }
}

TEST("a peer that closed without a word is PEER_DEAD, also when it left ours unread") {
  for (bool unread : {false, true}) {
    Pair pair;
    if (unread) REQUIRE(SendMessage(pair.b.get(), "unread", 6, -1, false) == COROIPC_OK);
    pair.a.Reset();
    char bytes[8];
    Received received;
    CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received),
             COROIPC_PEER_DEAD);
  }
}

TEST("sending to the dead is PEER_DEAD and no signal, by message and by doorbell") {
  for (bool unread : {false, true}) {
    for (bool doorbell : {false, true}) {
      Pair pair;
      if (unread) REQUIRE(SendMessage(pair.b.get(), "unread", 6, -1, false) == COROIPC_OK);
      pair.a.Reset();
      for (int i = 0; i < 3; i++)
        CHECK_EQ(
            doorbell ? RingDoorbell(pair.b.get()) : SendMessage(pair.b.get(), "x", 1, -1, false),
            COROIPC_PEER_DEAD);
    }
  }
}

TEST("what was never connected is as good as dead") {
  const Fd fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  char bytes[8];
  Received received;
  CHECK_EQ(SendMessage(fd.get(), "x", 1, -1, false), COROIPC_PEER_DEAD);
  CHECK_EQ(RingDoorbell(fd.get()), COROIPC_PEER_DEAD);
  CHECK_EQ(ReceiveMessage(fd.get(), bytes, sizeof bytes, false, &received), COROIPC_PEER_DEAD);
}

TEST("what is no socket, and a message that fits none, are system errors; a doorbell is owed") {
  const Fd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  char bytes[8];
  Received received;
  for (auto [fd, error] : {std::pair{file.get(), ENOTSOCK}, {-1, EBADF}}) {
    CHECK_EQ(SendMessage(fd, "x", 1, -1, false), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), error);
    CHECK_EQ(ReceiveMessage(fd, bytes, sizeof bytes, false, &received), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), error);
    CHECK_EQ(RingDoorbell(fd), COROIPC_NO_MEMORY);
    CHECK_EQ(coroipc_errno(), error);
  }
  const Pair pair;
  const std::vector<char> large(size_t{64} << 20);
  CHECK_EQ(SendMessage(pair.a.get(), large.data(), large.size(), -1, false), COROIPC_SYSTEM);
  CHECK_EQ(coroipc_errno(), EMSGSIZE);
  CHECK_EQ(SendMessage(pair.a.get(), "x", 1, 1 << 20, false), COROIPC_SYSTEM);
  CHECK_EQ(coroipc_errno(), EBADF);
}

TEST(
    "a doorbell is one byte; a full socket is AGAIN for a message and rung already for a "
    "doorbell") {
  const Pair pair;  // and without O_NONBLOCK: the mode of the file is not relied on
  CHECK_EQ(fcntl(pair.a.get(), F_GETFL) & O_NONBLOCK, 0);
  alarm(20);
  char bytes[8] = {};
  Received received;
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received), COROIPC_AGAIN);
  CHECK_EQ(RingDoorbell(pair.a.get()), COROIPC_OK);
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received), COROIPC_OK);
  CHECK_EQ(received.bytes, 1u);
  CHECK_EQ(bytes[0], char{COROIPC_SOCKET_DOORBELL});
  int sent = 0;
  Status status;
  while ((status = SendMessage(pair.a.get(), "x", 1, -1, false)) == COROIPC_OK && sent < 1000000)
    sent++;
  CHECK_EQ(status, COROIPC_AGAIN);
  for (int i = 0; i < 100; i++) CHECK_EQ(RingDoorbell(pair.a.get()), COROIPC_OK);
  for (int i = 0; i < sent; i++)
    CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received), COROIPC_OK);
  CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, false, &received), COROIPC_AGAIN);
  CHECK_EQ(SendMessage(pair.a.get(), "x", 1, -1, false), COROIPC_OK);
  alarm(0);
}

TEST("more fds in flight than this user may have are a shortage that passes") {
  if (geteuid() != 0) SKIP("needs root: a user with no other fds in flight");
  CHECK(InChild([] {
    const Pair pair;
    struct rlimit limit = {.rlim_cur = 32, .rlim_max = 32};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0 && BecomeNobody());
    Status status = COROIPC_OK;
    for (int i = 0; i < 200 && status == COROIPC_OK; i++)
      status = SendMessage(pair.a.get(), "x", 1, 0, false);
    CHECK_EQ(status, COROIPC_NO_MEMORY);
    CHECK_EQ(coroipc_errno(), ETOOMANYREFS);
    char bytes[8];
    Received received;
    for (int i = 0; i < 10; i++)
      CHECK_EQ(ReceiveMessage(pair.b.get(), bytes, sizeof bytes, true, &received), COROIPC_OK);
    CHECK_EQ(SendMessage(pair.a.get(), "x", 1, 0, false), COROIPC_OK);
  }));
}

TEST("signals that interrupt calls are not seen above") {
  CHECK(InChild([] {
    const Place place;
    struct sigaction action = {};
    action.sa_handler = [](int) {};  // without SA_RESTART
    REQUIRE(sigaction(SIGALRM, &action, nullptr) == 0);
    const struct itimerval often = {.it_interval = {0, 50}, .it_value = {0, 50}};
    REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
    char bytes[8];
    Received received;
    for (int i = 0; i < 300; i++) {
      Listener listener;
      REQUIRE(listener.Open(At(place("s"))) == COROIPC_OK);
      Fd client, peer;
      REQUIRE(Connect(At(place("s")), &client) == COROIPC_OK);
      REQUIRE(listener.Accept(&peer) == COROIPC_OK);
      for (int j = 0; j < 100; j++) {
        CHECK_EQ(SendMessage(peer.get(), "x", 1, 0, true), COROIPC_OK);
        CHECK_EQ(RingDoorbell(peer.get()), COROIPC_OK);
        CHECK_EQ(ReceiveMessage(client.get(), bytes, sizeof bytes, true, &received), COROIPC_OK);
        CHECK_EQ(ReceiveMessage(client.get(), bytes, sizeof bytes, true, &received), COROIPC_OK);
        CHECK_EQ(ReceiveMessage(client.get(), bytes, sizeof bytes, true, &received), COROIPC_AGAIN);
      }
    }
    const struct itimerval never = {};
    setitimer(ITIMER_REAL, &never, nullptr);
  }));
}

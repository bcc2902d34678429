// poll.h: the loops of one environment, driven by its libuv loop. See poll.cc.
#ifndef COROIPC_ADDON_POLL_H
#define COROIPC_ADDON_POLL_H

#include <coroipc/types.h>

namespace coroipc_addon {

class Environment;
class EventLoop;

class Poll {
 public:
  static Poll* Create(Environment& environment);
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;

  coroipc_status Attach(EventLoop& loop);
  void Detach(EventLoop& loop);  // of one that is not attached: nothing
  void Ref(EventLoop& loop, bool on);
  // Closes everything; Environment::PollClosed follows, from libuv.
  void Close();

 private:
  struct Parts;  // uv.h stays in poll.cc
  explicit Poll(Parts* parts) : parts_(parts) {}
  ~Poll();
  Parts* parts_;
};

}  // namespace coroipc_addon

#endif

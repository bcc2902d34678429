// server_segments.cc: extra segments of a connection: made here, lent to the client, taken back.
#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "server.h"
#include "socket.h"

using coroipc::kMillisecond;
using coroipc::kResponse;
using coroipc::Owner;
using coroipc::Status;

namespace {

constexpr uint32_t kPageBytes = 4096;
constexpr uint64_t kShareRetryNs = 50 * kMillisecond;

uint64_t SegmentSize(uint32_t bytes) { return std::bit_ceil(std::max(bytes, 16 * kPageBytes)); }

}  // namespace

Status coroipcs_connection::AcquireSegment(uint32_t bytes, coroipc_buffer** buffer) {
  coroipc_buffer* best = nullptr;
  uint32_t index = COROIPC_SEGMENTS_MAX;
  bool outstanding = false;
  for (uint32_t i = 0; i < segments_max_; ++i) {
    coroipc_buffer* const candidate = BufferAt(i);
    if (candidate == nullptr) {
      index = std::min(index, i);
      continue;
    }
    if (candidate->owner != Owner::kFree) {
      outstanding |= !candidate->granted;
    } else if (candidate->segment.bytes() >= bytes) {
      if (best == nullptr || candidate->segment.bytes() < best->segment.bytes()) best = candidate;
    }
  }
  if (best != nullptr) {
    best->owner = Owner::kUsed;
    best->lent = false;
    best->granted = false;
    best->bytes = static_cast<uint32_t>(best->segment.bytes());
    *buffer = best;
    return COROIPC_OK;
  }
  const Status exhausted = outstanding ? COROIPC_AGAIN : COROIPC_LIMIT;
  const uint64_t size = SegmentSize(bytes);
  const auto fits = [&] {
    return charged + size <= server.options.segment_bytes && account.bytes + size <= account.limit;
  };
  // Free ones are too small for it: they give their index and their bytes.
  for (uint32_t i = 0; i < segments_max_ && (index == COROIPC_SEGMENTS_MAX || !fits()); ++i) {
    if (BufferAt(i) == nullptr || BufferAt(i)->owner != Owner::kFree) continue;
    const uint64_t freed = BufferAt(i)->segment.bytes();
    account.Discharge(freed);
    charged -= freed;
    segment_places[i].fd.Reset();
    DropBuffer(i);
    index = std::min(index, i);
  }
  if (index == COROIPC_SEGMENTS_MAX || !fits() || !account.Charge(size)) return exhausted;
  if (segment_places == nullptr)
    segment_places.reset(new (std::nothrow) SegmentPlace[COROIPC_SEGMENTS_MAX]);
  coroipc::Segment segment;
  coroipc::Fd fd;
  if (segment_places == nullptr) {
    account.Discharge(size);
    return COROIPC_NO_MEMORY;
  }
  if (const Status status =
          coroipc::Segment::Create(size, server.MemoryBacking(false), &segment, &fd);
      status != COROIPC_OK) {
    account.Discharge(size);
    return COROIPC_NO_MEMORY;
  }
  coroipc_buffer* const made =
      AddBuffer(index, ++segment_places[index].generation, std::move(segment));
  if (made == nullptr) {
    account.Discharge(size);
    return COROIPC_NO_MEMORY;
  }
  charged += size;
  segment_places[index].fd = std::move(fd);
  made->owner = Owner::kUsed;
  *buffer = made;
  return COROIPC_OK;
}

Status coroipcs_connection::Share(coroipc_buffer& buffer) {
  coroipc::Fd& fd = segment_places[buffer.index].fd;
  if (!fd.valid()) return COROIPC_OK;
  if (write_watched) return COROIPC_AGAIN;
  const coroipc_segment_message message = {COROIPC_SOCKET_SEGMENT, buffer.index,
                                           static_cast<uint32_t>(buffer.segment.bytes()),
                                           buffer.generation};
  const Status status =
      coroipc::SendMessage(socket_.get(), &message, sizeof message, fd.get(), false);
  if (status == COROIPC_OK) {
    fd.Reset();
    return COROIPC_OK;
  }
  if (status == COROIPC_PEER_DEAD) {
    HangUp(false);
    loop_.MarkReady(*this);
  } else if (status != COROIPC_AGAIN) {
    // Out of kernel memory, or ETOOMANYREFS: fds that nobody reads count against our RLIMIT_NOFILE.
    loop_.Log(40, "a segment could not be sent: out of memory, or of fds in flight");
    OweDoorbell(kShareRetryNs);
  } else if (!loop_.WatchWritable(*this, true)) {
    OweDoorbell();
  }
  return COROIPC_AGAIN;
}

void coroipcs_connection::OnBufferReturned(coroipc_buffer& buffer) {
  if (buffer.lent) return;  // goes back with its answer
  buffer.owner = Owner::kFree;
  FlushBacklogs();
  if (phase_ == Phase::kOpen) BufferFreed();
}

// A segment came back: whoever was told FULL may ask again, unless the backlog has to drain first.
void coroipcs_connection::BufferFreed() {
  if (!buffer_wanted || drain_wanted) return;
  buffer_wanted = false;
  loop_.PushEvent(Row(COROIPC_KIND_DRAIN));
  loop_.MarkReady(*this);
}

Status coroipcs_connection::OnSegmentMessage(const coroipc_segment_message& message,
                                             coroipc::Fd fd) {
  (void)message;
  (void)fd;
  return COROIPC_PROTOCOL;  // memory is the server's to make
}

Status coroipcs_connection::Grant(const coroipc_record& header, const uint8_t* payload) {
  uint32_t bytes;
  if (header.bytes != sizeof bytes) return COROIPC_PROTOCOL;
  if (draining()) return COROIPC_OK;  // nobody is there to take it
  coroipc::CopyIn(&bytes, payload, sizeof bytes);
  return GrantSegment(header.correlation, bytes);
}

// OK: granted, refused, or kept until there is one. AGAIN: no room on the socket, later.
Status coroipcs_connection::GrantSegment(uint32_t correlation, uint32_t bytes) {
  coroipc_record grant = {};
  grant.kind = COROIPC_RECORD_SEGMENT_GRANT;
  grant.correlation = correlation;
  coroipc_buffer* buffer = nullptr;
  Status status =
      bytes == 0 || bytes > message_bytes_ ? COROIPC_TOO_LARGE : AcquireSegment(bytes, &buffer);
  if (status == COROIPC_AGAIN) {
    // Some come back. A queued message waits for that, one at a time; a caller is told at once.
    if (coroipc::SlotOf(correlation) == coroipc::kQueueSlot && !want_waits) {
      want_waits = true;
      want_correlation = correlation;
      want_bytes = bytes;
      return COROIPC_OK;
    }
    status = COROIPC_LIMIT;
  }
  if (status == COROIPC_OK && Share(*buffer) != COROIPC_OK) {
    buffer->owner = Owner::kFree;
    grant_waits = true;
    return COROIPC_AGAIN;
  }
  grant_waits = false;
  if (status != COROIPC_OK) {
    grant.status = status;
    return Send(kResponse, grant, nullptr, 0, 0);
  }
  buffer->granted = true;
  buffer->owner = Owner::kAway;
  const coroipc_segment_reference reference = {buffer->index, 0, bytes, buffer->generation};
  grant.argument = buffer->index;
  grant.flags = COROIPC_FLAG_SEGMENT;
  const struct iovec part = {const_cast<coroipc_segment_reference*>(&reference), sizeof reference};
  return Send(kResponse, grant, &part, 1, sizeof reference);
}

void coroipcs_connection::OnFlush() {
  if (!want_waits || draining()) return;
  want_waits = false;
  const Status status = GrantSegment(want_correlation, want_bytes);
  if (status == COROIPC_AGAIN) {
    want_waits = true;
  } else if (status != COROIPC_OK && phase_ == Phase::kOpen) {
    End(status);
  }
}

bool coroipcs_connection::Owns(const coroipc_buffer* buffer) const {
  return buffer != nullptr && buffer->index < segments_max_ && BufferAt(buffer->index) == buffer &&
         buffer->owner == Owner::kUsed;
}

// Whether there would be a segment of this size if everything that is out came back.
bool coroipcs_connection::CouldFree(uint32_t bytes) const {
  uint64_t out = 0;
  for (uint32_t i = 0; i < segments_max_; ++i) {
    if (BufferAt(i) != nullptr && BufferAt(i)->owner != Owner::kFree)
      out += BufferAt(i)->segment.bytes();
  }
  const uint64_t size = SegmentSize(bytes);
  return out != 0 && charged - out + size <= server.options.segment_bytes &&
         account.bytes - std::min(account.bytes, out) + size <= account.limit;
}

Status coroipcs_connection::AllocateBuffer(uint32_t bytes, coroipc_buffer** buffer) {
  if (phase_ != Phase::kOpen) return status_ == COROIPC_OK ? COROIPC_DISCONNECTED : status_;
  if (bytes == 0) return COROIPC_INVALID_ARGUMENT;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  TakeReturnedBuffers();  // what was let go of since the last turn
  if (phase_ != Phase::kOpen) return status_;
  const Status status = AcquireSegment(bytes, buffer);
  // LIMIT also when the client has them all as its own buffers. No answer waits for those, it may
  // keep them for ever; who asks here can choose to wait.
  if (status == COROIPC_AGAIN || (status == COROIPC_LIMIT && CouldFree(bytes))) {
    buffer_wanted = true;
    return COROIPC_FULL;
  }
  if (status != COROIPC_OK) return status;
  (*buffer)->bytes = bytes;
  (*buffer)->AddUser();
  return COROIPC_OK;
}

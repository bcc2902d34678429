// flow.pml: the flow_control word beside the dispatch ring: what waits for room makes the server turn it on, what has left turns
// it off, and the client is told of both, also while it leaves dispatches unread. native/src/server_connection.cc
// (OnBacklogChanged), client_messages.cc (MoreToDo, Reads), connection.cc (FlushBacklogs, Arm).
//
// A client that does not read dispatches sleeps on the response ring alone, so the server takes that ring's sleep word for this
// word. The application changes its mind about reading at any time, C times. Checked, when nobody can do anything any more: the
// client knows what the word says, the word says whether anything waits, and nothing lies unread that is to be read; and
// (progress) nobody runs for ever.
//
// HOLDS -DN=4 -DC=3: who sleeps has been told
// HOLDS -DN=4 -DC=3 -DCD=2: the same with room for two
// HOLDS -DN=3 -DC=2 -DTOK=2 -DFAIL: the same when a doorbell may fail and is owed then
// HOLDS progress: nobody looks for ever
// LONG -DN=6 -DC=5 -DCD=2 -DTOK=2 -DFAIL: the same, more of all
// MUTANT M_FLOW_RELEASE violates: flow_control set by a release store
// MUTANT M_FLOW_PEEKED violates: the server looks whether the client sleeps, and sets flow_control then
// MUTANT M_FLOW_ON_UNRUNG violates: flow_control is turned on without a doorbell
// MUTANT M_FLOW_OFF_UNRUNG violates: flow_control is turned off without a doorbell
// MUTANT M_FLOW_DISPATCH_WORD violates: it is told to those only who sleep on the dispatch ring
// MUTANT M_FLOW_NO_LOOK violates: no second look at flow_control after arming
// MUTANT M_FLOW_LEFT_ON violates: a backlog that has left by the flush leaves flow_control on
// MUTANT M_FLOW_LOOK_FIRST violates: the client looks at flow_control before it arms, and takes that for the second look
// MUTANT M_NO_WANTS violates: what waits does not arm writer_wants
// MUTANT M_NOT_OWED -DFAIL violates: a doorbell that could not be sent is forgotten
#ifndef N
#define N 3  // dispatches
#endif
#ifndef C
#define C 2
#endif
#ifndef CD
#define CD 1  // capacity
#endif
#define CLIENT 0
#define SERVER 1
#define WORDS 6
#define WD 0
#define RD 1
#define SD 2  // reader_sleep of the dispatch ring
#define ND 3  // its writer_wants
#define SR 4  // reader_sleep of the response ring
#define FLOW 5
#include "memory.pml"

byte rd, back    // read; in the backlog
bit told         // what the client knows
bit reading = 1  // whether the application takes dispatches

#ifdef M_FLOW_DISPATCH_WORD
#define WORD SD
#else
#define WORD SR
#endif
#ifdef M_FLOW_RELEASE
#define SET_FLOW STORE
#else
#define SET_FLOW STORE_SEQ_CST
#endif
#if defined(M_FLOW_ON_UNRUNG)
#define RINGS(v) (v == 0)
#elif defined(M_FLOW_OFF_UNRUNG)
#define RINGS(v) (v == 1)
#else
#define RINGS(v) true
#endif

inline Flow(v) {
#ifdef M_FLOW_PEEKED
  TakeByExchange(SERVER, WORD, CLIENT, x)
  SET_FLOW(SERVER, FLOW, v)
#else
  SET_FLOW(SERVER, FLOW, v)
  if :: RINGS(v) -> TakeByExchange(SERVER, WORD, CLIENT, x) :: else fi
#endif
}

active proctype Server() {
  byte sent, wd, wdp, x
turn:
  atomic { if :: socket[SERVER] > 0 -> socket[SERVER] = 0 :: else fi }
  do
  :: back > 0 && wd - LOAD(SERVER, RD) < CD ->
     atomic { back--; wd++ }
#ifndef M_FLOW_LEFT_ON
     if :: back == 0 -> Flow(0) :: else fi
#endif
  :: back == 0 || wd - LOAD(SERVER, RD) >= CD -> break
  od
send:
  if
  :: sent < N ->  // nothing goes past what waits
     sent++
progress_send:
     if
     :: back == 0 && wd - LOAD(SERVER, RD) < CD -> wd++
     :: back == 0 && wd - LOAD(SERVER, RD) >= CD -> back++; Flow(1)
     :: back > 0 -> back++
     fi
  :: true
  fi
  if
  :: wd != wdp -> wdp = wd; STORE_SEQ_CST(SERVER, WD, wd); TakeByExchange(SERVER, SD, CLIENT, x)
  :: else
  fi
#ifndef M_NO_WANTS
  if :: back > 0 -> STORE_SEQ_CST(SERVER, ND, 1) :: else fi
#endif
  if :: back > 0 && wd - LOAD(SERVER, RD) < CD -> goto disarm :: else fi
end_sleep:
  if
  :: socket[SERVER] > 0
  :: sent < N ->  // the application sends, or may later
progress_application:
     skip
  fi
disarm:
  STORE(SERVER, ND, 0)
  goto turn
}

active proctype Client() {
  byte rdp, changes, x
  bit more
  if :: changes = 0 :: changes = 1 fi  // so that the last one may be to either side
turn:
  atomic { if :: socket[CLIENT] > 0 -> socket[CLIENT] = 0 :: else fi }
  if
  :: reading && LOAD(CLIENT, WD) != rd ->
     rd++
progress_read:
     more = LOAD(CLIENT, WD) != rd
  :: !reading || LOAD(CLIENT, WD) == rd -> more = 0
  fi
  if
  :: rd != rdp -> rdp = rd; STORE_SEQ_CST(CLIENT, RD, rd); TakeByExchange(CLIENT, ND, SERVER, x)
  :: else
  fi
  told = LOAD(CLIENT, FLOW)
  if :: more -> more = 0; goto turn :: else fi
#ifdef M_FLOW_LOOK_FIRST
  if :: LOAD(CLIENT, FLOW) != told -> goto turn :: else fi
#endif
  STORE_SEQ_CST(CLIENT, SR, 1)
  if :: reading -> STORE_SEQ_CST(CLIENT, SD, 1) :: else fi
  if :: reading && LOAD(CLIENT, WD) != rd -> goto disarm :: else fi
#if !defined(M_FLOW_NO_LOOK) && !defined(M_FLOW_LOOK_FIRST)
  if :: LOAD(CLIENT, FLOW) != told -> goto disarm :: else fi
#endif
end_sleep:
  if
  :: socket[CLIENT] > 0
  :: changes < C -> changes++; reading = !reading
  fi
disarm:  // the sleeper itself may clear plainly
  STORE(CLIENT, SR, 0)
  STORE(CLIENT, SD, 0)
  goto turn
}

active proctype Observer() {
  timeout
  assert(told == mem[FLOW])
  assert(mem[FLOW] == (back > 0))
  assert(!reading || (rd == mem[WD] && back == 0))
}

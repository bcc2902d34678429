// connection.pml: one connection, three rings, both processes: backlogs, room (writer_wants), the bound of unsent answers,
// blocking calls beside an event loop, handlers that answer at once, later or not before 'drain'; for death.pml the death of
// either side at any step with the final drain. native/src/connection.cc (Turn, Arm, Disarm, RungByWords, PublishOut,
// FlushBacklogs, BeginFinalDrain, End), server_connection.cc (Overflowing, Reads), client_messages.cc (Reads, KeepSink), client_blocking.cc.
//
// Left out: time (so a hang here is one that only a deadline would end), segments, the handshake, sizes of records.
//
// Checked: nobody hangs; no record is lost, doubled or out of order; unsent answers stay bounded; and (progress) nobody runs
// for ever without a record being moved.
//
// HOLDS -DN=2: no hang, nothing lost
// HOLDS -DN=2 -DD=0 -DTOK=2: the same where a doorbell may lie behind the one that was taken
// HOLDS -DN=2 -DD=0 -DTOK=2 -DBY_WORDS=1: the same where a loop that somebody else woke sees by the words what was rung for
// HOLDS -DN=3 -DD=0 -DU=1 -DCQ=1: unsent answers bounded, no dispatches
// HOLDS -DONE_WAY -DN=3 -DD=0: one-way messages, which no answer follows
// HOLDS -DN=2 -DD=0 -DFAIL: no hang when a doorbell may fail and is owed
// HOLDS -DD=2 -DHANDLER_WAITS: a handler that waits for 'drain' before it answers, a client that blocks
// HOLDS -DMISER -DN=4 -DU=2 -DD=0 -DCQ=2: a client that asks and never reads: the server sleeps, the bound holds
// HOLDS -DMISER -DN=4 -DU=2 -DD=0 -DCQ=2 progress: and does not spin
// HOLDS -DN=2 -DD=0 -DU=1 progress: nobody spins
// LONG -DPIPELINED -DN=4 -DD=0 -DU=1: batches of requests, answers bounded
// LONG -DN=3: no hang, nothing lost
// LONG -DN=2 -DBY_WORDS=1: no hang, nothing lost, where somebody else wakes a loop
// LONG -DN=3 -DU=1 -DCQ=1: the same with a bound of one unsent answer
// LONG -DN=2 -DCR=2 -DCD=2 -DK=2 -DFAIL: larger rings, space given back lazily, a doorbell that fails
// LONG -DN=2 -DU=1 progress: nobody spins, with dispatches
// MUTANT M_PUBLISH_RELEASE hangs: positions published by release stores
// MUTANT M_ARM_RELEASE hangs: sleep words set by release stores
// MUTANT M_PLAIN_CLEAR hangs: words taken by a plain store
// MUTANT M_NO_LOOK hangs: no second look after arming
// MUTANT M_LISTED_ARMED -DD=0 -DCQ=2 -DONE_WAY -DN=3 hangs: reads its bound, arms, and does not look again for what it left
// MUTANT M_NO_GIVE_BACK -DK=3 hangs: read_position not given back at the end of a turn
// MUTANT M_RESPONSE_ONLY -DD=2 hangs: the event loop arms the response ring and not the dispatch ring
// MUTANT M_NO_WANTS_REQUEST -DONE_WAY -DN=3 -DD=0 hangs: queued requests do not arm writer_wants
// MUTANT M_NO_WANTS_RESPONSE hangs: queued answers do not arm writer_wants
// MUTANT M_NO_WANTS_DISPATCH -DD=2 hangs: queued dispatches do not arm writer_wants
// MUTANT M_NO_DRAIN_WHILE_FULL -DPIPELINED -DN=4 -DD=0 -DU=1 hangs: a client that waits for room in the request ring reads no answers
// MUTANT M_KEPT_UNTOLD hangs: answers that a blocking call read for others are not announced to the event loop
// MUTANT M_BLOCKED_NO_DISPATCH -DHANDLER_WAITS -DD=2 hangs: a blocking call does not drain dispatches
// MUTANT M_UNBOUNDED -DMISER -DN=5 -DU=2 -DD=0 -DCQ=2 violates: requests are read however many answers are unsent
// MUTANT M_STOPPED_ARMED -DMISER -DN=4 -DU=2 -DD=0 -DCQ=2 progress spins: a connection that must not be read arms its sleep word
// MUTANT M_STOPPED_READY -DMISER -DN=4 -DU=2 -DD=0 -DCQ=2 progress spins: a connection that must not be read stays on the ready list
// MUTANT M_STOPPED_UNLOOKED -DN=3 -DD=0 -DU=1 -DCQ=1 hangs: after the wake for room the requests are looked at only when rung for
// MUTANT M_BACKLOG_PASSED -DN=3 -DD=0 violates: an answer goes past those that wait
// MUTANT M_LEFT_ARMED -DN=3 -DD=0 -DTOK=2 hangs: a doorbell that was left is read after arming, and whatever else is there
// MUTANT M_NOT_OWED -DN=2 -DD=0 -DFAIL hangs: a doorbell that could not be sent is forgotten
#ifndef N
#define N 2  // requests, at most 5
#endif
#ifndef D
#define D 1  // dispatches
#endif
#ifndef CQ
#define CQ 1  // capacities: requests, responses, dispatches
#endif
#ifndef CR
#define CR 1
#endif
#ifndef CD
#define CD 1
#endif
#ifndef U
#define U N  // unsent answers at which requests are left unread
#endif
#ifndef K
#define K 1  // records after which space is given back
#endif
#ifndef B
#define B 1  // records of a ring that a turn reads
#endif
#ifdef ONE_WAY  // but the last one
#define WANTS_ANSWER(id) (id == N)
#define ANSWERS 1
#else
#define WANTS_ANSWER(id) true
#define ANSWERS N
#endif
#define CLIENT 0
#define SERVER 1
#define WORDS 12
#define WQ 0
#define RQ 1
#define SQ 2
#define NQ 3
#define WR 4
#define RR 5
#define SR 6
#define NR 7
#define WD 8
#define RD 9
#define SD 10
#define ND 11
#include "memory.pml"

byte q[CQ], r[CR], d[CD]
byte dispatched         // ghost: accepted dispatches
bit closed_c, closed_s  // ended in order
bit dead_c, dead_s
chan answered = [N] of { byte }  // ghost: the order of answers
#ifdef DEATH
#define ALIVE(dead) provided (!dead)
#else
#define ALIVE(dead)
#endif
// Who is dead has no stores left by the time that the kernel tells the other.
#define GONE_C (closed_c || dead_c && EMPTY(CLIENT))
#define GONE_S (closed_s || dead_s && EMPTY(SERVER))

#ifdef M_PUBLISH_RELEASE
#define PUBLISH STORE
#else
#define PUBLISH STORE_SEQ_CST
#endif
#ifdef M_ARM_RELEASE
#define SET STORE
#else
#define SET STORE_SEQ_CST
#endif
inline Take(p, a, other) {
#ifdef M_PLAIN_CLEAR
  TakeByStore(p, a, other, x)
#else
  TakeByExchange(p, a, other, x)
#endif
}

inline Publish(p, position, published, a, word, other) {
  if
  :: position != published -> published = position; PUBLISH(p, a, position); Take(p, word, other)
  :: else
  fi
}

#ifdef M_KEPT_UNTOLD
#define UNTOLD told
#else
#define UNTOLD (settled < answers)
#endif

active proctype Client() ALIVE(dead_c) {
  byte issued, wq, wqp, rr, rrp, rd, rdp, seen, n, x
  byte answers, settled  // read; known to the application
  bit blocking, hup, unread, left, more, told
#ifdef BY_WORDS
  byte words
#endif
  byte got                     // ghost: which answers

application:
  blocking = 0
#ifdef MISER
  if :: issued < N -> issued++; goto turn :: else -> goto turn fi
#endif
  if
  :: issued == N && settled == ANSWERS && rd == dispatched -> goto fin
  :: else
  fi
  if
#ifdef PIPELINED
  :: issued < N -> issued = N
#endif
  :: issued < N -> issued++
  :: issued < N && WANTS_ANSWER(issued + 1) -> issued++; blocking = 1
  :: issued > 0  // runs its event loop
  fi
turn:
  more = 0
  if
  :: unread && !hup ->
     atomic {
       if :: socket[CLIENT] > 0 -> socket[CLIENT]--; unread = socket[CLIENT] > 0
          // Something was found for it: whether there is another one is left to the next sleep.
          :: socket[CLIENT] > 0 && (LOAD(CLIENT, WR) != rr || LOAD(CLIENT, WD) != rd || (wq < issued && wq - LOAD(CLIENT, RQ) < CQ)) ->
             socket[CLIENT]--; unread = 0
          // Or has been taken already.
          :: socket[CLIENT] > 0 && left -> socket[CLIENT]--; unread = 0
          :: else -> unread = 0
       fi
       left = 0
     }
#ifndef MISER
  :: unread && !hup && !left && (LOAD(CLIENT, WR) != rr || LOAD(CLIENT, WD) != rd) -> left = 1  // what it was rung for first
#endif
  :: else
  fi
  if
  :: hup -> goto drain
  :: else
  fi
flush:
  do
  :: wq < issued && wq - LOAD(CLIENT, RQ) < CQ -> atomic { q[wq % CQ] = wq + 1; wq++ }
  :: wq == issued || wq - LOAD(CLIENT, RQ) >= CQ -> break
  od
  if
  :: wq != wqp ->
progress_request:
     Publish(CLIENT, wq, wqp, WQ, SQ, SERVER)
  :: else
  fi
#ifdef MISER
  goto arm
#endif
#ifdef M_NO_DRAIN_WHILE_FULL
  if
  :: wq < issued ->
     SET(CLIENT, NQ, 1)
     if :: wq - LOAD(CLIENT, RQ) < CQ -> goto disarm :: else -> goto sleep fi
  :: else
  fi
#endif
  n = 0
  seen = LOAD(CLIENT, WR)
  do
  :: rr < seen && n < B ->
     atomic {
       answered?x; assert(r[rr % CR] == x && !(got & (1 << x)))
       got = got | (1 << x); x = 0
       rr++; n++; answers++
       told = told || !blocking
     }
progress_response:
     if :: rr - rrp >= K -> Publish(CLIENT, rr, rrp, RR, NR, SERVER) :: else fi
  :: else -> more = rr < seen; break
  od
#ifndef M_NO_GIVE_BACK
  Publish(CLIENT, rr, rrp, RR, NR, SERVER)
#endif
#ifdef M_BLOCKED_NO_DISPATCH
  if
  :: !blocking ->
#else
  if
  :: true ->
#endif
     n = 0
     seen = LOAD(CLIENT, WD)
     do
     :: rd < seen && n < B -> atomic { assert(d[rd % CD] == rd + 1); rd++; n++ }
progress_dispatch:
        if :: rd - rdp >= K -> Publish(CLIENT, rd, rdp, RD, ND, SERVER) :: else fi
     :: else -> more = more || rd < seen; break
     od
#ifndef M_NO_GIVE_BACK
     Publish(CLIENT, rd, rdp, RD, ND, SERVER)
#endif
  :: else
  fi
  n = 0; seen = 0
  if
  :: blocking && (got & (1 << issued)) ->
     settled++  // its own; those of others wait in private memory, and the connection is ready
     goto application
  :: else
  fi
  if
  :: more || unread -> goto turn
  :: else
  fi
  if
  :: !blocking && UNTOLD -> settled = answers; told = 0; goto application
  :: !blocking && issued == N && settled == ANSWERS && rd == dispatched -> goto fin
  :: !blocking && issued < N ->
progress_timer:  // of the application
     goto application
  :: blocking || issued == N && !(UNTOLD) && (settled < ANSWERS || rd != dispatched)
  fi
arm:
#ifndef MISER
  SET(CLIENT, SR, 1)
#if defined(M_RESPONSE_ONLY) || defined(M_BLOCKED_NO_DISPATCH)
#ifdef M_BLOCKED_NO_DISPATCH
  if :: !blocking -> SET(CLIENT, SD, 1) :: else fi
#endif
#else
  SET(CLIENT, SD, 1)
#endif
#endif
#ifndef M_NO_WANTS_REQUEST
  if :: wq < issued -> SET(CLIENT, NQ, 1) :: else fi
#endif
#ifndef M_NO_LOOK
  if
#ifndef MISER
  :: LOAD(CLIENT, WR) != rr -> goto disarm
#endif
  :: else
  fi
  if
#if !defined(MISER) && !defined(M_RESPONSE_ONLY)
#ifdef M_BLOCKED_NO_DISPATCH
  :: !blocking && LOAD(CLIENT, WD) != rd -> goto disarm
#else
  :: LOAD(CLIENT, WD) != rd -> goto disarm
#endif
#endif
  :: else
  fi
  if
  :: wq < issued && wq - LOAD(CLIENT, RQ) < CQ -> goto disarm
  :: else
  fi
#endif
sleep:
#ifdef MISER
end_sleep:
#endif
  if
  :: socket[CLIENT] > 0
#ifdef BY_WORDS  // RungByWords
  :: words < BY_WORDS && !blocking && LOAD(CLIENT, SR) == 0 && LOAD(CLIENT, WR) != rr -> words++
  :: words < BY_WORDS && !blocking && LOAD(CLIENT, SD) == 0 && LOAD(CLIENT, WD) != rd -> words++
#endif
#ifdef MISER
  :: issued < N -> goto application
#else
#ifndef M_NO_HANGUP
  :: GONE_S -> hup = 1
#endif
#endif
  fi
  unread = 1
disarm:  // the sleeper itself may clear plainly
  STORE(CLIENT, SR, 0)
  STORE(CLIENT, SD, 0)
  STORE(CLIENT, NQ, 0)
  goto turn

drain:
#ifndef M_NO_DRAIN
  n = 0
#ifndef M_DRAIN_OLD_LOOK
  seen = LOAD(CLIENT, WR)
#else
  seen = rr
#endif
  do
  :: rr < seen ->
     atomic {
       answered?x; assert(r[rr % CR] == x && !(got & (1 << x)))
       got = got | (1 << x); x = 0
       rr++; n++
     }
#ifdef M_DRAIN_ONE_TURN
     if :: n == B -> break :: else fi
#endif
  :: else -> break
  od
  seen = LOAD(CLIENT, WD)
  do
  :: rd < seen -> atomic { assert(d[rd % CD] == rd + 1); rd++ }
  :: else -> break
  od
#endif
  assert(rr == mem[WR] && rd == mem[WD])
fin:
  closed_c = 1
}

#ifdef HANDLER_WAITS
#define CAN_ANSWER(id) ((later & (1 << id)) && (back == 0 || !(waits & (1 << id))))
#define ANY_ANSWER (back == 0 && later != 0 || (later & ~waits) != 0)
#else
#define CAN_ANSWER(id) (later & (1 << id))
#define ANY_ANSWER (later != 0)
#endif
// The handler of a request answers some time later: any of those that are due, in any order.
inline Fire() {
  atomic {
    if
    :: CAN_ANSWER(1) -> x = 1
    :: CAN_ANSWER(2) -> x = 2
    :: CAN_ANSWER(3) -> x = 3
    :: CAN_ANSWER(4) -> x = 4
    :: CAN_ANSWER(5) -> x = 5
    fi
    later = later & ~(1 << x)
    out!x; answered!x
#ifdef MISER
    flight--
    assert(len(out) <= 2 * U - 1)
#endif
    x = 0
  }
}

active proctype Server() ALIVE(dead_s) {
  byte rq, rqp, wr, wrp, wd, wdp, seen, n, x
  byte later, waits, back
  bit hup, unread, left, more, rung, armed, was_stopped
  byte flight
#ifdef BY_WORDS
  byte words
#endif
  chan out = [N] of { byte }

turn:
  more = 0
  if
  :: unread && !hup ->
     atomic {
       if :: socket[SERVER] > 0 -> socket[SERVER]--; unread = socket[SERVER] > 0
          // Something was found for it: whether there is another one is left to the next sleep.
          :: socket[SERVER] > 0 && (LOAD(SERVER, WQ) != rq || (len(out) > 0 && wr - LOAD(SERVER, RR) < CR)) ->
             socket[SERVER]--; unread = 0
          // Or has been taken already.
          :: socket[SERVER] > 0 && left -> socket[SERVER]--; unread = 0
          :: else -> unread = 0
       fi
       left = 0
     }
  :: unread && !hup && !left && len(out) < U && LOAD(SERVER, WQ) != rq -> left = 1  // what it was rung for first
  :: else
  fi
  if
  :: hup -> goto drain
  :: else
  fi
flush:
  do
#ifdef M_BACKLOG_PASSED
  :: len(out) > 1 && wr - LOAD(SERVER, RR) < CR ->
     atomic { out?x; out!x; out?x; r[wr % CR] = x; wr++; x = 0 }
#endif
  :: len(out) > 0 && wr - LOAD(SERVER, RR) < CR -> atomic { out?x; r[wr % CR] = x; wr++; x = 0 }
  :: len(out) == 0 || wr - LOAD(SERVER, RR) >= CR -> break
  od
  do
  :: back > 0 && wd - LOAD(SERVER, RD) < CD -> atomic { back--; d[wd % CD] = wd + 1; wd++ }
  :: back == 0 || wd - LOAD(SERVER, RD) >= CD -> break
  od
  // PublishOut: dispatches before answers, both before anybody is woken.
  rung = 0
  if :: wd != wdp -> wdp = wd; PUBLISH(SERVER, WD, wd); rung = 1 :: else fi
  if
  :: wr != wrp -> wrp = wr; PUBLISH(SERVER, WR, wr)
progress_answer:
     Take(SERVER, SR, CLIENT)
  :: else
  fi
  if :: rung -> Take(SERVER, SD, CLIENT); rung = 0 :: else fi
  if
  :: armed ->  // an answer sent while asleep: what has to wait makes the connection ready
     armed = 0
     if :: len(out) == 0 -> goto sleep :: else -> goto disarm fi
  :: else
  fi

  n = 0
  seen = LOAD(SERVER, WQ)
  do
#ifdef M_UNBOUNDED
  :: rq < seen && n < B ->
#else
#ifdef M_STOPPED_UNLOOKED
  :: rq < seen && n < B && len(out) < U && !was_stopped ->
#else
  :: rq < seen && n < B && len(out) < U ->
#endif
#endif
     atomic {
       assert(q[rq % CQ] == rq + 1); rq++; n++
#ifdef MISER
       if :: flight == U -> goto fin :: else -> flight++ fi  // more than may be in flight: PROTOCOL
#endif
       if
       :: !WANTS_ANSWER(rq)
       :: WANTS_ANSWER(rq) -> later = later | (1 << rq)  // at once or at any time: see below
       :: WANTS_ANSWER(rq) && dispatched < D ->
          dispatched++; back++
          later = later | (1 << rq); waits = waits | (1 << rq)
       fi
     }
progress_request:
     if :: rq - rqp >= K -> Publish(SERVER, rq, rqp, RQ, NQ, CLIENT) :: else fi
  :: else -> more = n == B && rq < LOAD(SERVER, WQ); break
  od
#ifndef M_NO_GIVE_BACK
  Publish(SERVER, rq, rqp, RQ, NQ, CLIENT)
#endif
  n = 0; seen = 0
  if
  :: ANY_ANSWER -> Fire(); goto flush
  :: true
  fi
#ifdef M_LISTED_ARMED
  if :: more -> SET(SERVER, SQ, 1); goto sleep :: else fi
#endif
#ifdef M_STOPPED_READY
  if :: more || len(out) >= U && rq < LOAD(SERVER, WQ) -> goto turn :: else fi
#endif
  if
#ifdef M_LEFT_ARMED
  :: more && len(out) < U || unread && !left -> goto turn
#else
  :: more && len(out) < U || unread -> goto turn
#endif
  :: else
  fi
#ifdef M_STOPPED_UNLOOKED
  if :: was_stopped && len(out) < U -> SET(SERVER, SQ, 1); was_stopped = 0; goto sleep :: else -> was_stopped = len(out) >= U fi
#endif
#ifdef M_STOPPED_ARMED
  SET(SERVER, SQ, 1)
#else
  if :: len(out) < U -> SET(SERVER, SQ, 1) :: else fi
#endif
#ifndef M_NO_WANTS_RESPONSE
  if :: len(out) > 0 -> SET(SERVER, NR, 1) :: else fi
#endif
#ifndef M_NO_WANTS_DISPATCH
  if :: back > 0 -> SET(SERVER, ND, 1) :: else fi
#endif
#ifndef M_NO_LOOK
#ifdef M_STOPPED_ARMED
  if :: LOAD(SERVER, WQ) != rq -> goto disarm :: else fi
#else
  if :: len(out) < U && LOAD(SERVER, WQ) != rq -> goto disarm :: else fi
#endif
  if :: len(out) > 0 && wr - LOAD(SERVER, RR) < CR -> goto disarm :: else fi
  if :: back > 0 && wd - LOAD(SERVER, RD) < CD -> goto disarm :: else fi
#endif
#ifdef M_LEFT_ARMED
  if :: left -> atomic { socket[SERVER] = 0; left = 0; unread = 0 } :: else fi
#endif
sleep:
#ifdef MISER
end_sleep:
#endif
  if
  :: socket[SERVER] > 0
#ifdef BY_WORDS  // RungByWords
  :: words < BY_WORDS && LOAD(SERVER, SQ) == 0 && LOAD(SERVER, WQ) != rq && len(out) < U -> words++
#endif
  :: ANY_ANSWER -> Fire(); armed = 1; goto flush
#ifndef M_NO_HANGUP
  :: GONE_C -> hup = 1
#endif
  fi
  unread = 1
disarm:
  STORE(SERVER, SQ, 0)
  STORE(SERVER, NR, 0)
  STORE(SERVER, ND, 0)
  goto turn

drain:
#ifndef M_NO_DRAIN
  n = 0
#ifndef M_DRAIN_OLD_LOOK
  seen = LOAD(SERVER, WQ)
#else
  seen = rq
#endif
  do
  :: rq < seen ->
     atomic { assert(q[rq % CQ] == rq + 1); rq++; n++ }
#ifdef M_DRAIN_ONE_TURN
     if :: n == B -> break :: else fi
#endif
  :: else -> break
  od
#endif
  assert(rq == mem[WQ])
fin:
  closed_s = 1
}

#ifdef DEATH
active proctype Reaper() {
  if :: dead_c = 1 :: dead_s = 1 :: true fi
}
bit ended
active proctype Observer() {
  timeout
  atomic { ended = (closed_c || dead_c) && (closed_s || dead_s); assert(ended) }
}
#endif

// threads.pml: several threads of a C program on one connection, each in a blocking call: the first leads and polls for all,
// wakes those whose answer it found, and hands over when it leaves. Beside them a thread that does not wait but looks (a
// receive with a timeout of 0), and takes the leader's doorbell from it. native/src/client_blocking.cc (WaitUntil, Lead,
// Finished, WakeLeader), connection.cc (LeaveSocketForLater, DrainSocket, Turn, Arm).
//
// Memory is sequentially consistent here; ring.pml has the store buffers. The condition is a set of sleepers and an event
// wakes all of them; waits have no end, so that nothing rests on the slices of 50 ms. With -DGIVE_UP a call may end at its
// deadline, wherever it waits.
//
// HOLDS: two calls and a thread that looks
// HOLDS -DGIVE_UP: one of the two may give up
// HOLDS -DSILENT: the first is never answered, which is nothing to the other
// LONG -DT=3: three calls
// LONG -DT=3 -DGIVE_UP -DLOOKS=3: three calls, any of which gives up, and more looks
// MUTANT M_NO_LEADER hangs: each thread polls for itself
// MUTANT M_NOT_TOLD -DSILENT hangs: a leader keeps to itself that it found the answer of another
// MUTANT M_NO_HANDOVER hangs: a leader leaves without a word
// MUTANT M_LEADER_UNWOKEN hangs: who takes a doorbell does not wake the leader that sleeps over it
// MUTANT M_LATE_FLAG hangs: a leader lets go of the lock before it says that it sleeps
// MUTANT M_LEADS_STILL -DGIVE_UP hangs: a leader that gives up is still taken for one
#ifndef T
#define T 2  // threads in a call
#endif
#ifndef LOOKS
#define LOOKS 2
#endif
chan answers = [T] of { byte }  // the response ring: whose answer
bit sleeps                      // its reader_sleep
bit token                       // on the client's socket
bit left                        // it was left there: what it was rung for came first
bit lock, led
bit leader_sleeps, leader_wake  // Lead's flag, its eventfd
bit done[T], waits[T]           // waits on the condition

#ifdef SILENT
#define FIRST 2
#else
#define FIRST 1
#endif
#define LOCK atomic { !lock -> lock = 1 }

#ifdef SILENT
bit ended
active proctype Observer() { timeout; assert(ended) }
#endif

active proctype Server() {
  byte answered, who
#ifdef SILENT
  answered = 1
#endif
  do
  :: answered < (1 << T) - 1 ->
     atomic {
       if
       :: !(answered & 1) -> who = 0
       :: !(answered & 2) -> who = 1
#if T == 3
       :: !(answered & 4) -> who = 2
#endif
       fi
       answered = answered | (1 << who)
       answers!who
     }
     if :: atomic { sleeps -> sleeps = 0 }; token = 1 :: !sleeps fi
  :: else -> break
  od
}

inline Broadcast() {
  d_step {
    waits[0] = 0; waits[1] = 0
#if T == 3
    waits[2] = 0
#endif
  }
}
inline WakeLeader() {
#ifndef M_LEADER_UNWOKEN
  if :: leader_sleeps -> leader_wake = 1 :: else fi
#else
  skip
#endif
}
// DrainSocket or LeaveSocketForLater, and what is in the ring. Whoever holds the lock.
inline Turn() {
  if
  :: token && !left && nempty(answers) -> left = 1
  :: atomic { token -> token = 0 }; left = 0; WakeLeader()
  :: !token -> left = 0
  fi
  do
  :: atomic { answers?who -> done[who] = 1 }
#ifndef M_NOT_TOLD
     Broadcast(); WakeLeader()  // Finished
#endif
  :: empty(answers) -> break
  od
}

active [T] proctype Caller() {
  byte me = _pid - FIRST
  byte who
  bit gone
  LOCK
wait:  // WaitUntil
  if :: done[me] || gone -> goto leave :: else fi
#ifndef M_NO_LEADER
  if
  :: led ->
     waits[me] = 1
     lock = 0
#ifdef SILENT
end_waits:
#endif
     if
     :: !waits[me]
#ifdef GIVE_UP
     :: me == 0 -> gone = 1; waits[me] = 0
#endif
     fi
     LOCK
     goto wait
  :: else
  fi
#endif
  led = 1
lead:
  Turn()
  if :: done[me] || gone -> goto hand_over :: else fi
  if :: left -> goto lead :: else fi  // Arm: not over a socket that is unread
  sleeps = 1
  if :: nempty(answers) -> sleeps = 0; goto lead :: empty(answers) fi
#ifndef M_LATE_FLAG
  leader_sleeps = 1
#endif
  lock = 0
#ifdef M_LATE_FLAG
  leader_sleeps = 1
#endif
#ifdef SILENT
end_sleeps:
#endif
  if
  :: token
#ifndef M_NO_LEADER
  :: atomic { leader_wake -> leader_wake = 0 }
#endif
#ifdef GIVE_UP
  :: me == 0 -> gone = 1
#endif
  fi
  LOCK
  leader_sleeps = 0
  sleeps = 0
  goto lead
hand_over:
#ifndef M_LEADS_STILL
  led = 0
#else
  if :: gone :: else -> led = 0 fi
#endif
#ifndef M_NO_HANDOVER
  Broadcast()
#endif
leave:
#ifdef SILENT
  ended = 1
#endif
  lock = 0
}

active proctype Other() {
  byte looks, who
  do
  :: looks < LOOKS ->
     looks++
     LOCK
     Turn()
     lock = 0
  :: true -> break
  od
}

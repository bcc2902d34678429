// loop.pml: the lists of a loop: ready (by priority), hot, armed. One connection has work without end, the other is quiet and
// then has one request. native/src/loop.cc: Receive, RungByWords, LookAtFds, LookAtHot, AgeHot, Look, ArmOrList, MarkReady,
// DisarmRecent.
//
// Memory is sequentially consistent here; ring.pml has the store buffers. A turn hands out one row (the batch is full then).
// Whether the last look at the fds is older than 20 us, and whether a hot connection is old, is decided by the clock: here by
// counting turns. Checked under weak fairness: the quiet connection is served.
//
// HOLDS fair: a busy connection of the same priority
// HOLDS -DBUSY=2 fair: a busy connection of high priority, a quiet one of low
// HOLDS -DIDLE fair: nobody else: the loop sleeps, and is woken
// HOLDS -DBY_WORDS fair: the loop sleeps after each turn, and each time the words of the busy one say that it woke it
// MUTANT M_NO_FDS fair spins: the sockets are not looked at while somebody is ready
// MUTANT M_NEITHER fair spins: who is hot is neither looked at nor armed while somebody is ready
// MUTANT M_PRIORITY -DBUSY=2 fair spins: each turn starts at the high end of the priorities
// MUTANT M_SAME_START fair spins: each turn starts with the same connection
// MUTANT M_NO_LOOK -DIDLE fair spins: no second look after arming
// MUTANT M_HOT_SLEPT -DIDLE fair spins: the loop sleeps without arming who is hot
// MUTANT M_WORDS_ALWAYS -DBY_WORDS fair spins: the fds are not asked as long as words tell of somebody
// MUTANT M_CHECK_UNLISTED -DIDLE fair spins: after a sleep the words are cleared, and the connection stays among the armed
#ifndef BUSY
#define BUSY 1  // the busy one's priority
#endif
#if BUSY == 2
#define QUIET 0
#else
#define QUIET 1
#endif
#ifdef BY_WORDS
#define IDLE
#define BY_WORDS_MAX 2
#endif
mtype = { ready, hot, armed }
mtype list = hot      // of the quiet connection
bit busy_first        // which of the two is first on a ready list of both
bit written, sleep_word, token, served

active proctype Peer() {
  written = 1
  if
  :: atomic { sleep_word -> sleep_word = 0 }; token = 1
  :: !sleep_word
  fi
}

inline Look(list_it) {
  if :: written && !served -> list = ready :: else -> list_it fi
}
inline Arm() {
  sleep_word = 1
#ifndef M_NO_LOOK
  if :: written && !served -> sleep_word = 0; list = ready :: else -> list = armed fi
#else
  list = armed
#endif
}
inline Fds() {
  if
  :: token -> token = 0; if :: list == armed -> sleep_word = 0 :: else fi; list = ready
  :: else
  fi
}

active proctype Loop() {
  byte turn, age, others = 2, by_words
  bit quiet_first
  do
  :: true ->
     // Receive
#ifdef M_NO_FDS
#ifdef IDLE
     Fds()
#endif
#elif defined(BY_WORDS)
     // The busy one was rung. The quiet one may be among those whose words are asked, or not; when both were, so are the fds.
     if
#ifndef M_WORDS_ALWAYS
     :: list != ready && by_words < BY_WORDS_MAX ->
        by_words++
#else
     :: list != ready ->
#endif
        if
        :: list == armed && !sleep_word -> list = ready; by_words = 0; Fds()
        :: true
        fi
     :: else -> by_words = 0; Fds()
     fi
#else
     if :: turn % 2 == 0 -> Fds() :: else fi
#endif
     // Without the busy one nobody may be ready, and then the hot ones are looked at each time.
#ifndef M_NEITHER
     if :: list == hot && turn == 0 -> Look(skip) :: else fi
#endif
     turn = (turn + 1) % 4
     // kOrder: half of the turns start lower.
     d_step {
       quiet_first = 0
#if BUSY == 2
#ifndef M_PRIORITY
       if :: turn % 2 == 1 || turn == 2 -> quiet_first = 1 :: else fi
#endif
#else
       quiet_first = !busy_first
#endif
#ifdef IDLE
       quiet_first = 1
#endif
     }
     if
     :: list == ready && quiet_first ->
        if :: written && !served -> served = 1 :: else fi
        list = hot; age = 0
        busy_first = 1
     :: else ->  // the busy one fills the batch, and goes to the end of its list
#ifndef M_SAME_START
        busy_first = (list != ready)
#else
        busy_first = 1
#endif
     fi
#ifndef M_NEITHER
     if :: list == hot && age < 3 -> age++ :: list == hot && age == 3 -> Arm() :: else fi  // AgeHot
#endif
#ifdef IDLE
     // Look, then Sleep
     if
     :: list != ready ->
        if :: list == hot -> Look(skip) :: else fi
#ifndef M_HOT_SLEPT
        if :: list == hot -> Arm() :: else fi
#endif
        if
        :: list != ready ->
           if
           :: token  // readable
#ifndef BY_WORDS
           :: others > 0 -> others--  // or another fd is
#else
           :: true  // or the busy one's, as ever
#endif
           fi
           // uv_check: what was active lately
           if
           :: list == armed && !served ->
              sleep_word = 0
#ifndef M_CHECK_UNLISTED
              list = hot
#endif
           :: true
           fi
        :: else
        fi
     :: else
     fi
#endif
  od
}

ltl quiet_is_served { <> served }

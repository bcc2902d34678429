// What a subject of the benchmark is: something that carries messages between two processes. Either it
// says how its server and its client do one message (`sides`: the harness starts a Node process for
// each, the case drives them), or its client starts its server itself, as a child or a thread (`hosted`),
// or it brings a program that measures by itself (`program`).
//
// To add one: a file in bench/subjects that exports a Subject, and its line in subjects/index.ts.
// Libraries are imported inside serve() and connect(): a peer that is not installed fails its own rows.
import type { Measurement, Placement, Task } from './task.js'

interface SubjectBase {
  readonly name: string
  /** One line for the report: what it is, in which version. */
  readonly about: string
  /** Why this subject does not take part in a task; undefined: it does. */
  refuses(task: Task): string | undefined
  /**
   * Whether it takes part in a task beyond the usual ones (`isUsual` in plan.ts), which need more of a
   * subject than request, answer and dispatch: left out, it is not asked.
   */
  takes?(task: Task): boolean
  /**
   * Of a peer that is not installed with the project: what is missing, and the command that installs it.
   * undefined: it is here.
   */
  missing?(): string | undefined
  /** How often the bytes of a message (of request and answer, for a call) are copied on their way. */
  copies(task: Task): number
}

export interface SidesSubject extends SubjectBase {
  readonly kind: 'sides'
  /** In the server's process. Resolves when clients can connect. */
  serve(task: Task, path: string, work: ServerWork): Promise<Serving>
  /** In the client's process. */
  connect(task: Task, path: string): Promise<ClientSide>
}

export interface HostedSubject extends SubjectBase {
  readonly kind: 'hosted'
  /** In the client's process: starts the server's half on this CPU (null: anywhere) and ends it again. */
  connect(task: Task, serverCpu: number | null): Promise<ClientSide>
}

export interface ProgramSubject extends SubjectBase {
  readonly kind: 'program'
  measure(task: Task, placement: Placement): Promise<Measurement>
}

export type Subject = SidesSubject | HostedSubject | ProgramSubject

/** The server's work, the same for every subject. */
export interface ServerWork {
  /**
   * Reads the request and writes an answer, in memory that the next call overwrites. In `server-death`
   * nobody calls it: requests are left waiting there.
   */
  answer(request: Uint8Array): Uint8Array
  /** The same of a request that is `length` bytes at `offset` of memory which is used for the next. */
  answerAt(memory: Uint8Array, offset: number, length: number): Uint8Array
  /** A feed of dispatches for one connection. */
  feed(publisher: Publisher): Feed
}

/** How a subject's server sends one message unasked. */
export interface Publisher {
  /** False: not taken, call `feed.drained()` when there is room again. The memory is used again. */
  publish(payload: Uint8Array): boolean
  /** Before and after a burst, where the transport can put messages together. */
  cork?(): void
  uncork?(): void
}

export interface Feed {
  start(): void
  stop(): void
  drained(): void
}

export interface Serving {
  close(): Promise<void>
}

/** One connection. What a subject cannot do is left out, and `refuses` says so. */
export interface ClientSide {
  /** Blocks. The answer may lie in `into`. */
  requestSync?(payload: Uint8Array, into: Uint8Array): Uint8Array
  request?(payload: Uint8Array): Promise<Uint8Array>
  /**
   * Gives what sends a request whose answer `done` is called with: made once for many requests, as a hot loop has its
   * callback. An error ends the process: a measurement has no use for half of the answers.
   */
  requestCallback?(done: (answer: Uint8Array) => void): (payload: Uint8Array) => void
  /** The same, the answer a part of `memory` until `done` returns; requests reach `answerAt`. */
  requestTransient?(
    done: (memory: Uint8Array, offset: number, length: number) => void,
  ): (payload: Uint8Array) => void
  /** Makes the server's feed start; each payload is the receiver's own. */
  subscribe?(onPayload: (payload: Uint8Array) => void): void
  /** The same, each payload a part of `memory` until `use` returns. */
  subscribeTransient?(use: (memory: Uint8Array, offset: number, length: number) => void): void
  /**
   * Makes the server's feed start, the first time; blocks until the next message, which is lent to
   * `use` where it lies.
   */
  receiveInPlace?(use: (payload: Uint8Array) => void): void
  /** Memory that both sides map. */
  share?(bytes: number): SharedMemory
  /** The server has said something before this was handed out; else `connect` waits for a first answer. */
  readonly greeted?: true
  /** Of a client that started its server itself: SIGKILL. */
  killServer?(): void
  close(): Promise<void>
}

/** A payload that is written where the server will read it. */
export interface SharedMemory {
  readonly bytes: Uint8Array
  /** Sends what is in `bytes`, without copying it, and blocks until the answer, which may lie in `into`. */
  requestSync?(into: Uint8Array): Uint8Array
  /** The same for a subject that cannot block. */
  requestCallback?(done: (answer: Uint8Array) => void): void
  release(): void
}

/** `coroipc bench`: what a call costs on this machine, between two processes. The repository's bench/ compares with others. */
import { spawnSync } from 'node:child_process'
import os from 'node:os'
import type { Connection } from '@coroipc/ipcc'
import { connectTo } from '../client.js'
import { type Command, flag, integerOption } from '../command.js'
import { findCpus } from '../cpus.js'
import { Distribution, type Spread } from '../distribution.js'
import { CommandError } from '../errors.js'
import { bytesText, count, durationText, type Output } from '../output.js'
import { OwnServer, ownRequests, ownService, type Volley } from '../own-server.js'

const KIB = 1024
const IN_FLIGHT = 64
const SMALL = 64
const SIZES = [4 * KIB, 64 * KIB, 1024 * KIB]
/** Share of a measure's time that is spent before it, for compilers and for looking to be learnt. */
const WARM_UP = 0.25
/** Messages of one volley. */
const VOLLEY = 20_000

interface Measure {
  readonly title: string
  readonly bytes: number
  /** Bytes that a call moves: there and back, or one way. 0: not worth a bandwidth. */
  readonly moved: number
  /** Goes on until `until`, by performance.now(); how many there were. */
  run(
    connection: Connection,
    payload: Uint8Array,
    until: number,
    times: Distribution,
  ): Promise<number>
}

interface Result {
  readonly measure: string
  readonly bytes: number
  readonly perSecond: number
  readonly bytesPerSecond: number | undefined
  /** Asking to answer; undefined where nobody answers. */
  readonly us: Spread | undefined
}

function blocking(id: number): Measure['run'] {
  return async (connection, payload, until, times) => {
    let calls = 0
    for (let started = performance.now(); started < until; calls++) {
      connection.requestSync(id, payload)
      const now = performance.now()
      times.record(started, now)
      started = now
    }
    return calls
  }
}

function awaited(lanes: number): Measure['run'] {
  return async (connection, payload, until, times) => {
    let calls = 0
    const lane = async (): Promise<void> => {
      for (let started = performance.now(); started < until; calls++) {
        await connection.request(ownRequests.echo, payload)
        const now = performance.now()
        times.record(started, now)
        started = now
      }
    }
    await Promise.all(Array.from({ length: lanes }, lane))
    return calls
  }
}

/** Volleys of dispatches, each ordered when the one before has arrived. */
async function dispatches(
  connection: Connection,
  payload: Uint8Array,
  until: number,
): Promise<number> {
  const volley: Volley = { messages: VOLLEY, bytes: payload.length }
  const order = Buffer.from(JSON.stringify(volley))
  let arrived = 0
  let wake = (): void => {}
  const onDispatch = (): void => {
    if (++arrived % VOLLEY === 0) wake()
  }
  connection.on('dispatch', onDispatch)
  while (performance.now() < until) {
    const whole = new Promise<void>((resolve) => {
      wake = resolve
    })
    await connection.request(ownRequests.volley, order)
    await whole
  }
  connection.off('dispatch', onDispatch)
  return arrived
}

const measures: readonly Measure[] = [
  { title: 'blocking call, echo', bytes: SMALL, moved: 0, run: blocking(ownRequests.echo) },
  { title: 'awaited call, echo', bytes: SMALL, moved: 0, run: awaited(1) },
  {
    title: `awaited calls, ${IN_FLIGHT} in flight`,
    bytes: SMALL,
    moved: 0,
    run: awaited(IN_FLIGHT),
  },
  { title: 'dispatches to one client', bytes: SMALL, moved: 0, run: dispatches },
  ...SIZES.map((bytes) => ({
    title: 'blocking call, payload one way',
    bytes,
    moved: bytes,
    run: blocking(ownRequests.size),
  })),
]

async function measured(measure: Measure, connection: Connection, ms: number): Promise<Result> {
  const { title, bytes, moved, run } = measure
  const payload = new Uint8Array(bytes).fill(1)
  await run(connection, payload, performance.now() + ms * WARM_UP, new Distribution())
  const times = new Distribution()
  const began = performance.now()
  const calls = await run(connection, payload, began + ms, times)
  const perSecond = calls / ((performance.now() - began) / 1000)
  const us = times.read()
  return {
    measure: title,
    bytes,
    perSecond,
    bytesPerSecond: moved > 0 ? perSecond * moved : undefined,
    us: us.count > 0 ? us : undefined,
  }
}

/** Keeps this process to one CPU, all of its threads. */
function pin(cpu: number): boolean {
  const args = ['--all-tasks', '--cpu-list', '--pid', `${cpu}`, `${process.pid}`]
  return spawnSync('taskset', args, { stdio: 'ignore' }).status === 0
}

interface Place {
  readonly clientCpu?: number
  readonly serverCpu?: number
  readonly text: string
}

function place(free: boolean): Place {
  if (free) return { text: 'not pinned' }
  const { client, server, taskset } = findCpus()
  if (!taskset) return { text: 'not pinned: there is no taskset (util-linux)' }
  if (client === server)
    return { clientCpu: client, serverCpu: server, text: 'both on the one CPU that there is' }
  return {
    clientCpu: client,
    serverCpu: server,
    text: `client on CPU ${client}, server on CPU ${server}`,
  }
}

function table(output: Output, results: readonly Result[]): void {
  const right = { align: 'right' } as const
  output.table(
    [
      { title: 'MEASURE', shrink: true },
      { title: 'PAYLOAD', ...right },
      { title: 'PER SECOND', ...right },
      { title: 'P50', ...right },
      { title: 'P99', ...right },
      { title: 'BANDWIDTH', ...right },
    ],
    results.map(({ measure, bytes, perSecond, bytesPerSecond, us }) => [
      measure,
      bytesText(bytes),
      count(perSecond),
      us === undefined ? '-' : durationText(us.p50),
      us === undefined ? '-' : durationText(us.p99),
      bytesPerSecond === undefined ? '-' : `${bytesText(bytesPerSecond)}/s`,
    ]),
  )
}

export const command: Command = {
  summary: 'Measure calls, dispatches and bandwidth on this machine',
  options: {
    ms: { type: 'string', value: 'MS', help: 'time of each measure (1000)' },
    free: { type: 'boolean', help: 'leave the choice of CPUs to the scheduler' },
  },
  details: `A client, this process, and a server in another one, each on a CPU of its own where there are two and \`taskset\` is
there. P50 and P99 are the time of one call, from asking to the answer, reading the clock included; with many
in flight that is mostly waiting for the others. A bandwidth counts the payload once. Other work on the
machine is in the figures: compare what was measured together, and more than once.`,

  async run({ values, output }) {
    const ms = integerOption(values, 'ms', 1, 600_000) ?? 1000
    const { clientCpu, serverCpu, text } = place(flag(values, 'free'))
    if (clientCpu !== undefined && !pin(clientCpu))
      throw new CommandError('taskset could not pin this process', '--free measures without')
    await using server = await OwnServer.open(serverCpu)
    await using connection = await connectTo(server.name, ownService, undefined)
    const load = os.loadavg()[0] ?? 0
    const cpu = os.cpus()[0]?.model ?? 'unknown CPU'
    if (output.json)
      output.record({
        cpu,
        kernel: os.release(),
        node: process.version,
        load,
        clientCpu,
        serverCpu,
      })
    else {
      output.line(`${cpu}, Linux ${os.release()}, Node.js ${process.version}; ${text}`)
      if (load > 0.5)
        output.line(
          output.style('yellow', `the load is ${load.toFixed(1)}: other work is in these figures`),
        )
      output.line()
    }
    const results: Result[] = []
    for (const measure of measures) {
      const result = await measured(measure, connection, ms)
      if (output.json) output.record(result)
      else if (output.terminal) process.stderr.write('.')
      results.push(result)
    }
    if (output.json) return
    if (output.terminal) process.stderr.write('\r\u001b[K')
    table(output, results)
  },
}

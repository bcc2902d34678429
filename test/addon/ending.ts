// Ways for an environment to end while natives are in use. As a program: `ending.js main <scenario>` ends its main
// thread that way, `ending.js worker <scenario>` a worker, after which the process says `survived`.
import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { addon, Kind, Word } from '@coroipc/native'
import { connectOptions, freshName, openGroup, openServer, serve } from './support.js'

interface Data {
  scenario: string
  server: string
}

/** Everything that can be held at once: a server, a group, a connection, a lease, buffers, blocks. */
function holdEverything(server: string): { handle: number; connection: number } {
  const own = openServer(freshName(), serve)
  addon.attach(own.loop.handle)
  const group = openGroup(() => {})
  const { handle } = group.loop
  addon.attach(handle)
  const connection = addon.connectSync(handle, server, connectOptions, 5000)
  if (connection < 0) throw new Error(addon.statusNames[-connection])
  addon.call(handle, connection, 2, new Uint8Array(9000), -1, undefined)
  addon.dispatchInPlace(handle, connection, 1000)
  const kept = globalThis as unknown as { kept: unknown[] }
  kept.kept = [addon.leaseBuffer(handle, connection, 1)]
  for (let i = 0; i < 3; i++) {
    const buffer = addon.clientBufferAlloc(handle, connection, 4096, 1000)
    kept.kept.push(new Uint8Array(addon.bufferArray(buffer)))
  }
  addon.callInPlace(handle, connection, 0, new Uint8Array(50), -1)
  kept.kept.push(addon.leaseBuffer(handle, connection, 0))
  group.post(connection, Kind.send, { id: 0 })
  return { handle, connection }
}

/** Runs `inside` within onBatch of a server of this thread. */
function insideBatch(inside: () => void): void {
  const name = freshName()
  const server = openServer(name, (row) => {
    if (row.kind === Kind.send) inside()
  })
  addon.attach(server.loop.handle)
  const group = openGroup((row) => {
    if (row.kind === Kind.connected)
      addon.sendRow(group.loop.handle, row.connection, Kind.send, 1, 0, 0, new Uint8Array(8))
  })
  addon.attach(group.loop.handle)
  addon.connectStart(group.loop.handle, name, connectOptions, 5000)
}

const scenarios: Record<string, (data: Data) => void> = {
  /** Ends by itself: nothing is referenced. */
  idle({ server }) {
    const { handle, connection } = holdEverything(server)
    addon.unref(handle)
    addon.disconnect(handle, connection)
    const other = openServer(freshName(), serve)
    addon.attach(other.loop.handle)
    addon.unref(other.loop.handle)
    process.exitCode = 0
    setImmediate(() => process.exit())
  },
  unreferenced() {
    const server = openServer(freshName(), serve)
    addon.attach(server.loop.handle)
    addon.unref(server.loop.handle)
  },
  'exit while all is held'({ server }) {
    holdEverything(server)
    process.exit(7)
  },
  'exit inside onBatch'({ server }) {
    holdEverything(server)
    insideBatch(() => process.exit(7))
  },
  'throw inside onBatch'({ server }) {
    holdEverything(server)
    insideBatch(() => {
      throw new Error('thrown inside onBatch')
    })
  },
  'be terminated while all is held'({ server }) {
    holdEverything(server)
    parentPort?.postMessage('terminate')
  },
  'be terminated inside onBatch'({ server }) {
    holdEverything(server)
    insideBatch(() => {
      parentPort?.postMessage('terminate')
      for (;;);
    })
  },
  'be terminated in wait'({ server }) {
    const { handle } = holdEverything(server)
    parentPort?.postMessage('terminate')
    for (;;) addon.wait(handle, -1)
  },
  'be terminated in dispatchReceive'({ server }) {
    const { handle, connection } = holdEverything(server)
    addon.leaseRelease(handle, connection, 1)
    parentPort?.postMessage('terminate')
    for (;;) addon.dispatchReceive(handle, connection, 60_000)
  },
  'be terminated in call'() {
    const { group, connection } = deaf()
    parentPort?.postMessage('terminate')
    for (;;) addon.call(group, connection, 0, new Uint8Array(8), 60_000, undefined)
  },
  'be terminated in connectSync'() {
    const name = freshName()
    openServer(name, serve)
    const group = openGroup(() => {})
    parentPort?.postMessage('terminate')
    for (;;) addon.connectSync(group.loop.handle, name, connectOptions, 60_000)
  },
}

/** A connection to a server of this very thread, which nobody drives: a call is never answered. */
function deaf(): { group: number; connection: number } {
  const name = freshName()
  const seen: number[] = []
  const server = openServer(name, (row) => seen.push(row.kind))
  const group = openGroup(() => {})
  const connection = addon.connectStart(group.loop.handle, name, connectOptions, 5000)
  while (!seen.includes(Kind.connected)) {
    addon.pump(server.loop.handle)
    addon.pump(group.loop.handle)
  }
  while (addon.state(group.loop.handle, connection) !== 0 || group.loop.words[Word.inBatch] !== 0)
    addon.pump(group.loop.handle)
  for (let i = 0; i < 10; i++) addon.pump(group.loop.handle)
  return { group: group.loop.handle, connection }
}

if (!isMainThread) {
  const data = workerData as Data
  scenarios[data.scenario]?.(data)
} else {
  const [where = '', scenario = ''] = process.argv.slice(2)
  // The other side lives in a worker of its own and outlives whoever ends.
  const name = freshName()
  const url = new URL('./server-thread.js', import.meta.url)
  const server = new Worker(url, { workerData: { name } })
  await once(server, 'message')
  if (where === 'main') {
    server.unref()
    scenarios[scenario]?.({ scenario, server: name })
  } else {
    for (let round = 0; round < 3; round++) {
      const worker = new Worker(new URL(import.meta.url), {
        workerData: { scenario, server: name },
      })
      worker.on('message', () => {
        // Well inside the call: what it waits for is a slice of 50 ms.
        setTimeout(() => void worker.terminate(), round * 25)
      })
      worker.on('error', (error) => console.log(`error ${error.message}`))
      const code = await new Promise<number>((resolve) => worker.once('exit', resolve))
      console.log(`worker ended ${code}`)
    }
    server.postMessage('end')
    await once(server, 'exit')
    console.log('survived')
  }
}

/** Names of the scenarios, for the test. */
export const names: readonly string[] = Object.keys(scenarios)

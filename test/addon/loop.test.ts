// A server and a client group in one thread, driven by libuv: rows, slab, outbox, and what goes wrong in callbacks.
import { once } from 'node:events'
import { addon, Kind, Status, Word } from '@coroipc/native'
import t, { type Test } from 'tap'
import {
  connectOptions,
  freshName,
  openGroup,
  openServer,
  type Party,
  type Received,
} from './support.js'

/** Collects rows; `next` waits for one of a kind. */
class Rows {
  readonly #rows: Received[] = []
  #wake = (): void => {}
  add(row: Received): void {
    this.#rows.push(row)
    this.#wake()
  }
  async next(kind: number): Promise<Received> {
    for (;;) {
      const index = this.#rows.findIndex((row) => row.kind === kind)
      if (index >= 0) return this.#rows.splice(index, 1)[0] as Received
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }
}

interface Pair {
  server: Party
  group: Party
  atServer: Rows
  atClient: Rows
  /** Numbers of the one connection at either side. */
  there: number
  here: number
}

async function connected(t: Test, onRow?: (row: Received, server: Party) => void): Promise<Pair> {
  const name = freshName()
  const atServer = new Rows()
  const atClient = new Rows()
  const server = openServer(name, (row, self) => {
    if (onRow !== undefined) onRow(row, self)
    atServer.add(row)
  })
  const group = openGroup((row) => atClient.add(row))
  addon.attach(server.loop.handle)
  addon.attach(group.loop.handle)
  t.teardown(() => {
    addon.groupDestroy(group.loop.handle)
    addon.serverDestroy(server.loop.handle)
  })
  const here = addon.connectStart(group.loop.handle, name, connectOptions, 5000)
  t.ok(here >= 0, 'connect begins')
  const { connection: there } = await atServer.next(Kind.connected)
  t.equal((await atClient.next(Kind.connected)).connection, here)
  addon.dispatchFlow(group.loop.handle, here, true)
  return { server, group, atServer, atClient, there, here }
}

const bytes = (length: number, fill: number): Uint8Array => new Uint8Array(length).fill(fill)

t.test('a request posted to the outbox is answered by one posted there', async (t) => {
  const { server, group, atServer, atClient, there, here } = await connected(t)
  group.post(here, Kind.request, { id: 3, correlation: 5, argument: 700, payload: bytes(20, 1) })
  t.equal(addon.flush(group.loop.handle), 0)
  t.equal(group.loop.words[Word.outRows], 0)
  const request = await atServer.next(Kind.request)
  t.match(request, { connection: there, id: 3, payload: bytes(20, 1) })
  t.ok(request.argument > 0 && request.argument <= 700, 'the deadline travels')
  server.post(there, Kind.response, {
    correlation: request.correlation,
    status: -4,
    payload: bytes(9, 2),
  })
  t.equal(addon.flush(server.loop.handle), 0)
  t.match(await atClient.next(Kind.response), {
    connection: here,
    correlation: 5,
    status: -4,
    argument: Status.OK,
    payload: bytes(9, 2),
  })
})

t.test(
  'what onBatch posts is flushed without a call, and what its microtasks post too',
  async (t) => {
    const { group, atClient, here } = await connected(t, (row, server) => {
      if (row.kind !== Kind.request) return
      t.equal(server.loop.words[Word.inBatch], 1)
      t.equal(addon.pump(server.loop.handle), 1, 'pump inside onBatch does nothing')
      server.post(row.connection, Kind.dispatch, { id: 1, payload: row.payload })
      queueMicrotask(() => {
        t.equal(server.loop.words[Word.inBatch], 1)
        server.post(row.connection, Kind.response, { correlation: row.correlation })
      })
    })
    group.post(here, Kind.request, { payload: bytes(3, 7) })
    addon.flush(group.loop.handle)
    t.match(await atClient.next(Kind.dispatch), { id: 1, payload: bytes(3, 7) })
    t.match(await atClient.next(Kind.response), { correlation: 0 })
  },
)

t.test('payloads in the slab stay what they were, large ones come as blocks', async (t) => {
  const { server, group, atServer, here } = await connected(t)
  const sizes = [0, 1, 8, 4000, 8191, 8192, 100_000, 500_000, 12_000, 8000, 7999, 1]
  sizes.forEach((size, id) => {
    const half = bytes(Math.floor(size / 2), id)
    const sent = addon.sendRow(group.loop.handle, here, Kind.send, id, 0, 0, [
      half,
      bytes(size - half.length, id),
    ])
    t.equal(sent, 0)
  })
  const rows: Received[] = []
  for (const size of sizes) {
    const row = await atServer.next(Kind.send)
    t.equal(row.payload.length, size)
    rows.push(row)
  }
  server.renew()
  globalThis.gc?.()
  for (const [id, row] of rows.entries()) {
    t.equal(row.id, id, 'in order')
    t.ok(row.payload.every((byte) => byte === id))
  }
})

t.test('a slab that was transferred away is written no more', async (t) => {
  const { server, group, atServer, here } = await connected(t)
  const send = (size: number): number =>
    addon.sendRow(group.loop.handle, here, Kind.send, 0, 0, 0, bytes(size, size & 0xff))
  structuredClone(server.slab, { transfer: [server.slab] })
  t.equal(server.slab.byteLength, 0)
  send(100)
  t.same((await atServer.next(Kind.send)).payload, bytes(100, 100))
  t.equal(server.slab.byteLength, 65536, 'it looked full and was replaced')
  send(101)
  const row = await atServer.next(Kind.send)
  t.same(row.payload, bytes(101, 101))
  t.equal(row.payload.buffer, server.slab)
})

t.test('a row that cannot be sent says why, to flush and to onSent', async (t) => {
  const told: number[] = []
  const group = openGroup(
    () => {},
    (rows) => told.push(rows),
  )
  t.teardown(() => addon.groupDestroy(group.loop.handle))
  group.post(12, Kind.request, {})
  t.equal(addon.flush(group.loop.handle), 1)
  t.equal(group.loop.outTable[5], Status.DISCONNECTED)
  t.same(told, [])
  group.post(12, Kind.request, {})
  t.equal(addon.wait(group.loop.handle, 0), 0, 'whoever waits flushes all')
  t.same(told, [1])
})

t.test('what onBatch throws is an uncaught exception, and the loop goes on', async (t) => {
  const { group, atServer, here } = await connected(t, (row) => {
    if (row.kind === Kind.send && row.id === 1) throw new Error('thrown by onBatch')
  })
  const caught = new Promise<Error>((resolve) => {
    process.setUncaughtExceptionCaptureCallback(resolve)
  })
  addon.sendRow(group.loop.handle, here, Kind.send, 1, 0, 0, bytes(1, 1))
  t.match(await caught, { message: 'thrown by onBatch' })
  process.setUncaughtExceptionCaptureCallback(null)
  addon.sendRow(group.loop.handle, here, Kind.send, 2, 0, 0, bytes(1, 1))
  t.equal((await atServer.next(Kind.send)).id, 2)
})

t.test('a loop may be destroyed inside its own onBatch', async (t) => {
  const ended = new Promise<void>((resolve) => {
    void connected(t, (row, server) => {
      if (row.kind !== Kind.send) return
      server.post(row.connection, Kind.dispatch, { id: 4 })
      addon.serverDestroy(server.loop.handle)
      t.equal(addon.fd(server.loop.handle), -1)
      resolve()
    }).then(({ group, here, atClient }) => {
      addon.sendRow(group.loop.handle, here, Kind.send, 0, 0, 0, new Uint8Array(1))
      return atClient.next(Kind.disconnected)
    })
  })
  await ended
})

t.test('timers, immediates and other fds have their turn while messages pour', async (t) => {
  let echoed = 0
  let pouring = true
  const { group, here } = await connected(t, (row, server) => {
    if (row.kind !== Kind.send) return
    echoed++
    server.post(row.connection, Kind.dispatch, { payload: row.payload })
  })
  const pour = (): void => {
    if (pouring) addon.sendRow(group.loop.handle, here, Kind.send, 0, 0, 0, new Uint8Array(8))
  }
  const other = openGroup(() => {})
  addon.groupDestroy(other.loop.handle)
  const immediate = new Promise((resolve) => setImmediate(resolve))
  const interval = setInterval(pour, 0)
  pour()
  await immediate
  await new Promise((resolve) => setTimeout(resolve, 50))
  const child = (await import('node:child_process')).spawn('true')
  await once(child, 'exit')
  pouring = false
  clearInterval(interval)
  t.ok(echoed > 0)
})

t.test(
  'poll callbacks name the fds; a callback that throws or destroys does no harm',
  async (t) => {
    const fds = new Map<number, number>()
    let listener = -1
    let last = false
    const name = freshName()
    const atServer = new Rows()
    const { handle } = openServer(name, (row) => atServer.add(row), undefined, {
      acceptAdd(_fd, cookie) {
        listener = cookie
      },
      dispatchAdd(_fd, events, cookie) {
        fds.set(cookie, events)
      },
      dispatchModify(_fd, events, cookie) {
        fds.set(cookie, events)
      },
      dispatchDestroy(_fd, cookie) {
        fds.delete(cookie)
        if (!last) return
        addon.serverDestroy(handle)
        throw new Error('thrown by dispatchDestroy')
      },
    }).loop
    t.equal(addon.fd(handle), -1)
    t.not(listener, -1)
    const drive = setInterval(() => {
      addon.handlerAccept(handle, listener)
      for (const [cookie, events] of fds) addon.handlerDispatch(handle, cookie, events)
      while (addon.pump(handle) === 1);
    }, 1)
    const atClient = new Rows()
    const group = openGroup((row) => atClient.add(row))
    addon.attach(group.loop.handle)
    t.teardown(() => addon.groupDestroy(group.loop.handle))
    const here = addon.connectStart(group.loop.handle, name, connectOptions, 5000)
    await atClient.next(Kind.connected)
    t.ok(fds.size > 0)
    addon.sendRow(group.loop.handle, here, Kind.send, 6, 0, 0, bytes(5, 5))
    t.match(await atServer.next(Kind.send), { id: 6, payload: bytes(5, 5) })
    clearInterval(drive)
    const errors: Error[] = []
    process.setUncaughtExceptionCaptureCallback((error) => errors.push(error))
    last = true
    addon.serverClose(handle)
    process.setUncaughtExceptionCaptureCallback(null)
    t.match(errors[0], { message: 'thrown by dispatchDestroy' })
    t.equal(addon.serverClose(handle), -Status.INVALID_ARGUMENT, 'the loop is gone')
    await atClient.next(Kind.disconnected)
  },
)

t.test('wait and pump are a loop of their own', async (t) => {
  const name = freshName()
  const server = openServer(name, (row, self) => {
    if (row.kind === Kind.request)
      self.post(row.connection, Kind.response, {
        correlation: row.correlation,
        payload: row.payload,
      })
  })
  const answers: number[] = []
  const group = openGroup((row, self) => {
    if (row.kind === Kind.response) answers.push(row.correlation)
    if (row.kind === Kind.connected || row.kind === Kind.response)
      self.post(row.connection, Kind.request, { payload: bytes(8, 8) })
  })
  t.teardown(() => {
    addon.groupDestroy(group.loop.handle)
    addon.serverDestroy(server.loop.handle)
  })
  addon.connectStart(group.loop.handle, name, connectOptions, 5000)
  while (answers.length < 100) {
    for (const { loop } of [server, group])
      if (addon.wait(loop.handle, 1) === 1) addon.pump(loop.handle)
  }
  t.ok(answers.length >= 100)
})

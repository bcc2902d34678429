// The smallest server and client group that natives allow, for tests of the addon alone: rows, slab and outbox as
// they are, none of what the packages make of them.
import {
  addon,
  In,
  Kind,
  type Loop,
  type NativeConnectOptions,
  type NativePoll,
  type NativeServerOptions,
  Row,
  Status,
  Word,
} from '@coroipc/native'

export const service = 7
export const slabBytes = 65536

/** 0 stands for the default everywhere. */
export const serverOptions: NativeServerOptions = {
  wait: 0,
  anyService: false,
  allowUnmapped: false,
  prefault: false,
  lock: 0,
  hugePages: 0,
  acceptRows: false,
  authorizeTimeoutMs: 0,
  handshakeTimeoutMs: 0,
  connections: 0,
  connectionsPerUid: 0,
  handshakes: 0,
  handshakesPerUid: 0,
  authorizing: 0,
  requestRingBytes: 0,
  responseRingBytes: 0,
  dispatchRingBytes: 0,
  ringBytesMin: 0,
  ringBytesMax: 0,
  messageBytes: 0,
  messageBytesMin: 0,
  requestsInFlight: 0,
  unsentBytes: 0,
  backlogBytes: 0,
  segments: 0,
  segmentBytes: 0,
  bytesPerUid: 0,
}

export const connectOptions: NativeConnectOptions = {
  service,
  wait: 0,
  timeoutMs: 10_000,
  requestRingBytes: 0,
  responseRingBytes: 0,
  dispatchRingBytes: 0,
  messageBytes: 0,
  requestsInFlight: 0,
  inboxBytes: 0,
  queueBytes: 0,
  trustServer: true,
  serverUid: -1,
  serverPid: -1,
}

let names = 0
/** An abstract name that nobody else uses. */
export const freshName = (): string => `@coroipc-test-${process.pid}-${names++}-${Date.now()}`

/** A received row, as an object. */
export interface Received {
  connection: number
  kind: number
  id: number
  correlation: number
  status: number
  argument: number
  sequence: number
  flags: number
  segment: number
  /** Handle of the buffer that the payload lies in, or -1; released when `onRow` returns. */
  buffer: number
  payload: Uint8Array
}

export interface Party {
  loop: Loop
  slab: ArrayBuffer
  /** Puts a row with a small payload into the outbox. */
  post(connection: number, kind: number, fields: Partial<Received>): void
  /** Gives the loop a new slab, as the packages do when it is nearly full. */
  renew(): void
}

function party(
  server: boolean,
  create: (
    onBatch: (count: number, blocks?: ArrayBuffer[]) => void,
    onSent: (rows: number) => void,
  ) => Loop | number,
  onRow: (row: Received, party: Party) => void,
  onSent: (rows: number) => void,
): Party {
  const made = create((count, blocks) => {
    const { table } = self.loop
    const { slab } = self
    let block = 0
    const rows: Received[] = []
    for (let i = 0; i < count; i++) {
      const at = (column: number): number => table[i * Row.length + column] as number
      const bytes = at(Row.bytes)
      let payload = new Uint8Array(0)
      let buffer = -1
      if (at(Row.flags) === In.block) payload = new Uint8Array(blocks?.[block++] as ArrayBuffer)
      else if (at(Row.kind) <= Kind.dispatch && at(Row.flags) === In.slab && bytes > 0)
        payload = new Uint8Array(slab, at(Row.offset), bytes)
      else if (at(Row.flags) === In.segment) {
        const get = server ? addon.serverBufferGet : addon.clientBufferGet
        buffer = get(self.loop.handle, at(Row.connection), at(Row.segment))
        payload = new Uint8Array(addon.bufferArray(buffer), at(Row.offset), bytes)
      }
      rows.push({
        buffer,
        connection: at(Row.connection),
        kind: at(Row.kind),
        id: at(Row.id),
        correlation: at(Row.correlation),
        status: at(Row.status),
        argument: at(Row.argument),
        sequence: at(Row.sequence),
        flags: at(Row.flags),
        segment: at(Row.segment),
        payload,
      })
    }
    if ((self.loop.words[Word.slabPosition] as number) > slabBytes / 2) self.renew()
    for (const row of rows) {
      onRow(row, self)
      if (row.buffer >= 0) addon.bufferRelease(row.buffer)
    }
  }, onSent)
  if (typeof made === 'number') throw new Error(`create: ${addon.statusNames[-made]}`)
  const self: Party = {
    loop: made,
    slab: new ArrayBuffer(slabBytes),
    renew() {
      self.slab = new ArrayBuffer(slabBytes)
      addon.setSlab(made.handle, self.slab)
    },
    post(connection, kind, fields) {
      const { outTable, outbox, words } = made
      const row = (words[Word.outRows] as number)++ * Row.length
      const offset = words[Word.outBytes] as number
      const payload = fields.payload ?? new Uint8Array(0)
      outbox.set(payload, offset)
      words[Word.outRows] = row / Row.length + 1
      words[Word.outBytes] = (offset + payload.length + 7) & ~7
      outTable[row + Row.connection] = connection
      outTable[row + Row.kind] = kind
      outTable[row + Row.id] = fields.id ?? 0
      outTable[row + Row.correlation] = fields.correlation ?? 0
      outTable[row + Row.status] = fields.status ?? 0
      outTable[row + Row.argument] = fields.argument ?? 0
      outTable[row + Row.flags] = In.slab
      outTable[row + Row.offset] = offset
      outTable[row + Row.bytes] = payload.length
    },
  }
  addon.setSlab(made.handle, self.slab)
  return self
}

/** A listening server; `onRow` sees every row but AUTHORIZE, which is granted, with trust. */
export function openServer(
  name: string,
  onRow: (row: Received, server: Party) => void,
  onSent: (rows: number) => void = () => {},
  poll?: NativePoll,
): Party {
  const server = party(
    true,
    (onBatch, sent) => addon.serverCreate(serverOptions, onBatch, sent, poll),
    (row, self) => {
      if (row.kind === Kind.authorize)
        addon.authorize(self.loop.handle, row.connection, Status.OK, true)
      else onRow(row, self)
    },
    onSent,
  )
  const { handle } = server.loop
  const results = [
    addon.serviceAdd(handle, service, {
      policy: 0,
      priority: 1,
      requestsPerSecond: 0,
      backlogBytes: 0,
    }),
    addon.serverListen(handle, name),
  ]
  const failed = results.find((result) => result < 0)
  if (failed !== undefined) throw new Error(`${name}: ${addon.statusNames[-failed]}`)
  return server
}

export function openGroup(
  onRow: (row: Received, group: Party) => void,
  onSent: (rows: number) => void = () => {},
): Party {
  return party(false, (onBatch, sent) => addon.groupCreate(onBatch, sent), onRow, onSent)
}

/**
 * What the server of most tests does, by request id: 0 echoes, 1 answers `status` bytes as the payload's u32
 * says, 2 dispatches the payload back and answers nothing, 3 answers with an application status.
 */
export function serve(row: Received, server: Party): void {
  const { handle } = server.loop
  const { connection, correlation, payload } = row
  if (row.kind === Kind.disconnected) addon.release(handle, connection)
  if (row.kind !== Kind.request) return
  if (row.id === 0) addon.respond(handle, connection, correlation, Status.OK, 0, payload)
  else if (row.id === 1) {
    const bytes = new DataView(payload.buffer, payload.byteOffset).getUint32(0, true)
    const answer = new Uint8Array(bytes).fill(bytes & 0xff)
    addon.respond(handle, connection, correlation, Status.OK, 0, answer)
  } else if (row.id === 2) {
    addon.dispatch(handle, connection, 9, payload)
    addon.respond(handle, connection, correlation, Status.OK, 0, undefined)
  } else addon.respond(handle, connection, correlation, Status.OK, -5, new Uint8Array(3))
}

export const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer)

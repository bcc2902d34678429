// Handles that name nothing, or nothing any more: each native says so, and does nothing. The packages do not pass such
// handles on purpose; a callback that ended its server or connection, or a late promise, does.
import { type Addon, addon, Status } from '@coroipc/native'
import t from 'tap'
import { connectOptions, freshName, openGroup, openServer, serverOptions } from './support.js'

const NEVER = 0x7fff_0000 // the first slot, used 32767 times
const NOBODY = 0x00ff_ff00 // no connection has this number
const bytes = new Uint8Array(8)

type Native = {
  [Name in keyof Addon]: Addon[Name] extends (...args: never[]) => unknown ? Name : never
}[keyof Addon]
type Call = readonly [name: Native, rest: readonly unknown[], expected: unknown]

const call = (name: Native, ...args: unknown[]): unknown =>
  (addon[name] as (...args: unknown[]) => unknown)(...args)

const gone = -Status.DISCONNECTED
const wrong = -Status.INVALID_ARGUMENT

/** Natives that name a connection behind their loop. */
const ofClients: readonly Call[] = [
  ['call', [0, bytes, 10, undefined], gone],
  ['callInPlace', [0, bytes, 10], gone],
  ['callBuffer', [0, NEVER, 0, 8, 10, undefined], gone],
  ['dispatchReceive', [0], gone],
  ['dispatchInPlace', [0], gone],
  ['clientConnectionInfo', [], gone],
  ['disconnect', [], undefined],
  ['state', [], Status.DISCONNECTED],
  ['flowControl', [], 0],
  ['givenUp', [], 0],
  ['connectionFd', [], -1],
  ['dispatchFlow', [true], undefined],
  ['sendRow', [1, 0, 0, 0, bytes], gone],
  ['sendRowBuffer', [0, 0, 0, NEVER, 0, 8], gone],
  ['clientBufferAlloc', [8, 10], gone],
  ['clientBufferAllocStart', [8], gone],
  ['clientBufferGet', [0], gone],
  ['leaseRelease', [0], undefined],
]
const ofServers: readonly Call[] = [
  ['authorize', [0, false], gone],
  ['serverConnectionInfo', [], gone],
  ['serverRings', [new Uint32Array(6)], gone],
  ['hold', [], undefined],
  ['release', [], undefined],
  ['serverDisconnect', [0], gone],
  ['rateLimit', [10], gone],
  ['priority', [0], gone],
  ['policy', [0], gone],
  ['respond', [0, 0, 0, bytes], gone],
  ['dispatch', [0, bytes], gone],
  ['respondBuffer', [0, 0, NEVER, 0, 8], gone],
  ['dispatchBuffer', [0, NEVER, 0, 8], gone],
  ['serverBufferAlloc', [8], gone],
  ['serverBufferGet', [0], gone],
]
/** Of a server itself. */
const ofServer: readonly Call[] = [
  ['serverListen', [freshName()], wrong],
  ['serverListenFd', [-1], wrong],
  ['serverListenInherited', [-1, -1], wrong],
  ['serverListenFds', [], [-1, -1]],
  ['serverListenLeave', [], wrong],
  ['serverAdopt', [-1], wrong],
  ['serverAddress', [], ''],
  ['serverListenStop', [], wrong],
  ['serverClose', [], wrong],
  ['handlerAccept', [0], wrong],
  ['handlerDispatch', [0, 1], wrong],
  ['serviceAdd', [1, { policy: 0, priority: 0, requestsPerSecond: 0, backlogBytes: 0 }], wrong],
  ['serviceClose', [1], wrong],
]
/** Of any loop. */
const ofLoop: readonly Call[] = [
  ['setSlab', [new ArrayBuffer(65_536)], undefined],
  ['flush', [], 0],
  ['attach', [], wrong],
  ['detach', [], undefined],
  ['ref', [], undefined],
  ['unref', [], undefined],
  ['fd', [], -1],
  ['pump', [], 0],
  ['wait', [10], wrong],
  ['stats', [-1, false, new BigUint64Array(256)], wrong],
  ['serverDestroy', [], undefined],
  ['groupDestroy', [], undefined],
  ['connectStart', ['x', connectOptions, 10], wrong],
  ['connectSync', ['x', connectOptions, 10], wrong],
]

const ended = openServer(freshName(), () => {}).loop.handle
addon.serverDestroy(ended)
const endedGroup = openGroup(() => {}).loop.handle
addon.groupDestroy(endedGroup)

for (const [what, loop] of [
  ['was never given', NEVER],
  ['is negative', -1],
  ['was a server', ended],
  ['was a group', endedGroup],
] as const)
  t.test(`a loop that ${what}`, async (t) => {
    for (const [name, rest, expected] of [...ofClients, ...ofServers])
      t.strictSame(call(name, loop, 0, ...rest), expected, name)
    for (const [name, rest, expected] of [...ofServer, ...ofLoop])
      t.strictSame(call(name, loop, ...rest), expected, name)
    for (const name of ['take', 'leaseCopy', 'leaseBuffer'] as const)
      t.equal((call(name, loop, 0, 0) as ArrayBuffer).byteLength, 0, name)
  })

t.test('a connection that nobody has', async (t) => {
  const server = openServer(freshName(), () => {}).loop.handle
  const group = openGroup(() => {}).loop.handle
  t.teardown(() => {
    addon.groupDestroy(group)
    addon.serverDestroy(server)
  })
  for (const number of [0, NOBODY, -1]) {
    for (const [name, rest, expected] of ofClients)
      t.strictSame(call(name, group, number, ...rest), expected, `${name} ${number}`)
    for (const [name, rest, expected] of ofServers)
      t.strictSame(call(name, server, number, ...rest), expected, `${name} ${number}`)
  }
  const into = new BigUint64Array(256)
  for (const loop of [server, group]) t.equal(addon.stats(loop, NOBODY, false, into), gone)
  t.equal(addon.stats(server, -1, false, new BigUint64Array(1)), 0)
  for (const channel of [0, 1, 2, -1])
    for (const name of ['take', 'leaseCopy', 'leaseBuffer'] as const)
      t.equal((call(name, group, 0, channel) as ArrayBuffer).byteLength, 0, `${name} ${channel}`)
})

t.test('a loop of the other side', async (t) => {
  const server = openServer(freshName(), () => {}).loop.handle
  const group = openGroup(() => {}).loop.handle
  t.teardown(() => {
    addon.groupDestroy(group)
    addon.serverDestroy(server)
  })
  for (const [name, rest, expected] of ofClients)
    t.strictSame(call(name, server, 0, ...rest), expected, name)
  for (const [name, rest, expected] of ofServers)
    t.strictSame(call(name, group, 0, ...rest), expected, name)
  for (const [name, rest, expected] of ofServer)
    t.strictSame(call(name, group, ...rest), expected, name)
  for (const name of ['connectStart', 'connectSync'] as const)
    t.equal(call(name, server, 'x', connectOptions, 10), wrong, name)
})

t.test('a buffer that nobody has', async (t) => {
  t.equal(addon.bufferArray(NEVER), undefined)
  t.equal(addon.bufferBytes(NEVER), 0)
  addon.bufferRelease(NEVER)
})

t.test('a server that is told everything listens all the same', async (t) => {
  const options = { ...serverOptions, allowUnmapped: true, prefault: true, anyService: true }
  const loop = addon.serverCreate(
    options,
    () => {},
    () => {},
    undefined,
  )
  if (typeof loop === 'number') throw new Error(addon.statusNames[-loop])
  t.equal(addon.serverListen(loop.handle, freshName()), 0)
  addon.serverDestroy(loop.handle)
})

// Memory that stays where it is, and memory in huge pages: what the kernel says about it, and what becomes of a server that
// demands what it cannot have.
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect } from '@coroipc/ipcc'
import { Server, type ServerOptions } from '@coroipc/ipcs'
import t from 'tap'
import { freshName, runtimeDirectory } from '../support/runtime.js'
import { outcome } from '../support/wait.js'

runtimeDirectory(t)
const MIB = 1 << 20
const kib = (file: string, field: string): number =>
  [...readFileSync(file, 'utf8').matchAll(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'gm'))].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  )
const locked = (): number => kib('/proc/self/status', 'VmLck')
const huge = (): number => kib('/proc/self/smaps', 'ShmemPmdMapped')

async function withServer(
  options: ServerOptions,
  run: (name: string) => Promise<void>,
): Promise<void> {
  const server = new Server(options)
  server.addService({
    id: 1,
    trust: () => true,
    handlers: { 0: ({ payload }) => String(payload[0]) },
  })
  const name = freshName()
  await server.listen(name)
  try {
    await run(name)
  } finally {
    await server.close()
  }
}

t.test('lock: rings and segments are locked while they are there', async (t) => {
  await withServer({ lock: 'try' }, async (name) => {
    const before = locked()
    const connection = await connect(name, { service: 1 })
    t.ok(locked() - before >= 1024, 'the rings, 1 MiB')
    const rings = locked()
    await connection.request(0, new Uint8Array(MIB / 2))
    t.ok(locked() - rings >= 512, 'the segment of a large message')
    await connection.close()
  })
  t.equal(locked(), 0)
})

const setpriv = '/usr/bin/setpriv'
t.test('what cannot be locked is said at once, or done without', async (t) => {
  const program = (lock: unknown): string => `
    import { Server } from '@coroipc/ipcs'
    import { connect } from '@coroipc/ipcc'
    try {
      const server = new Server({ lock: ${JSON.stringify(lock)} })
      server.addService({ id: 1, handlers: { 0: () => 'fine' } })
      await server.listen('@coroipc-lock-' + process.pid)
      const connection = await connect('@coroipc-lock-' + process.pid, { service: 1 })
      console.log(new TextDecoder().decode(await connection.request(0)))
      process.exit()
    } catch (error) { console.log(error.code, error.syscall) }`
  const limited = ['prlimit', '--memlock=65536', process.execPath, '--input-type=module', '-e']
  const asRoot =
    process.getuid?.() === 0 ? [setpriv, '--bounding-set=-ipc_lock', '--inh-caps=-ipc_lock'] : []
  if (asRoot.length > 0 && spawnSync(setpriv, ['--version']).status !== 0) {
    t.plan(0, `root may lock what it likes, and there is no ${setpriv}`)
    return
  }
  const run = (lock: unknown): string => {
    const [command, ...args] = [...asRoot, ...limited, program(lock)]
    return execFileSync(command, args, {
      encoding: 'utf8',
      cwd: import.meta.dirname ?? '.',
    }).trim()
  }
  t.equal(run(true), 'ERR_COROIPC_NO_MEMORY mlock')
  t.equal(run('try'), 'fine')
})

t.test('hugePages: a segment of 2 MiB and more has them, on both sides', async (t) => {
  const demanded = await outcome(() => new Server({ hugePages: true }))
  if (demanded !== 'OK') {
    t.plan(0, `this machine has none now: ${demanded}`)
    return
  }
  await withServer({ hugePages: 'try', limits: { messageBytes: 16 * MIB } }, async (name) => {
    const connection = await connect(name, { service: 1, trustServer: true })
    using buffer = await connection.allocate(16 * MIB)
    buffer.bytes.fill(7)
    t.equal(Buffer.from(await connection.request(0, buffer)).toString(), '7')
    const both = huge()
    t.comment(`${both} KiB in huge pages`)
    t.ok(both >= 16 * 1024, 'at least one side maps all of it so')
    await connection.close()
  })
  for (const wrong of ['yes', 1, null])
    t.throws(() => new Server({ hugePages: wrong } as never), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
    })
})

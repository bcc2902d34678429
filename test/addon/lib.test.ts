// The TypeScript around the natives: the table of errors, and the loader of the binary.
import { cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import {
  errorCodes,
  IpcError,
  invalidArgument,
  ipcError,
  Latency,
  Status,
  statusOf,
} from '@coroipc/native'
import t from 'tap'
import { root } from '../support/paths.js'

t.test('every status has one code and a message', async (t) => {
  const messages = new Set<string>()
  for (const [name, status] of Object.entries(Status)) {
    if (name === 'OK' || name === 'AGAIN') continue
    const error = ipcError(status)
    t.equal(error.code, `ERR_COROIPC_${name}`)
    t.equal(statusOf(error), status)
    t.equal(error.name, 'IpcError')
    messages.add(error.message)
  }
  t.equal(messages.size, errorCodes.length)
  t.equal(ipcError(99).code, 'ERR_COROIPC_PROTOCOL', 'a code of a later version')
})

t.test('details say what is known, and nothing else is there', async (t) => {
  const cause = new Error('why')
  const error = ipcError(Status.SYSTEM, { subject: 'listen', errno: 13, syscall: 'bind', cause })
  t.match(error, { errno: -13, syscall: 'bind', cause })
  t.equal(error.message, 'listen: a system call failed: bind EACCES')
  t.same(Object.keys(ipcError(Status.FULL)), ['code'])
  t.match(ipcError(Status.VERSION, { peerVersion: 77 }).message, /version 77, this package \d+$/)
})

t.test('IpcError.is knows errors of another copy of the package', async (t) => {
  const foreign = Object.assign(new Error('x'), { name: 'IpcError', code: 'ERR_COROIPC_FULL' })
  t.ok(IpcError.is(foreign))
  t.ok(IpcError.is(foreign, 'ERR_COROIPC_FULL'))
  t.notOk(IpcError.is(foreign, 'ERR_COROIPC_LIMIT'))
  t.notOk(IpcError.is(new Error('x')))
  t.notOk(IpcError.is(undefined))
})

t.test('a wrong argument says what was expected and what came', async (t) => {
  const error = invalidArgument('requestBytes', 'a multiple of 8', 4097)
  t.equal(error.message, 'requestBytes: expected a multiple of 8, got 4097')
  t.ok(error instanceof RangeError)
  t.equal(error.code, 'ERR_COROIPC_INVALID_ARGUMENT')
  t.ok(invalidArgument('name', 'a string', 5) instanceof TypeError)
  t.ok(invalidArgument('bytes', 'an integer', '5') instanceof TypeError)
  t.ok(invalidArgument('name', 'a short string', 'long', 'range') instanceof RangeError)
})

t.test('without a binary, loading names the command that makes one', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'coroipc-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  cpSync(join(root, 'native/dist'), join(directory, 'dist'), { recursive: true })
  cpSync(join(root, 'native/package.json'), join(directory, 'package.json'))
  await t.rejects(import(pathToFileURL(join(directory, 'dist/index.js')).href), {
    code: 'ERR_COROIPC_NO_BINARY',
    message:
      /no binary for .*build\/Release\/coroipc\.node.*prebuilds\/[^]*node-gyp rebuild[^]*npm run build/,
  })
})

t.test('latency is counted up to each bound, to the exactness of the histogram', async (t) => {
  const latency = new Latency()
  const latencyBounds = [0.5, 10, 50.5, 99.5, 101, 1e9]
  t.same(latency.read({ latencyBounds }).counts, [0, 0, 0, 0, 0, 0], 'nothing yet')
  for (let us = 1; us <= 100; us++) latency.record(0, us / 1000)
  const { count, counts } = latency.read({ latencyBounds, clear: true })
  t.equal(count, 100)
  t.same([counts?.[0], counts?.[4], counts?.[5]], [0, 100, 100])
  for (const [i, expected] of [10, 50, 99].entries())
    t.ok(Math.abs((counts?.[i + 1] ?? 0) - expected) <= 1, `${counts?.[i + 1]}, about ${expected}`)
  t.same(latency.read({ latencyBounds: [5] }).counts, [0], 'cleared')
  t.equal('counts' in latency.read(), false, 'only if asked')
})

// `coroipc doctor` where things are as they should be, and where they are not: limits, CPUs and folders are taken away.
// `coroipc bench`: all of its rows, shortly.
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { command, coroipc, values } from './cli.js'

interface Check {
  readonly section: string
  readonly check: string
  readonly level: string
  readonly found: string
  readonly advice?: string
}

const checksOf = (stdout: string): Map<string, Check> =>
  new Map(
    (values(stdout) as unknown as Check[])
      .filter(({ check }) => check !== undefined)
      .map((each) => [each.check, each]),
  )

t.test('where the other tests pass nothing fails, and the self test is real', async (t) => {
  const { code, stdout, stderr } = await coroipc(['doctor', '--json'])
  t.equal(code, 0, stderr)
  const all = values(stdout)
  const checks = checksOf(stdout)
  const { summary } = all.at(-1) as { summary: Record<string, number> }
  t.equal(summary['fail'], 0)
  t.equal((summary['ok'] as number) + (summary['warn'] as number), checks.size)
  for (const name of ['kernel', 'Node.js', 'addon', 'memfd', 'pidfd', 'open files', 'its death'])
    t.ok(checks.has(name), name)
  t.match(checks.get('addon')?.found, /\/coroipc\.node, ABI \d+$/)
  t.match(checks.get('calls to a server of another process')?.found, /^1,000 of 64 bytes: /)
  for (const { check, level, advice } of checks.values())
    t.equal(advice === undefined, level === 'ok', `${check}: advice only where something is wrong`)
})

t.test('what is taken away is seen, with advice', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-doctor-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  chmodSync(folder, 0o777)
  const less = ['--nofile=128', '--memlock=65536', 'taskset', '-c', '0']
  const args = [...less, ...command, 'doctor', '--json']
  const { stdout, status, error } = spawnSync('prlimit', args, {
    encoding: 'utf8',
    env: { ...process.env, COROIPC_RUNTIME_DIR: folder },
  })
  if (error !== undefined) {
    t.pass('', { skip: 'no prlimit (apt-get install util-linux)' })
    return
  }
  t.equal(status, 0, 'warnings are no failure')
  const checks = checksOf(stdout)
  for (const [name, found] of [
    ['CPUs', /^1 usable/],
    ['open files', /^128 of 128: about 44 connections/],
    ['locked memory', /^64 KiB/],
    [folder, /mode 0777/],
  ] as const) {
    t.equal(checks.get(name)?.level, 'warn', name)
    t.match(checks.get(name)?.found, found)
    t.type(checks.get(name)?.advice, 'string')
  }
})

t.test('bench measures each of its rows', async (t) => {
  const { code, stdout, stderr } = await coroipc(['bench', '--ms', '30', '--json'])
  t.equal(code, 0, stderr)
  const [machine, ...rows] = values(stdout)
  t.match(machine, { cpu: String, kernel: String, node: process.version })
  t.equal(rows.length, 7)
  for (const { measure, perSecond } of rows) t.ok((perSecond as number) > 0, String(measure))
  t.ok(rows.filter(({ bytesPerSecond }) => (bytesPerSecond as number) > 0).length === 3)
  const table = await coroipc(['bench', '--ms', '5', '--free'])
  t.match(table.stdout, /not pinned\n/)
  t.match(table.stdout, /^MEASURE +PAYLOAD +PER SECOND +P50 +P99 +BANDWIDTH$/m)
  t.match(table.stdout, /^blocking call, payload one way +1 MiB .*\/s$/m)
})

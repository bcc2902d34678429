// `coroipc doctor` where things are as they should be, and where they are not: limits, CPUs and folders are taken away.
// `coroipc bench`: all of its rows, shortly.
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { featureCodes } from '@coroipc/native'
import t from 'tap'
import { until } from '../support/wait.js'
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
  const features = [...checks.values()].filter(({ section }) =>
    section.startsWith('Kernel features'),
  )
  t.equal(
    features.length,
    Object.keys(featureCodes).length + 1,
    'each feature of the header, and the addon',
  )
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

// As root: a control group of our own, of either version, in which doctor runs.
const folderOf = (controller: string): string | undefined =>
  ['/sys/fs/cgroup', `/sys/fs/cgroup/${controller}`]
    .filter((folder) => existsSync(join(folder, 'cgroup.procs')))
    .map((folder) => join(folder, `coroipc-test-${process.pid}`))[0]

async function inGroup(
  controller: string,
  limits: Record<string, string>,
): Promise<Map<string, Check> | string> {
  const folder = folderOf(controller)
  if (folder === undefined) return `no control groups for ${controller}`
  try {
    mkdirSync(folder)
  } catch {
    return 'not root, or control groups are read-only'
  }
  try {
    for (const [file, value] of Object.entries(limits))
      if (existsSync(join(folder, file))) writeFileSync(join(folder, file), value)
    const enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    const args = ['-c', enter, folder, ...command, 'doctor', '--json']
    const { stdout } = spawnSync('sh', args, { encoding: 'utf8' })
    return checksOf(stdout)
  } finally {
    await until('an empty group', () => {
      try {
        rmdirSync(folder)
        return true
      } catch {
        return false
      }
    })
  }
}

t.test('quotas of control groups are seen', async (t) => {
  const cpu = await inGroup('cpu', { 'cpu.max': '150000 100000', 'cpu.cfs_quota_us': '150000' })
  if (typeof cpu === 'string') t.pass('', { skip: cpu })
  else {
    t.equal(cpu.get('CPU quota')?.level, 'warn')
    t.match(cpu.get('CPU quota')?.found, /^1\.5 CPUs/)
  }
  const bytes = `${200 << 20}`
  const memory = await inGroup('memory', { 'memory.max': bytes, 'memory.limit_in_bytes': bytes })
  if (typeof memory === 'string') t.pass('', { skip: memory })
  else t.match(memory.get('memory limit')?.found, /^200 MiB, .* used/)
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

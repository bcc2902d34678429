/** CPUs, limits, memory and the settings of the kernel. */
import { usableCpus } from '../cpus.js'
import { bytesText, count } from '../output.js'
import { type Check, ok, readNumber, readText, warn } from './check.js'
import { cpuQuota, memoryLimit } from './control-group.js'

export function cpus(): Check[] {
  const usable = usableCpus().length
  const checks = [
    usable > 1
      ? ok('CPUs', `${usable} usable: both sides look before they sleep`)
      : warn(
          'CPUs',
          '1 usable: nobody looks before sleeping, each call pays two wake-ups',
          'give the processes a second CPU (taskset, cpuset of the container); with one, wait: "sleep" changes nothing',
        ),
  ]
  const quota = cpuQuota()
  if (quota === undefined) return checks
  if (quota === Infinity) checks.push(ok('CPU quota', 'none'))
  else if (quota >= 2) checks.push(ok('CPU quota', `${quota.toFixed(1)} CPUs`))
  else
    checks.push(
      warn(
        'CPU quota',
        `${quota.toFixed(1)} CPUs: looking uses it up, and then both sides stand still together`,
        "wait: 'sleep' at server and clients, or a larger quota (docker --cpus, CPUQuota= of systemd)",
      ),
    )
  return checks
}

interface Limit {
  readonly soft: number
  readonly hard: number
}

/** A row of /proc/self/limits. */
function limitOf(name: string): Limit | undefined {
  const row = new RegExp(`^${name}\\s+(\\S+)\\s+(\\S+)`, 'm').exec(
    readText('/proc/self/limits') ?? '',
  )
  const number = (text: string | undefined): number =>
    text === 'unlimited' ? Infinity : Number(text)
  return row === null ? undefined : { soft: number(row[1]), hard: number(row[2]) }
}

/** Rings of a connection with the defaults, and its control page. */
const CONNECTION_BYTES = (1 << 20) + 4096
/** What Node.js itself has open. */
const OWN_FDS = 40

export function limits(): Check[] {
  const checks: Check[] = []
  const files = limitOf('Max open files')
  if (files !== undefined) {
    const connections = Math.floor((files.soft - OWN_FDS) / 2)
    const found = `${count(files.soft)} of ${count(files.hard)}: about ${count(connections)} connections, two each`
    checks.push(
      connections >= 256
        ? ok('open files', found)
        : warn('open files', found, 'ulimit -n 8192, or LimitNOFILE=8192 of the systemd unit'),
    )
  }
  const locked = limitOf('Max locked memory')
  if (locked !== undefined)
    checks.push(
      locked.soft >= CONNECTION_BYTES
        ? ok(
            'locked memory',
            locked.soft === Infinity
              ? 'unlimited'
              : `${bytesText(locked.soft)}: \`prefault\` locks ${Math.floor(locked.soft / CONNECTION_BYTES)} connections`,
          )
        : warn(
            'locked memory',
            `${bytesText(locked.soft)}: \`prefault\` fills the memory and cannot lock it`,
            'only for `prefault`: ulimit -l, LimitMEMLOCK= of the systemd unit, or the capability CAP_IPC_LOCK',
          ),
    )
  const space = limitOf('Max address space')
  if (space !== undefined && space.soft !== Infinity)
    checks.push(
      warn(
        'address space',
        bytesText(space.soft),
        'ulimit -v unlimited: V8 and rings reserve more than they use',
      ),
    )
  return checks
}

export function memory(): Check[] {
  const checks: Check[] = []
  const available = /^MemAvailable:\s*(\d+) kB/m.exec(readText('/proc/meminfo') ?? '')?.[1]
  if (available !== undefined) {
    const bytes = Number(available) * 1024
    const found = `${bytesText(bytes)} available`
    checks.push(
      bytes >= 256 << 20
        ? ok('memory', found)
        : warn(
            'memory',
            found,
            'smaller rings: `limits` of the server (1 MiB a connection by default)',
          ),
    )
  }
  const limit = memoryLimit()
  if (limit !== undefined) {
    const { max, used } = limit
    if (max === Infinity) checks.push(ok('memory limit', 'none'))
    else {
      const found = `${bytesText(max)}, ${bytesText(used)} used; rings count for who touches them first`
      checks.push(
        max - used >= 128 << 20
          ? ok('memory limit', found)
          : warn(
              'memory limit',
              found,
              'a larger limit (docker --memory, MemoryMax= of systemd), or smaller `limits` of the server',
            ),
      )
    }
  }
  const huge = /^HugePages_Total:\s*(\d+)/m.exec(readText('/proc/meminfo') ?? '')?.[1]
  const free = /^HugePages_Free:\s*(\d+)/m.exec(readText('/proc/meminfo') ?? '')?.[1]
  const size = /^Hugepagesize:\s*(\d+) kB/m.exec(readText('/proc/meminfo') ?? '')?.[1]
  if (huge !== undefined)
    checks.push(
      ok(
        'huge pages',
        huge === '0'
          ? 'none reserved, none needed'
          : `${free} of ${huge} free, ${bytesText(Number(size) * 1024)} each`,
      ),
    )
  const shared = readText('/sys/kernel/mm/transparent_hugepage/shmem_enabled')
  const chosen = /\[(\w+)\]/.exec(shared ?? '')?.[1]
  if (chosen !== undefined) checks.push(ok('transparent huge pages of shared memory', chosen))
  return checks
}

/** The kernel's settings: where a value is none to worry about, and what to do else. */
const settings: readonly (readonly [
  path: string,
  good: (value: number) => boolean,
  means: string,
  advice: string,
])[] = [
  [
    'net/unix/max_dgram_qlen',
    (value) => value >= 4,
    'messages that wait in a socket',
    'sysctl net.unix.max_dgram_qlen=64: fds of large messages wait there',
  ],
  [
    'net/core/somaxconn',
    (value) => value >= 128,
    'connects that wait to be accepted',
    'sysctl net.core.somaxconn=4096: clients that come all at once',
  ],
  [
    'vm/max_map_count',
    (value) => value >= 16384,
    'mappings of a process, one for each connection',
    'sysctl vm.max_map_count=65530',
  ],
  [
    'vm/overcommit_memory',
    (value) => value !== 2,
    '0 and 1 take memory when it is touched',
    'with 2 rings are refused when the commit limit is reached: vm.overcommit_ratio, or smaller `limits`',
  ],
  [
    'kernel/pid_max',
    (value) => value >= 32768,
    'process ids until one is used again',
    'sysctl kernel.pid_max=4194304; pidfds tell processes apart all the same',
  ],
]

export function kernelSettings(): Check[] {
  const checks = settings.flatMap(([path, good, means, advice]): Check[] => {
    const value = readNumber(`/proc/sys/${path}`)
    const name = path.replaceAll('/', '.')
    if (value === undefined) return []
    const found = `${value}: ${means}`
    return [good(value) ? ok(name, found) : warn(name, found, advice)]
  })
  const noexec = readNumber('/proc/sys/vm/memfd_noexec')
  if (noexec !== undefined)
    checks.push(ok('vm.memfd_noexec', `${noexec}: ours are never executable, so any value will do`))
  const map = (readText('/proc/self/uid_map') ?? '').split(/\s+/)
  const everybody = map[2] === '4294967295'
  checks.push(
    everybody
      ? ok('user namespace', 'the first one: every user has a number here')
      : warn(
          'user namespace',
          `${map[2]} users are known here`,
          'peers of other users appear as 65534 and are refused: `allowUnmapped`, or run both in one namespace',
        ),
  )
  return checks
}

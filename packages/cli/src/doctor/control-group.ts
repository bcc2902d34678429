/**
 * What the control groups of this process allow, cgroups(7): version 2, and the controllers of version 1 where they are
 * mounted. A limit of any folder above counts as well.
 */
import { readNumber, readText } from './check.js'

interface Hierarchy {
  readonly version: 1 | 2
  /** The process' own folder first, the mount point last. */
  readonly folders: readonly string[]
}

/** Where a controller is looked after, version 1 first: it has it exclusively. Undefined: nowhere to be seen. */
function hierarchy(controller: 'cpu' | 'memory'): Hierarchy | undefined {
  // 36 35 0:30 /root /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct
  const mount = /^\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)$/
  const mounts = (readText('/proc/self/mountinfo') ?? '').split('\n').flatMap((line) => {
    const [, top = '', point = '', type, options = ''] = mount.exec(line) ?? []
    return type === undefined ? [] : [{ top, point, type, options: options.split(',') }]
  })
  const groups = (readText('/proc/self/cgroup') ?? '').split('\n').map((line) => line.split(':'))
  const own = (has: (controllers: string) => boolean): string | undefined =>
    groups.find(([, controllers = '']) => has(controllers))?.[2]
  for (const version of [1, 2] as const) {
    const mounted = mounts.find(({ type, options }) =>
      version === 1 ? type === 'cgroup' && options.includes(controller) : type === 'cgroup2',
    )
    const path = own((names) =>
      version === 1 ? names.split(',').includes(controller) : names === '',
    )
    if (mounted === undefined || path === undefined) continue
    const { top, point } = mounted
    // In a container the mount may begin at the process' own folder.
    const below = top !== '/' && path.startsWith(top) ? path.slice(top.length) : path
    const folders = [point]
    for (const part of below.split('/').filter((each) => each !== ''))
      folders.unshift(`${folders[0]}/${part}`)
    return { version, folders }
  }
  return undefined
}

/** CPUs' worth of time that is allowed: Infinity without a limit, undefined where that cannot be seen. */
export function cpuQuota(): number | undefined {
  const found = hierarchy('cpu')
  if (found === undefined) return undefined
  const quotas = found.folders.map((folder) => {
    const [quota = '', period = ''] =
      found.version === 2
        ? (readText(`${folder}/cpu.max`) ?? '').split(' ')
        : [readText(`${folder}/cpu.cfs_quota_us`), readText(`${folder}/cpu.cfs_period_us`)]
    return /^\d+$/.test(quota) ? Number(quota) / Number(period) : Infinity // 'max', -1
  })
  return Math.min(...quotas)
}

/** Version 1 says "none" by a number that nobody has. */
const NO_LIMIT = 2 ** 60

/** The memory limit that leaves least, and what is used of it; undefined where that cannot be seen. */
export function memoryLimit(): { readonly max: number; readonly used: number } | undefined {
  const found = hierarchy('memory')
  if (found === undefined) return undefined
  const [limit, usage] =
    found.version === 2
      ? ['memory.max', 'memory.current']
      : ['memory.limit_in_bytes', 'memory.usage_in_bytes']
  let least = { max: Infinity, used: 0 }
  for (const folder of found.folders) {
    const max = readNumber(`${folder}/${limit}`) ?? Infinity
    const used = readNumber(`${folder}/${usage}`) ?? 0
    if (max < NO_LIMIT && max - used < least.max - least.used) least = { max, used }
  }
  return least
}

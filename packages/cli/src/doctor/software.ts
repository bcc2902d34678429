/** Kernel, Node.js, the addon, and what of the kernel works here. */
import { readFileSync } from 'node:fs'
import os from 'node:os'
import { getSystemErrorName } from 'node:util'
import type * as Native from '@coroipc/native'
import { type Check, fail, ok, warn } from './check.js'

const NODE_MAJOR_MIN = 20

export function versions(): Check[] {
  const kernel = `${os.type()} ${os.release()} ${os.machine()}`
  const node = `${process.version}, ${process.execPath}`
  const major = Number(process.versions.node.split('.')[0])
  return [
    os.type() === 'Linux'
      ? ok('kernel', kernel)
      : fail('kernel', kernel, 'coroipc needs Linux: memfd, seals and pidfd are its own'),
    major >= NODE_MAJOR_MIN
      ? ok('Node.js', node)
      : fail('Node.js', node, `install Node.js ${NODE_MAJOR_MIN} or later`),
  ]
}

/** Where the binary is that this process has loaded. */
function loadedFrom(): string {
  const line = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .find((each) => each.endsWith('coroipc.node'))
  return line?.slice(line.indexOf('/')) ?? 'loaded'
}

type Feature = keyof typeof Native.featureCodes

/** The names of the features as people know them; whether anything works without; what to do. */
const features: Readonly<Record<Feature, readonly [name: string, advice: string]>> = {
  memfd: [
    'memfd',
    'a filter of system calls (seccomp) forbids memfd_create(2): allow it for this container',
  ],
  seals: [
    'memory seals',
    'fcntl(2) F_ADD_SEALS is forbidden or ignored (gVisor, seccomp): another sandbox',
  ],
  sockets: [
    'SOCK_SEQPACKET sockets',
    'AF_UNIX sockets of this type are forbidden: RestrictAddressFamilies=AF_UNIX of systemd, or seccomp',
  ],
  fdPassing: [
    'fd passing',
    'SCM_RIGHTS is forbidden here: look at the security module (AppArmor, SELinux)',
  ],
  credentials: [
    'peer credentials',
    'SO_PEERCRED and SO_PEERGROUPS are missing: another kernel or sandbox',
  ],
  epoll: ['epoll, eventfd, timerfd', 'a filter of system calls forbids one of them: allow them'],
  dontfork: ['MADV_DONTFORK', 'madvise(2) is forbidden: allow it'],
  pidfd: [
    'pidfd',
    'Linux 5.3, or a filter that allows pidfd_open(2). Without it a client whose forked child holds the socket counts as alive',
  ],
  peerPidfd: [
    'SO_PEERPIDFD',
    'Linux 6.5. Until then the pid is turned into a pidfd a moment later: a process that ends meanwhile can be mistaken',
  ],
  noexecSeal: [
    'MFD_NOEXEC_SEAL',
    'Linux 6.3. Until then shared memory could be mapped executable by a peer that has it',
  ],
  populate: [
    'MADV_POPULATE_WRITE',
    'Linux 5.14. Only `prefault` misses it, where mlock is not allowed',
  ],
  punchHole: [
    'punching holes',
    'Only memory misses it: what a connection has used stays used until it ends',
  ],
}

/** What nothing works without: the first seven of `enum coroipc_feature`. */
const required = new Set<Feature>([
  'memfd',
  'seals',
  'sockets',
  'fdPassing',
  'credentials',
  'epoll',
  'dontfork',
])

/** The addon, and each feature of the kernel tried for real. Without an addon there is only the one check. */
export async function addonAndFeatures(): Promise<Check[]> {
  let native: typeof Native
  try {
    native = await import('@coroipc/native')
  } catch (error) {
    // The loader says what is wrong, and below that what to do.
    const [what = '', ...advice] = (error as Error).message.split('\n')
    return [fail('addon', what, advice.join('\n      '))]
  }
  const { abiVersion, addon, featureCodes } = native
  const names = Object.keys(featureCodes) as Feature[]
  const tried = names.map((name): Check => {
    const [title, advice] = features[name]
    const error = addon.featureTry(featureCodes[name])
    if (error === 0) return ok(title, 'works')
    return (required.has(name) ? fail : warn)(title, getSystemErrorName(-error), advice)
  })
  return [ok('addon', `${loadedFrom()}, ABI ${abiVersion}`), ...tried]
}

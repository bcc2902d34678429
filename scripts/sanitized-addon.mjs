// The addon built with a sanitizer, in the other one's place, for scripts/test.mjs --addon=asan|lsan; and built for a host that
// allows no external buffers, as Electron: at compile time (copying), or when it asks (refused); and built to be counted (coverage).
//
// The sanitizer's library is preloaded into Node and into all that it starts; what it has to say goes to files. A memory error
// ends its process. A leak changes no exit code, since tests look at those; it counts when the memory was allocated by
// code of this repository. (V8 leaves things behind when process.exit() ends it, and so does every shell.) No list of
// suppressions: whose a leak is, is seen from the frames between the allocation and V8.
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { coverageEnvironment, coverageFlags } from './coverage.mjs'

const root = resolve(import.meta.dirname, '..')
const kinds = {
  asan: { runtime: 'libasan.so', flags: '-fsanitize=address,undefined -fno-sanitize-recover=all' },
  lsan: { runtime: 'liblsan.so', flags: '-fsanitize=leak' },
  copying: { flags: '-DNODE_API_NO_EXTERNAL_BUFFERS_ALLOWED' },
  refused: { flags: `-include ${join(root, 'test/support/refusing_host.h')}` },
  coverage: {
    flags: coverageFlags,
    compiler: ['CC=clang-14', 'CXX=clang++-14'],
    also: ['libcoroipc'],
  },
}
// A frame names its source as the compiler was given it, or the file that it was loaded from.
const ownSource = / (?:\.\.\/)*(?:src|addon|test\/\w+|examples\/[\w-]+)\/\w+\.(?:cc|c|h):/

export const addonKinds = Object.keys(kinds)

export class SanitizedAddon {
  #kind
  #place
  #reports

  constructor(kind) {
    this.#kind = kind
    this.#place = join(root, 'build', kind, 'node')
    this.#reports = join(root, 'build', kind, 'reports')
  }

  /** With the definitions of binding.gyp, which node-gyp has made a Makefile of. */
  build() {
    const { flags, compiler = [], also = [] } = kinds[this.#kind]
    const linked = this.#sanitizes || this.#kind === 'coverage'
    const run = (command, ...args) => spawnSync(command, args, { stdio: 'inherit' }).status === 0
    mkdirSync(this.#place, { recursive: true })
    // biome-ignore format: a line for what belongs together
    return (
      run('make', '-C', 'native/build', '--silent', '--no-print-directory', '-j2',
        'BUILDTYPE=Release', `builddir=${this.#place}`,
        `CXXFLAGS=${flags} -fno-omit-frame-pointer`, `LDFLAGS=${linked ? flags : ''}`, ...compiler, 'coroipc', ...also) &&
      (!this.#sanitizes || run('gcc', '-shared', '-fPIC', '-g', '-O0', '-w', '-Wl,-z,nodelete', ...flags.split(' '),
        '-o', `${this.#place}/planted.node`, join(root, 'test/support/planted.c')))
    )
  }

  /** For Node and what it starts. */
  environment() {
    const replaced = {
      NODE_OPTIONS: `--require=${join(root, 'test/support/other-addon.cjs')}`,
      COROIPC_TEST_ADDON: join(this.#place, 'coroipc.node'),
    }
    // Programs of the tests link with the shared library, which is found here before the one that they were built with.
    if (this.#kind === 'coverage')
      return { ...replaced, ...coverageEnvironment, LD_LIBRARY_PATH: this.#place }
    if (!this.#sanitizes) return replaced
    const runtime = spawnSync('gcc', [`-print-file-name=${kinds[this.#kind].runtime}`], {
      encoding: 'utf8',
    }).stdout.trim()
    const options = `detect_leaks=1:abort_on_error=1:exitcode=0:log_exe_name=1:log_path=${this.#reports}/report`
    return {
      ...replaced,
      LD_PRELOAD: runtime,
      ASAN_OPTIONS: options,
      LSAN_OPTIONS: this.#kind === 'lsan' ? options.replace('abort_on_error=1:', '') : '',
      UBSAN_OPTIONS: 'print_stacktrace=1',
    }
  }

  /** What stands for "nothing was found", of a kind that looks for something; of a copying one, that it does copy. */
  get verdict() {
    return this.#sanitizes ? 'no memory error, no leak' : 'no external buffers'
  }

  clear() {
    rmSync(this.#reports, { recursive: true, force: true })
    mkdirSync(this.#reports, { recursive: true })
  }

  /** What was found since `clear`: one text for each memory error or leak of ours, the same one only once. */
  findings() {
    const found = new Map()
    if (!this.#sanitizes) return this.#allowsExternalBuffers() ? ['it is like any other'] : []
    for (const name of readdirSync(this.#reports)) {
      const said = readFileSync(join(this.#reports, name), 'utf8')
      const leaks = said.split(/^(?=(?:Direct|Indirect) leak of )/m)
      if (!/ERROR: LeakSanitizer/.test(leaks[0])) found.set(said.slice(0, 200), said)
      for (const leak of leaks.slice(1)) {
        const frames = leak.split('\n').filter((line) => /^ {4}#\d+ /.test(line))
        const engine = frames.findIndex((line) =>
          / Builtins_|<unknown module>|v8::internal::/.test(line),
        )
        const ours = frames.slice(0, engine < 0 ? undefined : engine)
        if (!ours.some((line) => line.includes(root) || ownSource.test(line))) continue
        const key = frames.map((line) => line.replace(/#\d+ 0x[0-9a-f]+/, '')).join('\n')
        if (!found.has(key)) found.set(key, `${name}: ${leak.trim()}`)
      }
    }
    return [...found.values()]
  }

  /** Whether a planted error is seen. A run that does not see it sees nothing. */
  sees(what) {
    this.clear()
    const env = { ...process.env, ...this.environment() }
    if (what === 'overflow') env.COROIPC_TEST_OVERFLOW = '1'
    const load = `try { process.dlopen({ exports: {} }, '${this.#place}/planted.node') } catch {}`
    spawnSync(process.execPath, ['-e', load], { env, stdio: 'ignore' })
    const seen = this.findings().some((finding) =>
      what === 'overflow'
        ? finding.includes('heap-buffer-overflow')
        : finding.includes('12345 byte'),
    )
    this.clear()
    return seen
  }

  /** Tests of what is shared are skipped where nothing is, and say nothing of an addon that was built wrong. */
  #allowsExternalBuffers() {
    const ask = `process.stdout.write(String(require('${this.#place}/coroipc.node').externalBuffers))`
    const env = { ...process.env, ...this.environment() }
    return spawnSync(process.execPath, ['-e', ask], { env, encoding: 'utf8' }).stdout !== 'false'
  }

  get plants() {
    if (!this.#sanitizes) return []
    return this.#kind === 'asan' ? ['leak', 'overflow'] : ['leak']
  }

  get #sanitizes() {
    return kinds[this.#kind].runtime !== undefined
  }
}

// Links of a folder of static pages that lead nowhere: to a file that is not there, or to an anchor that it does not have.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'

const decode = (text) =>
  text.replaceAll('&amp;', '&').replaceAll('&quot;', '"').replaceAll('&#39;', "'")

export function brokenLinks(folder) {
  const files = readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith('.html'))
    .map((name) => join(folder, name))
  const pages = new Map(files.map((file) => [file, readFileSync(file, 'utf8')]))
  const anchors = new Map()
  const anchorsOf = (file) => {
    if (!anchors.has(file)) {
      const ids = [...pages.get(file).matchAll(/\s(?:id|name)="([^"]*)"/g)].map(([, id]) =>
        decode(id),
      )
      anchors.set(file, new Set(ids))
    }
    return anchors.get(file)
  }
  const broken = []
  for (const [file, html] of pages) {
    for (const [, raw] of html.matchAll(/\s(?:href|src)="([^"]*)"/g)) {
      const link = decode(raw)
      if (/^[a-z][a-z+.-]*:/i.test(link)) continue
      const [path, anchor] = link.split('#').map(decodeURIComponent)
      const target = path === '' ? file : join(dirname(file), path.replace(/\?.*$/, ''))
      const from = relative(folder, file)
      if (!existsSync(target) || statSync(target).isDirectory())
        broken.push({ page: from, link, why: 'no such file' })
      else if (anchor && pages.has(target) && !anchorsOf(target).has(anchor))
        broken.push({ page: from, link, why: 'no such anchor' })
    }
  }
  return broken
}

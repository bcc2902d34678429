/** A table that is sorted by the column whose title is pressed, and redrawn in place: rows keep their elements. */
import { element, text } from './dom.js'
import { count } from './units.js'

export interface Column<Row> {
  readonly title: string
  /** What it is sorted by, and shown. */
  readonly sort: (row: Row) => number | string
  /** Default: a number as it is, rounded. */
  readonly show?: (value: number) => string
  /** It is a text, and stands left. */
  readonly isText?: boolean
  readonly mark?: (row: Row) => boolean
}

export class SortedTable<Row> {
  readonly #columns: readonly Column<Row>[]
  readonly #body: HTMLElement = element('tbody')
  readonly #heads = new Map<string, HTMLElement>()
  readonly #classOf: (row: Row) => string
  #by: string
  #descending = true
  #rows: readonly Row[] = []

  constructor(
    place: HTMLElement,
    columns: readonly Column<Row>[],
    by: string,
    classOf: (row: Row) => string,
  ) {
    this.#columns = columns
    this.#by = by
    this.#classOf = classOf
    const head = element('tr')
    for (const { title, isText } of columns) {
      const button = element('button', { type: 'button' }, [title])
      button.addEventListener('click', () => this.#sortBy(title))
      const cell = element('th', isText === true ? { class: 'text' } : {}, [button])
      this.#heads.set(title, cell)
      head.append(cell)
    }
    place.append(element('thead', {}, [head]), this.#body)
  }

  show(rows: readonly Row[]): void {
    this.#rows = rows
    const column = this.#columns.find(({ title }) => title === this.#by)
    const key = column?.sort ?? (() => 0)
    const sorted = rows.toSorted((a, b) => {
      const [x, y] = [key(a), key(b)]
      const order = typeof x === 'string' ? x.localeCompare(String(y)) : x - Number(y)
      return this.#descending ? -order : order
    })
    for (const [title, cell] of this.#heads) {
      if (title !== this.#by) cell.removeAttribute('aria-sort')
      else cell.setAttribute('aria-sort', this.#descending ? 'descending' : 'ascending')
    }
    while (this.#body.children.length > sorted.length) this.#body.lastElementChild?.remove()
    while (this.#body.children.length < sorted.length) this.#body.append(this.#row())
    for (const [i, row] of sorted.entries()) this.#fill(this.#body.children[i] as HTMLElement, row)
  }

  #sortBy(title: string): void {
    this.#descending = this.#by === title ? !this.#descending : true
    this.#by = title
    this.show(this.#rows)
  }

  #row(): HTMLElement {
    return element(
      'tr',
      {},
      this.#columns.map(({ isText }) => element('td', isText === true ? { class: 'text' } : {})),
    )
  }

  #fill(place: HTMLElement, row: Row): void {
    place.className = this.#classOf(row)
    for (const [i, { sort, show = count, isText, mark }] of this.#columns.entries()) {
      const cell = place.children[i] as HTMLElement
      const value = sort(row)
      const words = typeof value === 'string' ? text(value) : show(value)
      if (cell.textContent !== words) cell.textContent = words
      if (isText === true) cell.title = words
      if (mark !== undefined) cell.classList.toggle('on', mark(row))
    }
  }
}

/*
 * Runs in the page that `sluice matrix -o html` writes: filters, draws what is in view, and says why. Names come from a cluster's users,
 * and are only ever set as text. Nothing is fetched.
 */
'use strict';

const data = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);
const [grid, space, columns, rows, cells] = ['grid', 'space', 'columns', 'rows', 'cells'].map(byId);

/** A family of which there is no pair. */
const NONE = -1;
const SIGNS = { allowed: '✓', denied: '✕', partly: '◐', none: '' };
const FIELDS = ['q', 'from', 'to', 'port', 'verdict'];

/*
 * The verdicts. Of each line of a destination there is, by source, the number of an egress reason and of an ingress reason. Written down are
 * the usual ones (`rowBase` of each source, `base` of each line) and the exceptions: `x` in IPv4, and `y` where IPv6 differs from that.
 */
const decoded = new Map();

function decode(line) {
  const known = decoded.get(line);
  if (known !== undefined) return known;
  const count = data.sources.length;
  const v4 = { egress: Int32Array.from(data.rowBase), ingress: new Int32Array(count).fill(line.base) };
  for (let at = 0; at < line.x.length; at += 3) [v4.egress[line.x[at]], v4.ingress[line.x[at]]] = [line.x[at + 1], line.x[at + 2]];
  const v6 = { egress: v4.egress.slice(), ingress: v4.ingress.slice() };
  for (let at = 0; at < line.y.length; at += 3) [v6.egress[line.y[at]], v6.ingress[line.y[at]]] = [line.y[at + 1], line.y[at + 2]];
  const verdicts = { 4: v4, 6: v6 };
  decoded.set(line, verdicts);
  return verdicts;
}

/** Of each family that is asked about, whether it is allowed, and the reasons. */
function answersOf(line, row) {
  const verdicts = decode(line);
  return [4, 6].flatMap((family) => {
    const [egress, ingress] = [verdicts[family].egress[row], verdicts[family].ingress[row]];
    if (egress === NONE) return [];
    const allowed = data.reasons[egress].allowed && data.reasons[ingress].allowed;
    return [{ family, allowed, egress: data.reasons[egress], ingress: data.reasons[ingress] }];
  });
}

/** `allowed` and `denied` where all ports and families agree. */
function verdictOf(row, column) {
  let [allowed, denied] = [0, 0];
  for (const line of linesOf(column)) {
    for (const answer of answersOf(line, row)) {
      if (answer.allowed) allowed++;
      else denied++;
    }
  }
  if (allowed + denied === 0) return 'none';
  return denied === 0 ? 'allowed' : allowed === 0 ? 'denied' : 'partly';
}

/* Searching. Every word has to be in the name, the namespace or a label. */

const texts = (end) =>
  `${end.name} ${end.namespace ?? ''} ${Object.entries(end.labels ?? {})
    .map(([key, value]) => `${key}=${value}`)
    .join(' ')} ${end.members.join(' ')}`.toLowerCase();
const sourceTexts = data.sources.map(texts);
const destinationTexts = data.destinations.map(texts);
const wordsOf = (text) =>
  text
    .toLowerCase()
    .split(/\s+/u)
    .filter((word) => word !== '');
const has = (text, words) => words.every((word) => text.includes(word));

/** Of a destination the lines that are about the port that is asked for. */
function linesOf(column) {
  const { lines } = data.destinations[column];
  const wanted = filter.port;
  if (wanted === undefined) return lines;
  return lines.filter(({ spans }) =>
    spans.some(
      ([protocol, first, last]) =>
        (wanted.protocol === '' || wanted.protocol === protocol) && (wanted.port === 0 || (first <= wanted.port && wanted.port <= last)),
    ),
  );
}

function portOf(text) {
  const [, digits = '', name = ''] = /^\s*(\d*)\s*\/?\s*([a-z]*)\s*$/iu.exec(text) ?? [];
  return digits === '' && name === '' ? undefined : { port: Number(digits), protocol: name.toUpperCase() };
}

let filter = { port: undefined, verdict: '' };
/** What is drawn: indexes of sources and destinations, and which of them were searched for. */
let view = { rows: [], columns: [], rowHits: new Set(), columnHits: new Set(), isSearch: false };
let active = { row: 0, column: 0 };

function search() {
  const field = (id) => byId(id).value;
  filter = { port: portOf(field('port')), verdict: field('verdict') };
  const [anywhere, from, to] = [wordsOf(field('q')), wordsOf(field('from')), wordsOf(field('to'))];
  let shownRows = [...data.sources.keys()].filter((row) => has(sourceTexts[row], from));
  let shownColumns = [...data.destinations.keys()].filter((column) => has(destinationTexts[column], to) && linesOf(column).length > 0);
  const isSearch = anywhere.length > 0;
  const rowHits = new Set(isSearch ? shownRows.filter((row) => has(sourceTexts[row], anywhere)) : []);
  const columnHits = new Set(isSearch ? shownColumns.filter((column) => has(destinationTexts[column], anywhere)) : []);
  if (isSearch) {
    // A row that was searched for reaches any column, and a column is reached by any row: the matches come first, and stay in view.
    shownRows = [...rowHits, ...(columnHits.size > 0 ? shownRows.filter((row) => !rowHits.has(row)) : [])];
    shownColumns = [...columnHits, ...(rowHits.size > 0 ? shownColumns.filter((column) => !columnHits.has(column)) : [])];
  }
  view = { rows: shownRows, columns: shownColumns, rowHits, columnHits, isSearch };
  if (filter.verdict !== '') {
    const kept = { rows: new Set(), columns: new Set() };
    for (const row of shownRows) {
      for (const column of shownColumns) {
        if (signOf(row, column) === 'none') continue;
        kept.rows.add(row);
        kept.columns.add(column);
      }
    }
    view.rows = shownRows.filter((row) => kept.rows.has(row));
    view.columns = shownColumns.filter((column) => kept.columns.has(column));
  }
  active = { row: 0, column: 0 };
  const count = (number) => number.toLocaleString('en');
  const all = data.allowed + data.denied;
  const total = `${count(all)} ${all === 1 ? 'flow' : 'flows'}: ${count(data.allowed)} allowed, ${count(data.denied)} denied`;
  const isAll = FIELDS.every((id) => field(id).trim() === '');
  byId('count').textContent = isAll
    ? total
    : `${view.rows.length} × ${view.columns.length} of ${data.sources.length} × ${data.destinations.length}`;
  byId('nothing').hidden = view.rows.length > 0 && view.columns.length > 0;
  grid.scrollTo(0, 0);
  resize();
}

/** What a cell shows: nothing where neither end was searched for, or another verdict is wanted. */
function signOf(row, column) {
  if (view.isSearch && !view.rowHits.has(row) && !view.columnHits.has(column)) return 'none';
  const verdict = verdictOf(row, column);
  return filter.verdict === '' || filter.verdict === verdict ? verdict : 'none';
}

/* Drawing: only what is in view, so that thousands of rows and columns cost no more than a screen. */

let sizes = { cell: 30, rowHead: 280, columnHead: 190 };
let drawn = '';

function resize() {
  const style = getComputedStyle(document.documentElement);
  const pixels = (name) => Number.parseInt(style.getPropertyValue(name), 10);
  sizes = { cell: pixels('--cell'), rowHead: pixels('--row-head'), columnHead: pixels('--column-head') };
  space.style.width = `${sizes.rowHead + view.columns.length * sizes.cell + 8}px`;
  space.style.height = `${sizes.columnHead + view.rows.length * sizes.cell + 8}px`;
  grid.setAttribute('aria-rowcount', String(view.rows.length + 1));
  grid.setAttribute('aria-colcount', String(view.columns.length + 1));
  drawn = '';
  draw();
}

function draw() {
  const { cell, rowHead, columnHead } = sizes;
  const [top, left] = [grid.scrollTop, grid.scrollLeft];
  byId('corner').style.transform = `translate(${left}px, ${top}px)`;
  columns.style.transform = `translateY(${top}px)`;
  rows.style.transform = `translateX(${left}px)`;
  const range = (offset, size, count) => [
    Math.max(0, Math.floor(offset / cell) - 2),
    Math.min(count, Math.ceil((offset + Math.max(size, 100)) / cell) + 2),
  ];
  const [firstRow, lastRow] = range(top, grid.clientHeight - columnHead, view.rows.length);
  const [firstColumn, lastColumn] = range(left, grid.clientWidth - rowHead, view.columns.length);
  const key = [firstRow, lastRow, firstColumn, lastColumn, active.row, active.column].join();
  if (key === drawn) return;
  drawn = key;
  const [newRows, newColumns, newCells] = [[], [], []];
  for (let row = firstRow; row < lastRow; row++) {
    const head = headOf('row', data.sources[view.rows[row]], row === active.row);
    head.style.top = `${columnHead + row * cell}px`;
    newRows.push(head);
    for (let column = firstColumn; column < lastColumn; column++) {
      const sign = signOf(view.rows[row], view.columns[column]);
      if (sign === 'none' && !(row === active.row && column === active.column)) continue;
      newCells.push(cellOf(row, column, sign));
    }
  }
  for (let column = firstColumn; column < lastColumn; column++) {
    const head = headOf('column', data.destinations[view.columns[column]], column === active.column);
    head.style.left = `${rowHead + column * cell}px`;
    newColumns.push(head);
  }
  rows.replaceChildren(...newRows);
  columns.replaceChildren(...newColumns);
  cells.replaceChildren(...newCells);
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className !== '') made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function headOf(kind, end, isCurrent) {
  const head = element('div', isCurrent ? `${kind} current` : kind);
  head.setAttribute('role', kind === 'row' ? 'rowheader' : 'columnheader');
  head.title = end.name;
  const prefix = end.namespace === undefined ? '' : `${end.namespace}/`;
  const own = end.name.startsWith(prefix) ? end.name.slice(prefix.length) : end.name;
  // What tells ends apart comes first, for a narrow head shows only that.
  const [, name = own, pods = ''] = /^([^ ]+)( \(\d+ pods\))$/u.exec(own) ?? [];
  head.append(element('span', '', name));
  if (prefix !== '') head.append(element('span', 'namespace', ` ${end.namespace}`));
  if (pods !== '') head.append(element('span', 'pods', pods));
  return head;
}

function cellOf(row, column, sign) {
  const isActive = row === active.row && column === active.column;
  const cell = element('div', `cell ${sign}${isActive ? ' active' : ''}`, SIGNS[sign]);
  cell.style.top = `${sizes.columnHead + row * sizes.cell}px`;
  cell.style.left = `${sizes.rowHead + column * sizes.cell}px`;
  cell.setAttribute('role', 'gridcell');
  cell.setAttribute('aria-rowindex', String(row + 2));
  cell.setAttribute('aria-colindex', String(column + 2));
  const [source, destination] = [data.sources[view.rows[row]], data.destinations[view.columns[column]]];
  cell.setAttribute('aria-label', `${source.name} to ${destination.name}: ${sign}`);
  cell.dataset.row = String(row);
  cell.dataset.column = String(column);
  if (isActive) {
    cell.id = 'active-cell';
    grid.setAttribute('aria-activedescendant', 'active-cell');
  }
  return cell;
}

/* Why. */

function explain() {
  const [row, column] = [view.rows[active.row], view.columns[active.column]];
  if (row === undefined || column === undefined) return;
  const [source, destination] = [data.sources[row], data.destinations[column]];
  const answer = [element('h2', '', `${source.name} → ${destination.name}`)];
  for (const line of linesOf(column)) {
    const answers = answersOf(line, row);
    const isSame = answers.length === 2 && answers[0].egress === answers[1].egress && answers[0].ingress === answers[1].ingress;
    for (const one of isSame ? answers.slice(0, 1) : answers) {
      const sign = one.allowed ? 'allowed' : 'denied';
      const heading = element('h3', '');
      const families = answers.length === 2 && !isSame ? ` over IPv${one.family}` : '';
      heading.append(element('span', `sign ${sign}`, SIGNS[sign]), element('span', '', `${line.label}: ${sign}${families}`));
      const reasons = element('dl', '');
      reasons.append(element('dt', '', 'leaving'), reasonOf(one.egress), element('dt', '', 'arriving'), reasonOf(one.ingress));
      answer.push(heading, reasons);
    }
  }
  if (answer.length === 1)
    answer.push(element('p', '', 'There is nothing to ask: it is the same pod, a pod and its own node, or none of the two is a pod.'));
  for (const [what, end] of [
    ['From', source],
    ['To', destination],
  ]) {
    const members = element('details', '');
    members.append(element('summary', '', `${what}: ${end.name}`));
    const labels = Object.entries(end.labels ?? {}).map(([key, value]) => `${key}=${value}`);
    if (labels.length > 0) members.append(element('code', '', labels.join(' ')));
    const list = element('ul', '');
    list.append(...end.members.map((name) => element('li', '', name)));
    members.append(list);
    answer.push(members);
  }
  byId('answer').replaceChildren(...answer);
  byId('why').hidden = false;
  resize();
}

const REASONS = {
  external: 'not a pod: no policy is asked',
  node: 'a node’s address: no policy is asked',
  'not-isolated': 'no policy isolates the pod',
  'same-pod': 'the same pod',
  'own-node': 'a pod and its own node',
};

function reasonOf({ allowed, reason, policies, fields }) {
  const answer = element('dd', '');
  if (REASONS[reason] !== undefined) {
    answer.append(REASONS[reason]);
    return answer;
  }
  answer.append(allowed ? 'admitted by ' : policies.length === 1 ? 'not admitted by ' : 'admitted by none of ');
  for (const [index, policy] of policies.entries()) answer.append(index === 0 ? '' : ', ', element('code', '', policy));
  for (const field of fields ?? []) answer.append(element('br', ''), element('code', '', field));
  return answer;
}

function close() {
  byId('why').hidden = true;
  resize();
  grid.focus();
}

/* What a person does. */

function move(row, column) {
  const within = (index, count) => Math.max(0, Math.min(count - 1, index));
  active = { row: within(row, view.rows.length), column: within(column, view.columns.length) };
  const { cell, rowHead, columnHead } = sizes;
  const into = (offset, index, size) => Math.min(index * cell, Math.max(offset, (index + 1) * cell - size));
  grid.scrollTop = into(grid.scrollTop, active.row, grid.clientHeight - columnHead);
  grid.scrollLeft = into(grid.scrollLeft, active.column, grid.clientWidth - rowHead);
  draw();
  if (!byId('why').hidden) explain();
}

grid.addEventListener('keydown', (event) => {
  const page = Math.max(1, Math.floor((grid.clientHeight - sizes.columnHead) / sizes.cell) - 1);
  const steps = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
    PageUp: [-page, 0],
    PageDown: [page, 0],
    Home: [0, -Infinity],
    End: [0, Infinity],
  };
  const step = steps[event.key];
  if (step !== undefined) move(active.row + step[0], active.column + step[1]);
  else if (event.key === 'Enter' || event.key === ' ') explain();
  else return;
  event.preventDefault();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !byId('why').hidden) close();
});
cells.addEventListener('click', (event) => {
  const cell = event.target.closest('.cell');
  if (cell === null) return;
  move(Number(cell.dataset.row), Number(cell.dataset.column));
  explain();
});
grid.addEventListener('scroll', () => requestAnimationFrame(draw));
addEventListener('resize', resize);
byId('close').addEventListener('click', close);
byId('filters').addEventListener('submit', (event) => event.preventDefault());
byId('filters').addEventListener('input', () => {
  search();
  remember();
});
byId('clear').addEventListener('click', () => {
  for (const id of FIELDS) byId(id).value = '';
  search();
  remember();
});

/* The filters are in the address, so that it can be passed on: #q=db&verdict=denied. */

function remember() {
  const said = new URLSearchParams(FIELDS.map((id) => [id, byId(id).value]).filter(([, value]) => value !== ''));
  history.replaceState(undefined, '', `#${said}`);
}

/** On a narrow screen; on others they are always there. */
function showFields(isShown) {
  byId('more').setAttribute('aria-expanded', String(isShown));
}
byId('more').addEventListener('click', () => {
  showFields(byId('more').getAttribute('aria-expanded') !== 'true');
  resize();
});

function recall() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const id of FIELDS) byId(id).value = said.get(id) ?? '';
  showFields(FIELDS.slice(1).some((id) => said.has(id)));
  if (said.has('theme')) setTheme(said.get('theme'));
  search();
  if (said.has('cell')) {
    const [row = 0, column = 0] = said.get('cell').split(',').map(Number);
    move(row, column);
    explain();
  }
}
addEventListener('hashchange', recall);

/* Light, dark, or as the system has it. */

const THEMES = { auto: '◑ auto', light: '☀ light', dark: '☾ dark' };
let theme = 'auto';

function setTheme(name) {
  theme = Object.hasOwn(THEMES, name) ? name : 'auto';
  if (theme === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId('theme').textContent = THEMES[theme];
  byId('theme').setAttribute('aria-label', `Colours: ${theme === 'auto' ? 'as the system has them' : theme}`);
}
byId('theme').addEventListener('click', () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(theme) + 1) % names.length]);
});

byId('origin').textContent = data.origin;
byId('notes').append(...data.notes.map((text) => element('p', '', text)));
recall();

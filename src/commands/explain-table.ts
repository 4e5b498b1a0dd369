/** An explanation for people, to be read at three in the morning: the verdict first, then why, then where that is written. */
import { stringify } from 'yaml';
import type { Paint } from '../output/colour.ts';
import type { ExplainDocument } from './explain-document.ts';

type Flow = ExplainDocument['flows'][number];
type End = Flow['source'];
type Direction = Flow['egress'];
type Part = NonNullable<Direction['by']>;
type Miss = NonNullable<Direction['misses']>[number];

/** More names than this are counted. */
const NAMES_MAX = 3;
const POLICIES_MAX = 6;
const FLOWS_MAX = 40;
const UNANSWERED_MAX = 20;
const OTHER_MISSES_MAX = 2;
const BLOCKS_MAX = 6;
/** Where the text of a direction begins: `  ingress  refused  `. */
const INDENT = 20;
const LABEL = '           ';

/** Lines, each within the width as far as names and addresses let it. */
export function* explainTable(document: ExplainDocument, paint: Paint, width: number): Generator<string> {
  const { flows, unanswered, notes, kernel } = document;
  for (const flow of flows.slice(0, FLOWS_MAX)) {
    yield* flowLines(flow, paint, width);
    yield '';
  }
  if (flows.length > FLOWS_MAX) yield* [`… and ${flows.length - FLOWS_MAX} more kinds of flow: -o json has them all`, ''];
  if (unanswered.length > UNANSWERED_MAX) yield `${unanswered.length} are not answered, of them:`;
  for (const { name, reason } of unanswered.slice(0, UNANSWERED_MAX)) {
    const words = 'no answer';
    yield* wrapped(`${reason}.`, width, `${name}: ${paint('yellow', words)}: `, '  ', `${name}: ${words}: `.length);
  }
  if (unanswered.length > 0) yield '';
  for (const { message } of notes) yield* wrapped(`${message}.`, width, `${paint('dim', 'note')}  `, '      ', 6);
  if (kernel?.unread !== undefined) {
    yield* wrapped(`the kernel of ${kernel.node} was not asked: ${kernel.unread}.`, width, `${paint('dim', 'note')}  `, '      ', 6);
  }
  if (flows.some(disagrees)) {
    yield* wrapped(
      'the kernel does not do what the objects say: sluice verify compares the whole table with them.',
      width,
      `${paint('red', 'note')}  `,
      '      ',
      6,
    );
  }
  if (notes.length > 0 || kernel?.unread !== undefined || flows.some(disagrees)) yield '';
  if (flows.length > 1) {
    const allowed = flows.filter((flow) => flow.allowed).length;
    yield `${flows.length} kinds of flow: ${allowed} allowed, ${flows.length - allowed} refused`;
    yield '';
  }
}

export function disagrees({ egress, ingress }: Flow): boolean {
  return [egress, ingress].some(({ kernel }) => kernel?.judged === true && kernel.agrees === 'no');
}

function* flowLines(flow: Flow, paint: Paint, width: number): Generator<string> {
  const source = endText(flow.source, flow);
  const destination = flow.itself ? 'itself' : endText(flow.destination, flow);
  const verdict = flow.allowed ? paint('green', 'allowed') : paint('red', 'refused');
  const port = portText(flow);
  const length = source.length + destination.length + port.length + 'allowed'.length + '  ->    '.length + '   '.length;
  if (length <= width) yield `${paint('bold', `${source}  ->  ${destination}`)}  ${port}   ${verdict}`;
  else {
    yield paint('bold', source);
    yield `  ->  ${paint('bold', destination)}`;
    yield `  ${port}   ${verdict}`;
  }
  for (const direction of ['egress', 'ingress'] as const) yield* directionLines(direction, flow, paint, width);
  for (const { direction, admits, notes, policy } of flow.suggestions ?? []) {
    yield* wrapped(`would admit it (${direction}): ${admits}`, width, '  suggest  ', LABEL);
    for (const note of notes) yield* wrapped(note, width, `${LABEL}- `, `${LABEL}  `);
    yield* yamlLines(policy);
  }
}

function* yamlLines(policy: Readonly<Record<string, unknown>>): Generator<string> {
  yield '---';
  yield* stringify(policy, { lineWidth: 0, aliasDuplicateObjects: false }).trimEnd().split('\n');
}

/** `shop/web-1 (10.244.1.5)`, `shop/deployment/web: 2 of 50 pods (web-a, web-b)`, `10.0.0.0/8: 10.0.0.0/9 and 3 pods`. */
function endText({ name, of, count, members, blocks }: End, { families }: Flow): string {
  const [only] = members;
  if (count === 1 && blocks.length === 0 && only !== undefined) {
    const addresses = only.addresses.filter((address) => families.includes(address.includes(':') ? 6 : 4));
    if (addresses.includes(only.name)) return only.name;
    return `${only.name} (${addresses.length === 0 ? 'no address yet' : addresses.join(', ')})`;
  }
  const isBlock = /^[0-9a-f:.]+\/\d+$/u.test(name);
  const names = members.slice(0, NAMES_MAX).map((member) => member.name.slice(member.name.indexOf('/') + 1));
  const listed = `${names.join(', ')}${count > names.length ? ', …' : ''}`;
  if (blocks.length === 0) {
    if (isBlock) return `${name}: ${count} ${kindsOf(members, 'addresses of nodes')} in it (${listed})`;
    return `${name}: ${count === of ? '' : `${count} of `}${of} ${kindsOf(members, 'endpoints')} (${listed})`;
  }
  // The parts are what is left without the pods and nodes in it.
  const shown = blocks.slice(0, BLOCKS_MAX);
  const parts = [...shown, ...(blocks.length > shown.length ? [`${blocks.length - shown.length} more blocks`] : [])].join(', ');
  const isWhole = blocks.length === 1 && blocks[0] === name;
  const inIt = count === 0 ? '' : `${isWhole ? ', with' : ' and'} ${count} ${kindsOf(members, 'addresses of nodes')} in it (${listed})`;
  return isWhole ? `${name}${inIt}` : `${name}: ${parts}${inIt}`;
}

/** What is no pod has its address for a name. */
function kindsOf(members: End['members'], others: string): string {
  const pods = members.filter(({ name }) => name.includes('/')).length;
  return pods === members.length ? 'pods' : pods === 0 ? others : `pods and ${others}`;
}

function portText({ protocol, ports, families, source, destination }: Flow): string {
  // Where both families could have been meant and the answer is about one.
  const hasBoth = [source, destination].every(({ members }) =>
    ['.', ':'].every((sign) => members.some(({ addresses }) => addresses.some((address) => address.includes(sign)))),
  );
  const family = hasBoth && families.length === 1 ? `, IPv${families[0]}` : '';
  if (protocol === 'any') return `any port${family}`;
  if (protocol === 'ICMP') return `ICMP${family}`;
  const numbers = ports.map(({ port, servicePort }) =>
    servicePort === undefined || servicePort === port ? `${port}` : `${servicePort} (to ${port})`,
  );
  return `${protocol} ${numbers.join(', ')}${family}`;
}

function* directionLines(direction: 'egress' | 'ingress', flow: Flow, paint: Paint, width: number): Generator<string> {
  const explanation = flow[direction];
  const verdict = explanation.allowed ? 'allowed' : 'refused';
  const head = `  ${direction.padEnd(7)}  ${paint(explanation.allowed ? 'green' : 'red', verdict)}  `;
  yield* wrapped(reasonText(direction, flow), width, head, ' '.repeat(INDENT), INDENT);
  const [nearest, ...others] = explanation.misses ?? [];
  if (nearest !== undefined) yield* missLines(explanation.missesVary === true ? 'of one' : 'nearest', nearest, paint, width);
  for (const miss of others.filter(({ path }) => path !== 'spec').slice(0, OTHER_MISSES_MAX)) yield* missLines('also', miss, paint, width);
  for (const text of explanation.beyondBudget ?? []) yield* wrapped(text, width, `${LABEL}budget   `, ' '.repeat(INDENT));
  yield* kernelLines(explanation.kernel, flow, paint, width);
}

function reasonText(direction: 'egress' | 'ingress', flow: Flow): string {
  const { reason, by, isolatedBy = [] } = flow[direction];
  const end = direction === 'egress' ? flow.source : flow.destination;
  const who = end.count === 1 ? (end.members[0]?.name ?? end.name) : 'them';
  switch (reason) {
    case 'external':
      // A pod of which no policy is asked, though its node has no object.
      if (end.count > 0 && kindsOf(end.members, '') === 'pods' && end.blocks.length === 0)
        return `in the network of ${end.count === 1 ? 'its node' : 'their nodes'}: policy is not asked`;
      return `${end.count === 1 || end.blocks.length > 0 ? 'no pod' : 'no pods'}: policy is not asked`;
    case 'node':
      return "a node's address: policy is not asked";
    case 'not-isolated':
      return `no policy isolates ${who} for ${direction}`;
    case 'same-pod':
      return 'a pod always reaches itself';
    case 'own-node':
      return 'a pod and the node that it runs on always reach each other';
    case 'admitted':
      return by === undefined ? 'admitted' : `by ${partText(by)}${placeText(by)}`;
    case 'refused': {
      const names = isolatedBy.slice(0, POLICIES_MAX).map(({ namespace, name }) => `${namespace}/${name}`);
      const more = isolatedBy.length - names.length;
      return `isolated by ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
    }
  }
}

/** `shop/db-from-api ingress[0].from[1]` */
function partText({ policy, path }: Part): string {
  const within = path === 'spec' ? '' : ` ${path.replace(/^spec\./u, '')}`;
  return `${policy.namespace}/${policy.name}${within}`;
}

function placeText({ file, line }: Part): string {
  return file === undefined ? '' : ` (${file}${line === undefined ? '' : `:${line}`})`;
}

function* missLines(label: 'nearest' | 'of one' | 'also', miss: Miss, paint: Paint, width: number): Generator<string> {
  const head = `${LABEL}${label.padEnd(7)}  `;
  const margin = ' '.repeat(INDENT);
  const [first, ...more] = miss.faults;
  const separator = miss.path === 'spec' ? '' : ':';
  yield* wrapped(`${partText(miss)}${separator} ${first?.text ?? ''}`, width, head, margin);
  for (const { text } of more) yield* wrapped(`and ${text}`, width, margin, `${margin}  `);
  if (label === 'also') return;
  if (miss.file !== undefined) yield `${margin}${paint('dim', placeText(miss).slice(2, -1))}`;
  for (const line of miss.yaml?.split('\n') ?? []) yield `${margin}  ${paint('dim', line)}`;
}

function* kernelLines(kernel: Direction['kernel'], flow: Flow, paint: Paint, width: number): Generator<string> {
  if (kernel === undefined) return;
  const head = `${LABEL}${'kernel'.padEnd(7)}  `;
  const margin = ' '.repeat(INDENT);
  if (!kernel.judged) {
    yield* wrapped(`not asked: ${kernel.reason}`, width, head, margin);
    return;
  }
  const { effect, chain, rule, via, audited, agrees, difference, followed, source, destination } = kernel;
  const does = audited
    ? 'lets it through, by audit alone'
    : { accept: 'lets it through', drop: 'drops it', unknown: 'may do either' }[effect];
  const counted = rule?.packets === undefined ? '' : `, ${rule.packets} ${rule.packets === 1 ? 'packet' : 'packets'} so far`;
  const where = `chain ${chain}${rule?.handle === undefined ? '' : ` handle ${rule.handle}`}`;
  const byPolicy = { accept: `no rule of ${where} refuses it`, drop: `the policy of ${where} drops it`, unknown: `${where} ${does}` }[
    effect
  ];
  const what = rule === undefined ? byPolicy : `${where} ${does}${counted}`;
  const way = via.length > 1 ? ` (through ${via.slice(1).join(', ')})` : '';
  const isMany = [flow.source, flow.destination].some(({ count, blocks }) => count + blocks.length > 1);
  const example = isMany ? `; ${followed} followed, here ${source} -> ${destination}` : '';
  const [style, words] = VERDICTS[agrees];
  yield* wrapped(`${what}${way}${example}`, width, `${head}${paint(style, words)}: `, margin, INDENT + words.length + 2);
  if (rule !== undefined) yield* wrapped(rule.text, width, `${margin}  `, `${margin}    `);
  if (difference !== undefined) yield* wrapped(difference, width, margin, margin);
}

const VERDICTS = {
  yes: ['green', 'agrees'],
  no: ['red', 'does not agree'],
  unknown: ['yellow', 'may not agree'],
} as const;

/** A text in lines; a word that is longer than the width is not broken. `firstWidth`: what `first` takes on a terminal. */
function wrapped(text: string, width: number, first: string, others: string, firstWidth = first.length): string[] {
  const lines: string[] = [];
  let line = first;
  let length = firstWidth;
  let isEmpty = true;
  for (const word of text.split(' ')) {
    if (!isEmpty && length + 1 + word.length > width) {
      lines.push(line);
      [line, length, isEmpty] = [others, others.length, true];
    }
    line += isEmpty ? word : ` ${word}`;
    length += word.length + (isEmpty ? 0 : 1);
    isEmpty = false;
  }
  return [...lines, line];
}

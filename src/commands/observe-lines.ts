/**
 * Observed connections for people: a line each, as wide as the terminal; where that is too narrow, addresses of pods go first, and then
 * the reason gets a line of its own.
 */
import type { AllowedFlow, Denied, Dropped, FlowEnd, FlowRecord } from '../observability/observed-flow.ts';
import type { Paint, Style } from '../output/colour.ts';
import { wrapList } from '../output/lists.ts';

export interface LineOptions {
  readonly paint: Paint;
  /** Undefined: as long as they are, for what is no terminal. */
  readonly width: number | undefined;
  /** ms since the epoch: a day is said where it is another. */
  readonly now: number;
}

const DIRECTION_WIDTH = 'ingress'.length;

/** @param count how many times the same, of which this is the first or the last */
export function flowLines(record: FlowRecord, count: number, { paint, width, now }: LineOptions): string[] {
  const times = count > 1 ? `  x ${grouped(count)}` : '';
  const [what, style] =
    record.kind === 'Denied' ? ([record.direction, record.audited ? 'yellow' : 'red'] as const) : (['allowed', 'green'] as const);
  const head = (withAddresses: boolean): string =>
    `${what.padEnd(DIRECTION_WIDTH)}  ${endText(record.source, withAddresses)} -> ${endText(record.destination, withAddresses)} ${portText(record)}`;
  const time = timeText(record.time, now);
  const reason = record.kind === 'Denied' ? denialText(record) : admissionText(record);
  const painted = (text: string): string =>
    `${paint('dim', time)}  ${paint(style satisfies Style, text.slice(0, DIRECTION_WIDTH))}${text.slice(DIRECTION_WIDTH)}`;
  const whole = (text: string): number => `${time}  ${text}  ${reason}${times}`.length;
  if (width === undefined || whole(head(true)) <= width) return [`${painted(head(true))}  ${reason}${times}`];
  if (whole(head(false)) <= width) return [`${painted(head(false))}  ${reason}${times}`];
  const fits = `${time}  ${head(true)}${times}`.length <= width;
  const indent = ' '.repeat(time.length + 2 + DIRECTION_WIDTH + 2);
  const lines = wrapList(reason.split(', '), Math.max(20, width - indent.length));
  return [`${painted(head(fits))}${times}`, ...lines.map((line) => indent + line)];
}

/** What is not shown, and why. */
export function droppedLine({ time, of, reason, count }: Dropped, { paint, now }: LineOptions): string {
  const [one, many] = of === 'Denied' ? ['refused packet', 'refused packets'] : ['new connection', 'new connections'];
  const what = count === undefined ? `some ${many}` : `${grouped(count)} more ${count === 1 ? one : many}`;
  return paint('dim', `${timeText(time, now)}  ${what} ${count === 1 ? 'is' : 'are'} not shown: ${DROP_REASONS[reason]}`);
}

const DROP_REASONS: Readonly<Record<Dropped['reason'], string>> = {
  rate: 'more than are logged and described in a second',
  sampling: 'more than are described in a second',
  overrun: 'they came faster than they could be read',
  reader: 'this reader is slow',
};

/** `11,832`. What Intl has for it takes 25 ms to load. */
function grouped(count: number): string {
  return String(count).replaceAll(/\B(?=(?:\d{3})+$)/g, ',');
}

/** `12:03:04.123`, in local time; with the day where that is not today's. */
function timeText(time: string, now: number): string {
  const at = new Date(time);
  const two = (value: number): string => String(value).padStart(2, '0');
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, '0')}`;
  return at.toDateString() === new Date(now).toDateString()
    ? clock
    : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}

function endText({ address, namespace, pod, node }: FlowEnd, withAddress: boolean): string {
  const name = pod !== undefined ? `${namespace}/${pod}` : node === undefined ? undefined : `node ${node}`;
  if (name === undefined) return address;
  return withAddress ? `${name} (${address})` : name;
}

function portText({ protocol, protocolNumber, icmp, destination }: FlowRecord): string {
  if (icmp !== undefined) return `ICMP type ${icmp.type}`;
  if (protocol === 'other') return `protocol ${protocolNumber}`;
  return destination.port === undefined ? protocol : `${protocol} ${destination.port}`;
}

function denialText({ audited, reason, ...refused }: Denied): string {
  if (reason === 'unknown') return audited ? 'audited: would be refused, by whom is not known' : 'refused, by whom is not known';
  if (reason === 'changed') return audited ? 'audited: would be refused, and is allowed by now' : 'refused, and allowed by now';
  return `${audited ? 'audited: would be refused by' : 'refused by'} ${policiesText(refused)}`;
}

/** A record names the first of thousands. */
function policiesText({ policies, morePolicies }: Pick<Denied, 'policies' | 'morePolicies'>): string {
  return `${policies.join(', ')}${morePolicies === undefined ? '' : ` and ${grouped(morePolicies)} more`}`;
}

function admissionText({ egress, ingress }: AllowedFlow): string {
  const refused = [egress, ingress].find(({ allowed }) => !allowed);
  if (refused === ingress && refused.node !== undefined) return `as far as here; refused on ${refused.node} by ${policiesText(refused)}`;
  if (refused !== undefined) return `audited, or changed since: refused by ${policiesText(refused)}`;
  if (egress.reason === 'same-pod') return 'a pod and itself';
  if (egress.reason === 'own-node' || ingress.reason === 'own-node') return 'a pod and its own node';
  const admitted = [egress, ingress].flatMap(({ policies: [policy], place }) => (policy === undefined ? [] : [`${policy} ${place}`]));
  return admitted.length === 0 ? 'no policy isolates' : `admitted by ${admitted.join(', ')}`;
}

/** Names, labels, addresses and blocks that the API server takes, and that few people would write. All are drawn from a {@link Dice}. */
import type { Dice } from '../../random/cluster.ts';

/** Names that mean something to programs: all are DNS labels, and so may name anything. */
export const MEANINGFUL_NAMES = [
  'constructor',
  'tostring',
  'hasownproperty',
  'valueof',
  'null',
  'undefined',
  'true',
  '0',
  '1e3',
  'nan',
  'ingress',
  'egress',
  'policy',
  'xn--nxasmq6b',
  'a--b',
] as const;

/** Keys and values of labels may hold capitals, dots and underscores as well. */
export const MEANINGFUL_LABELS = [
  'constructor',
  'toString',
  'hasOwnProperty',
  'valueOf',
  'a__proto__z',
  'null',
  '0',
  'A.b_c-D',
  '1e3',
] as const;

const LETTERS = 'abcdefghijklmnopqrstuvwxyz';
const LABEL_CHARACTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';

function of(characters: string, dice: Dice, length: number): string {
  return Array.from({ length }, () => characters[dice.roll(characters.length)]).join('');
}

/** A DNS label: 1 to 63 characters. */
export function dnsLabel(dice: Dice, length: number): string {
  return of(LETTERS, dice, Math.max(1, Math.min(63, length)));
}

/** A DNS subdomain of 253 characters: as long as a name may be. */
export function longestName(dice: Dice): string {
  return [63, 63, 63, 61].map((length) => dnsLabel(dice, length)).join('.');
}

/** The longest key of a label: 253 characters, a slash, and 63. */
export function longestKey(dice: Dice): string {
  return `${longestName(dice)}/${labelText(dice, 63)}`;
}

/** A key's name or a value: up to 63 characters, with what may be inside of it. */
export function labelText(dice: Dice, length: number): string {
  if (length < 3) return of(LABEL_CHARACTERS, dice, Math.max(1, length));
  const inside = of(`${LABEL_CHARACTERS}-_.`, dice, Math.min(63, length) - 2);
  return `${of(LABEL_CHARACTERS, dice, 1)}${inside}${of(LABEL_CHARACTERS, dice, 1)}`;
}

/** So many different labels. */
export function labels(
  dice: Dice,
  count: number,
  { keys, values }: { readonly keys: number; readonly values: number },
): Record<string, string> {
  const entries: Record<string, string> = {};
  for (let index = 0; index < count; index++)
    entries[`k${index}${keys > 8 ? labelText(dice, keys - 8) : ''}`] = values === 0 ? '' : labelText(dice, values);
  return entries;
}

/** Text that is awkward where it is printed, quoted, or read as something else: for annotations and messages, which may hold anything. */
export const AWKWARD_TEXTS = [
  '\u001b[2J\u001b[31m',
  '{"level":"error","message":"forged"}\n{"x":1}',
  '\u202e\u2066\u200b\ufeff',
  '"\\"\\\\\n\t\r',
  '\ud83d\udca9'.repeat(10),
  '__proto__',
  '['.repeat(5_000),
  '# TYPE sluice_x counter\nsluice_x 1\n',
] as const;

/** As long as the awkward text repeated gets, in characters. */
export function longText(dice: Dice, length: number): string {
  const text = dice.pick([...AWKWARD_TEXTS, 'x']);
  return text
    .repeat(Math.ceil(length / text.length))
    .slice(0, length)
    .toWellFormed()
    .replaceAll('\ufffd', 'x');
}

/** An IPv4 address of a number. */
export function ipv4(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.');
}

/** Another way to write an IPv4 address that Go's parsers take. */
export function oddIPv4(dice: Dice, address: string): string {
  const parts = address.split('.').map(Number);
  const hex = parts.map((part) => part.toString(16).padStart(2, '0'));
  return dice.pick([
    parts.map((part) => String(part).padStart(3, '0')).join('.'),
    `::ffff:${address}`,
    `::FFFF:${hex[0]}${hex[1]}:${hex[2]}${hex[3]}`,
    `0:0:0:0:0:ffff:${address}`,
    address,
  ]);
}

/** Another way to write an IPv6 address. @param address without `::` */
export function oddIPv6(dice: Dice, address: string): string {
  return dice.pick([
    address.toUpperCase(),
    address
      .split(':')
      .map((part) => part.padStart(4, '0'))
      .join(':'),
    address.replace(/(?::0)+:/, '::'),
    address,
  ]);
}

/** A block of IPv4 in one of the ways that the API takes: host bits, leading zeros, a long length, mapped into IPv6. */
export function oddBlock(dice: Dice, number: number, length: number): string {
  const address = ipv4(number);
  const hex = [24, 16, 8, 0].map((shift) => ((number >>> shift) & 255).toString(16).padStart(2, '0'));
  return dice.pick([
    `${address}/${length}`,
    `${address
      .split('.')
      .map((part) => part.padStart(3, '0'))
      .join('.')}/${length}`,
    `${address}/${String(length).padStart(5, '0')}`,
    `::ffff:${address}/${96 + length}`,
    `::FFFF:${hex[0]}${hex[1]}:${hex[2]}${hex[3]}/${96 + length}`,
    `0000:0:0:0:0:ffff:${address}/${96 + length}`,
  ]);
}

export const ENDS_OF_SPACE = [
  '0.0.0.0/0',
  '0.0.0.0/32',
  '255.255.255.255/32',
  '128.0.0.0/1',
  '255.255.255.254/31',
  '::/0',
  '0::0/0',
  '::/128',
  '8000::/1',
  'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128',
  '::ffff:0:0/96',
  '::ffff:255.255.255.255/128',
  '64:ff9b::/96',
] as const;

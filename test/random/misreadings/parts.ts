/** Looking into the parts of a generated policy, which may be of any shape: what they are, and what is wrong with them. */
import { readPrefix } from '../../../src/policy/address.ts';
import type { ApiObject } from '../cluster.ts';
import type { Probe } from '../probes.ts';
import type { Fields } from '../rewrite.ts';
import { declaredNumbers } from '../world.ts';

/** As peers. */
export const EVERYONE: readonly Fields[] = [{ ipBlock: { cidr: '0.0.0.0/0' } }, { ipBlock: { cidr: '::/0' } }];
export const ALL_PROTOCOLS = ['TCP', 'UDP', 'SCTP'] as const;

export const isIcmp = ({ protocol }: Probe): boolean => protocol === 'ICMP';
export const isService = ({ through }: Probe): boolean => through !== 'directly';

export const isEmpty = (value: unknown): boolean => typeof value === 'object' && value !== null && Object.keys(value).length === 0;
export const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);
/** Lists of objects: generated ones hold nothing else. */
export const fieldsOf = (value: unknown): readonly Fields[] => list(value) as readonly Fields[];
export const isNamed = (port: Fields): boolean => typeof port['port'] === 'string' && !/^[0-9]+$/.test(port['port']);
export const cidrOf = (block: Fields): string => String(block['cidr']);

export function hasKeys(value: unknown, ...keys: readonly string[]): value is Fields {
  return typeof value === 'object' && value !== null && keys.every((key) => key in value);
}

export function leaveOut(fields: Fields, left: string): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([key]) => key !== left));
}

export function cannotBeRead(block: Fields): boolean {
  // IPv4 written as IPv6 matches nothing either (row 20).
  return readPrefix(cidrOf(block)) === undefined || cidrOf(block).startsWith('::ffff:');
}

/** Ports of every number that any of the pods declares under a port's name. */
export function united(objects: readonly ApiObject[], port: Fields): Fields[] {
  const { protocol = 'TCP', port: name } = port;
  return declaredNumbers(objects, String(name)).flatMap((number) => ({ protocol, port: number }));
}

/** The same list, where the predicate holds for none. */
export function without(objects: readonly ApiObject[], predicate: (object: ApiObject) => boolean): readonly ApiObject[] {
  const kept = objects.filter((object) => !predicate(object));
  return kept.length === objects.length ? objects : kept;
}

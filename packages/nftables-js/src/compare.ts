/** Whether what the kernel has is what is desired: rules and definitions in a form that can be compared. */
import type { Expression, SetDefinition } from './types.ts';

/**
 * The same text for rules that do the same, apart from what counters have counted: a desired rule and what the kernel gives back of
 * it, whichever way it was written. Rules that differ in registers or in the order of their expressions count as different.
 */
export function canonicalRule(expressions: readonly Expression[]): string {
  return expressions.map(canonicalExpression).join('; ');
}

function canonicalExpression(expression: Expression): string {
  const words: string[] = [expression.expr];
  for (const [name, value] of Object.entries(withoutDefaults(expression)).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (name === 'expr' || value === undefined || value === false) continue;
    words.push(`${name}=${canonicalValue(value)}`);
  }
  return words.join(' ');
}

/** Leaves away what is the same as nothing to the kernel. */
function withoutDefaults(expression: Expression): object {
  switch (expression.expr) {
    case 'counter':
      return { expr: 'counter' };
    case 'log':
      return {
        ...expression,
        // KERN_WARNING
        level: expression.level === 4 ? undefined : expression.level,
        flags: expression.flags || undefined,
        queueThreshold: expression.queueThreshold || undefined,
        prefix: expression.prefix || undefined,
      };
    case 'limit':
      // NFT_LIMIT_PKT_BURST_DEFAULT
      return { ...expression, burst: expression.unit === 'packets' && expression.burst === 0 ? 5 : expression.burst };
    case 'masquerade':
      return { ...expression, flags: expression.flags || undefined };
    case 'nat': {
      const { addressMin, addressMax, portMin, portMax, flags } = expression;
      return {
        ...expression,
        addressMax: addressMax === addressMin ? undefined : addressMax,
        portMax: portMax === portMin ? undefined : portMax,
        // NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED: said by the registers.
        flags: (flags ?? 0) & ~0x3 || undefined,
      };
    }
    case 'reject':
      return { ...expression, code: expression.type === 'tcp-reset' ? undefined : (expression.code ?? 0) };
    case 'payload':
    case 'meta':
    case 'metaSet':
    case 'ct':
    case 'ctSet':
    case 'cmp':
    case 'range':
    case 'bitwise':
    case 'lookup':
    case 'immediate':
    case 'verdict':
    case 'objref':
    case 'unknown':
      return expression;
  }
}

function canonicalValue(value: unknown): string {
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex');
  // Quoted, so that no name or prefix can look like something else.
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}

/**
 * Whether two definitions are of the same set: everything but handle and comment. Neither of these can be changed in place; a set
 * that is defined differently has to be deleted and made anew.
 */
export function sameDefinition(a: SetDefinition, b: SetDefinition): boolean {
  return canonicalDefinition(a) === canonicalDefinition(b);
}

function canonicalDefinition(set: SetDefinition): string {
  const { family, table, name, key, keyBytes, data, dataBytes, flags, timeoutMs = 0n, size = 0 } = set;
  return JSON.stringify([family, table, name, key, keyBytes, data, dataBytes, flags.toSorted(), String(timeoutMs), size]);
}

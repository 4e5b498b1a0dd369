/** What can be matched: a field of a header or of the packet's context, several of them as one, and the forms a match has. */
import { NetlinkError } from '../netlink/errors.ts';
import type { Expression, Register } from '../types.ts';
import type { Part, RuleContext } from './context.ts';
import { prefixMask } from './values.ts';

/** Where a field comes from. */
export interface FieldSource<Value> {
  /** Bytes in a register. */
  readonly bytes: number;
  readonly encode: (value: Value) => Uint8Array;
  readonly load: (register: Register) => Expression;
  /** Its bytes are in the order of the host, so the kernel cannot tell which of two values is greater. */
  readonly unordered?: boolean;
  /** Makes sure that what is loaded is there. */
  readonly need?: (rule: RuleContext) => void;
  /** After the rule has matched that it is equal to this. */
  readonly matched?: (rule: RuleContext, value: Value) => void;
}

/** Anything that can be looked up in a set or map. */
export class Key {
  readonly #fields: readonly FieldSource<never>[];

  constructor(fields: readonly FieldSource<never>[]) {
    this.#fields = fields;
  }

  get fields(): readonly FieldSource<never>[] {
    return this.#fields;
  }

  /** Loads it from register 0 on; each field begins at a register of its own. */
  #load(rule: RuleContext): void {
    for (const { need } of this.#fields) need?.(rule);
    let register = 0;
    for (const { load, bytes } of this.#fields) {
      rule.push(load(register));
      register += Math.ceil(bytes / 4);
    }
  }

  /** It is in the set: `ip saddr @set`. */
  in(set: string): Part {
    return (rule) => {
      this.#load(rule);
      rule.push({ expr: 'lookup', set, register: 0 });
    };
  }

  /** It is not in the set. */
  notIn(set: string): Part {
    return (rule) => {
      this.#load(rule);
      rule.push({ expr: 'lookup', set, register: 0, invert: true });
    };
  }

  /** What the verdict map says of it; where it says nothing the rule ends: `ip saddr vmap @map`. */
  vmap(map: string): Part {
    return (rule) => {
      this.#load(rule);
      rule.push({ expr: 'lookup', set: map, register: 0, destination: 'verdict' });
    };
  }
}

/** One field with values. */
export class Field<Value> extends Key {
  protected readonly source: FieldSource<Value>;

  constructor(source: FieldSource<Value>) {
    super([source]);
    this.source = source;
  }

  protected load(rule: RuleContext): void {
    this.source.need?.(rule);
    rule.push(this.source.load(0));
  }

  eq(value: Value): Part {
    return (rule) => {
      this.load(rule);
      rule.push({ expr: 'cmp', op: 'eq', register: 0, value: this.source.encode(value) });
      this.source.matched?.(rule, value);
    };
  }

  neq(value: Value): Part {
    return (rule) => {
      this.load(rule);
      rule.push({ expr: 'cmp', op: 'neq', register: 0, value: this.source.encode(value) });
    };
  }

  /** From `first` to `last`, both inclusive. Only of header fields: @throws NetlinkError ERR_INVALID of others */
  range(first: Value, last: Value): Part {
    this.#assertOrdered();
    return (rule) => {
      this.load(rule);
      rule.push(
        { expr: 'cmp', op: 'gte', register: 0, value: this.source.encode(first) },
        { expr: 'cmp', op: 'lte', register: 0, value: this.source.encode(last) },
      );
    };
  }

  /** Outside of `first` to `last`. */
  notRange(first: Value, last: Value): Part {
    this.#assertOrdered();
    return (rule) => {
      this.load(rule);
      rule.push({ expr: 'range', op: 'neq', register: 0, from: this.source.encode(first), to: this.source.encode(last) });
    };
  }

  #assertOrdered(): void {
    if (this.source.unordered === true) throw new NetlinkError('ERR_INVALID', 'a range of a field that is not in a header');
  }
}

/** A field of bits: marks, states, flags. */
export class BitField<Value> extends Field<Value> {
  /** The bits in `mask` are those of `value`: `ct mark & 0xff == 0x1`. */
  masked(mask: Value, value: Value, op: 'eq' | 'neq' = 'eq'): Part {
    return (rule) => {
      this.#and(rule, mask);
      rule.push({ expr: 'cmp', op, register: 0, value: this.source.encode(value) });
    };
  }

  /** At least one of these bits is set: `ct state established,related`. */
  any(mask: Value): Part {
    return (rule) => {
      this.#and(rule, mask);
      rule.push({ expr: 'cmp', op: 'neq', register: 0, value: new Uint8Array(this.source.bytes) });
    };
  }

  #and(rule: RuleContext, mask: Value): void {
    this.load(rule);
    rule.push({ expr: 'bitwise', source: 0, destination: 0, mask: this.source.encode(mask), xor: new Uint8Array(this.source.bytes) });
  }
}

/** An address in a header. */
export class AddressField extends Field<string | Uint8Array> {
  readonly #loadBytes: (register: Register, bytes: number) => Expression;

  constructor(source: Omit<FieldSource<string | Uint8Array>, 'load'>, load: (register: Register, bytes: number) => Expression) {
    super({ ...source, load: (register) => load(register, source.bytes) });
    this.#loadBytes = load;
  }

  /** The address is in this network: `prefix('10.0.0.0/8')`. Host bits have to be zero. */
  prefix(cidr: string): Part {
    return this.#prefix(cidr, 'eq');
  }

  notPrefix(cidr: string): Part {
    return this.#prefix(cidr, 'neq');
  }

  #prefix(cidr: string, op: 'eq' | 'neq'): Part {
    const [text = '', bits = ''] = cidr.split('/');
    const address = this.source.encode(text);
    const mask = prefixMask(address.length, /^\d+$/.test(bits) ? Number(bits) : -1);
    if (address.some((byte, at) => (byte & ~(mask[at] ?? 0)) !== 0))
      throw new NetlinkError('ERR_INVALID', `${cidr} has bits behind its prefix`);
    const length = Number(bits);
    return (rule) => {
      this.source.need?.(rule);
      if (length > 0 && length % 8 === 0) {
        // Whole bytes are compared without a mask, as nft does.
        rule.push(this.#loadBytes(0, length / 8), { expr: 'cmp', op, register: 0, value: address.subarray(0, length / 8) });
        return;
      }
      rule.push(
        this.#loadBytes(0, address.length),
        { expr: 'bitwise', source: 0, destination: 0, mask, xor: new Uint8Array(mask.length) },
        { expr: 'cmp', op, register: 0, value: address },
      );
    };
  }
}

/** Several fields as one key: `concat(ip.daddr, meta.l4proto, th.dport).in('named-ports')`. */
export function concat(...keys: readonly Key[]): Key {
  const fields = keys.flatMap((key) => key.fields);
  if (fields.reduce((sum, { bytes }) => sum + Math.ceil(bytes / 4), 0) > 16)
    throw new NetlinkError('ERR_INVALID', 'a concatenation of more than 64 bytes');
  return new Key(fields);
}

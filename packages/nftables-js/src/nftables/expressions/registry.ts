/**
 * All expressions that this version knows, and how a rule holds them (enum nft_expr_attributes). A new one is a file beside these
 * and a line in each of the two tables.
 */
import { type Attribute, type MessageWriter, readAttributes, required } from '../../netlink/attributes.ts';
import type { Expression } from '../../types.ts';
import { bitwise } from './bitwise.ts';
import { cmp } from './cmp.ts';
import type { Codec, ExpressionKind, ExpressionOf } from './codec.ts';
import { counter } from './counter.ts';
import { ct } from './ct.ts';
import { immediate } from './immediate.ts';
import { limit } from './limit.ts';
import { log } from './log.ts';
import { lookup } from './lookup.ts';
import { masquerade } from './masquerade.ts';
import { meta } from './meta.ts';
import { nat } from './nat.ts';
import { objref } from './objref.ts';
import { payload } from './payload.ts';
import { range } from './range.ts';
import { reject } from './reject.ts';

const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;

type KnownKind = Exclude<ExpressionKind, 'unknown'>;

const BY_KIND: { readonly [Kind in KnownKind]: Pick<Codec<Kind>, 'name' | 'write'> } = {
  payload,
  meta,
  metaSet: meta,
  ct,
  ctSet: ct,
  cmp,
  range,
  bitwise,
  lookup,
  immediate,
  verdict: immediate,
  counter,
  objref,
  limit,
  log,
  reject,
  masquerade,
  nat,
};

const READERS: ReadonlyMap<string, Codec<KnownKind>['read']> = new Map(
  [payload, meta, ct, cmp, range, bitwise, lookup, immediate, counter, objref, limit, log, reject, masquerade, nat].map((codec) => [
    codec.name,
    codec.read,
  ]),
);

/** An element of NFTA_RULE_EXPRESSIONS. */
export function writeExpression(writer: MessageWriter, expression: Expression): void {
  const element = writer.beginNested(NFTA_LIST_ELEM);
  if (expression.expr === 'unknown') {
    writer.string(NFTA_EXPR_NAME, expression.name);
    const data = writer.beginNested(NFTA_EXPR_DATA);
    writer.raw(expression.data);
    writer.endNested(data);
  } else writeKnown(writer, expression.expr, expression);
  writer.endNested(element);
}

function writeKnown<Kind extends KnownKind>(writer: MessageWriter, kind: Kind, expression: ExpressionOf<Kind>): void {
  const { name, write } = BY_KIND[kind];
  writer.string(NFTA_EXPR_NAME, name);
  const data = writer.beginNested(NFTA_EXPR_DATA);
  write(writer, expression);
  writer.endNested(data);
}

/** The expressions in NFTA_RULE_EXPRESSIONS, in their order. @throws MalformedError */
export function readExpressions(list: Attribute): Expression[] {
  return Array.from(list.list(), (element) => {
    const attributes = element.nested();
    const name = required(attributes, NFTA_EXPR_NAME, "an expression's name").string();
    const data = attributes.get(NFTA_EXPR_DATA)?.data ?? new Uint8Array();
    const known = READERS.get(name)?.(readAttributes(data));
    return known ?? { expr: 'unknown', name, data: data.slice() };
  });
}

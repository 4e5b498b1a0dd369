/** Rules (enum nft_rule_attributes). */
import { type MessageWriter, readAttributes, required } from '../netlink/attributes.ts';
import type { Rule } from '../types.ts';
import { readExpressions, writeExpression } from './expressions/registry.ts';
import { attributesOf, familyOf } from './message.ts';
import { readComment, writeComment } from './userdata.ts';

const NFTA_RULE_TABLE = 1;
const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_HANDLE = 3;
const NFTA_RULE_EXPRESSIONS = 4;
const NFTA_RULE_POSITION = 6;
const NFTA_RULE_USERDATA = 7;

/** Where a rule goes, or which one is meant: `handle` of the rule to replace, `position` of the one to go before or behind. */
export interface RulePlace {
  readonly handle?: bigint;
  readonly position?: bigint;
}

/** What follows struct nfgenmsg in NFT_MSG_NEWRULE. */
export function writeRule(writer: MessageWriter, rule: Rule, { handle, position }: RulePlace = {}): void {
  writeRuleReference(writer, rule.table, rule.chain, handle);
  if (position !== undefined) writer.be64(NFTA_RULE_POSITION, position);
  const list = writer.beginNested(NFTA_RULE_EXPRESSIONS);
  for (const expression of rule.expressions) writeExpression(writer, expression);
  writer.endNested(list);
  writeComment(writer, NFTA_RULE_USERDATA, rule.comment);
}

/** One rule, all of a chain, or all of a table. */
export function writeRuleReference(writer: MessageWriter, table: string, chain?: string, handle?: bigint): void {
  writer.string(NFTA_RULE_TABLE, table);
  if (chain !== undefined) writer.string(NFTA_RULE_CHAIN, chain);
  if (handle !== undefined) writer.be64(NFTA_RULE_HANDLE, handle);
}

/** @throws MalformedError */
export function readRule(payload: Uint8Array): Rule {
  const attributes = readAttributes(attributesOf(payload));
  const expressions = attributes.get(NFTA_RULE_EXPRESSIONS);
  const handle = attributes.get(NFTA_RULE_HANDLE)?.be64();
  return {
    family: familyOf(payload),
    table: required(attributes, NFTA_RULE_TABLE, "a rule's table").string(),
    chain: required(attributes, NFTA_RULE_CHAIN, "a rule's chain").string(),
    expressions: expressions === undefined ? [] : readExpressions(expressions),
    ...(handle !== undefined && { handle }),
    ...readComment(attributes.get(NFTA_RULE_USERDATA)?.data),
  };
}

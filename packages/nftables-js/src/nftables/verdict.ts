/** Verdicts (enum nft_verdict_attributes), as rules and the data of verdict maps have them. */
import { type Attributes, type MessageWriter, required } from '../netlink/attributes.ts';
import { MalformedError } from '../netlink/errors.ts';
import type { Verdict } from '../types.ts';

const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;

/** NF_DROP, NF_ACCEPT and enum nft_verdicts. */
const CODES: Readonly<Record<Verdict['verdict'], number>> = { drop: 0, accept: 1, continue: -1, break: -2, jump: -3, goto: -4, return: -5 };
const NAMES: ReadonlyMap<number, Verdict['verdict']> = new Map(
  Object.entries(CODES).map(([name, code]) => [code, name as Verdict['verdict']]),
);

/** As data: inside NFTA_IMMEDIATE_DATA or NFTA_SET_ELEM_DATA. */
export function writeVerdict(writer: MessageWriter, verdict: Verdict): void {
  const nest = writer.beginNested(NFTA_DATA_VERDICT);
  writer.be32(NFTA_VERDICT_CODE, CODES[verdict.verdict]);
  if (verdict.verdict === 'jump' || verdict.verdict === 'goto') writer.string(NFTA_VERDICT_CHAIN, verdict.chain);
  writer.endNested(nest);
}

/** Undefined where the data are a value. @throws MalformedError */
export function readVerdict(data: Attributes): Verdict | undefined {
  const nested = data.get(NFTA_DATA_VERDICT)?.nested();
  if (nested === undefined) return undefined;
  const code = required(nested, NFTA_VERDICT_CODE, "a verdict's code").be32() | 0;
  const verdict = NAMES.get(code);
  if (verdict === undefined) throw new MalformedError(`the unknown verdict ${code}`);
  if (verdict !== 'jump' && verdict !== 'goto') return { verdict };
  return { verdict, chain: required(nested, NFTA_VERDICT_CHAIN, `the chain of a ${verdict}`).string() };
}

/**
 * A kernel's table beside the desired one, object by object, in the words of nft(8). Handles and counters differ by nature and are not
 * compared; comments of chains and sets mean nothing.
 *
 * In a chain that Sluice writes the order of the rules before its tail has no meaning (see table-content.ts): those are taken in the
 * kernel's order. Everything else is compared in its order.
 */
import { type Element, type Rule, sameDefinition } from 'nftables-js';
import { elementTexts, expressionList, hookLine, ruleText, setLines } from '../enforcement/nftables/object-text.ts';
import { elementKey } from '../enforcement/nftables/render.ts';
import { canonicalOf, type DesiredTable, type DesiredTableChain, type DesiredTableSet } from '../enforcement/nftables/table-content.ts';
import type { BridgeState } from './bridge-state.ts';
import type { KernelChain, KernelSet, KernelTable } from './kernel-table.ts';

/** One object that is not as it should be. */
export interface Difference {
  readonly object: 'table' | 'chain' | 'set' | 'map' | 'bridge';
  /** `inet sluice`, `ingress/shop/db-0`, `cni0` */
  readonly name: string;
  /** As the kernel has it: it lacks the object, has one that nobody asked for, or has another. */
  readonly kernel: 'missing' | 'extra' | 'different';
  readonly lines: readonly DifferenceLine[];
}

export interface DifferenceLine {
  /** `both`: as it should be; shown to say where the others stand. */
  readonly side: 'desired' | 'kernel' | 'both';
  /** In the words of nft. */
  readonly text: string;
  /** Of a rule that the kernel has: `nft -a list` shows it, `nft delete rule` takes it. */
  readonly handle?: string | undefined;
}

/** A desired table in a form that many kernel tables can be compared with. */
export interface PreparedTable {
  readonly flags: readonly string[];
  readonly name: string;
  readonly chains: ReadonlyMap<string, DesiredTableChain>;
  readonly sets: ReadonlyMap<string, PreparedSet>;
}

interface PreparedSet {
  readonly set: DesiredTableSet;
  readonly elements: ReadonlyMap<string, Element>;
}

/** Copies what it needs: the ruleset may change afterwards. */
export function prepare(desired: DesiredTable): PreparedTable {
  return {
    flags: desired.table.flags,
    name: `${desired.table.family} ${desired.table.name}`,
    chains: new Map([...desired.chains].map((chain) => [chain.chain.name, chain])),
    sets: new Map(
      [...desired.sets].map((set) => [
        set.definition.name,
        { set, elements: new Map([...set.elements()].map((element) => [elementKey(element), { ...element }])) },
      ]),
    ),
  };
}

/**
 * All differences; the table first, then chains and sets, those that are desired before those that are not.
 * @param kernel undefined: there is no table. That is one difference, and not one an object.
 */
export function compareTable(desired: PreparedTable, kernel: KernelTable | undefined): Difference[] {
  if (kernel === undefined) return [{ object: 'table', name: desired.name, kernel: 'missing', lines: [] }];
  const chains = new Map(kernel.chains.map((chain) => [chain.chain.name, chain]));
  const sets = new Map(kernel.sets.map((set) => [set.definition.name, set]));
  const differences: (Difference | undefined)[] = [compareFlags(desired, kernel)];
  const text = (rule: Rule): string => ruleText(rule, { set: (name) => sets.get(name) });
  for (const [name, chain] of desired.chains) differences.push(compareChain(chain, chains.get(name), text));
  for (const [name, chain] of chains) if (!desired.chains.has(name)) differences.push(extraChain(chain, text));
  for (const [name, set] of desired.sets) differences.push(compareSet(set, sets.get(name)));
  for (const [name, set] of sets) {
    // Anonymous sets are shown with the rules that have them.
    if (!desired.sets.has(name) && !name.startsWith('__')) differences.push(extraSet(set));
  }
  return differences.filter((difference) => difference !== undefined);
}

/**
 * Whether somebody owns the table at the moment is not compared: it says whether an agent runs. What keeps others from changing it is
 * `persist`, which only comes with an owner.
 */
function compareFlags({ flags, name }: PreparedTable, { table }: KernelTable): Difference | undefined {
  const lasting = (all: readonly string[]): string[] => all.filter((flag) => flag !== 'owner').toSorted();
  const [wanted, found] = [lasting(flags).join(','), lasting(table.flags).join(',')];
  if (wanted === found) return undefined;
  const lines: DifferenceLine[] = [];
  if (wanted !== '') lines.push({ side: 'desired', text: `flags ${wanted}` });
  if (found !== '') lines.push({ side: 'kernel', text: `flags ${found}` });
  return { object: 'table', name, kernel: 'different', lines };
}

// --- chains

type RuleText = (rule: Rule) => string;

function compareChain(desired: DesiredTableChain, kernel: KernelChain | undefined, text: RuleText): Difference | undefined {
  const { chain, rules, tail } = desired;
  const hook = hookLine(chain);
  if (kernel === undefined) {
    const texts = [...(hook === undefined ? [] : [hook]), ...[...rules, ...tail].map(text)];
    return { object: 'chain', name: chain.name, kernel: 'missing', lines: texts.map((each) => ({ side: 'desired', text: each })) };
  }
  const lines: DifferenceLine[] = [];
  const kernelHook = hookLine(kernel.chain);
  if (hook !== kernelHook) {
    if (hook !== undefined) lines.push({ side: 'desired', text: hook });
    if (kernelHook !== undefined) lines.push({ side: 'kernel', text: kernelHook });
  }
  for (const line of ruleLines(desired, kernel.rules, text)) lines.push(line);
  return lines.length === 0 ? undefined : { object: 'chain', name: chain.name, kernel: 'different', lines };
}

function extraChain({ chain, rules }: KernelChain, text: RuleText): Difference {
  const hook = hookLine(chain);
  return {
    object: 'chain',
    name: chain.name,
    kernel: 'extra',
    lines: [
      ...(hook === undefined ? [] : [{ side: 'kernel', text: hook } as const]),
      ...rules.map((rule) => kernelLine({ rule, canonical: canonicalOf(rule) }, text)),
    ],
  };
}

interface ComparedRule {
  readonly rule: Rule;
  readonly canonical: string;
}

function kernelLine({ rule }: ComparedRule, text: RuleText): DifferenceLine {
  return { side: 'kernel', text: text(rule), ...(rule.handle === undefined ? {} : { handle: String(rule.handle) }) };
}

/** Empty where they are the same; otherwise the rules that differ, with the one before and the one behind each group of them. */
function ruleLines(desired: DesiredTableChain, kernel: readonly Rule[], text: RuleText): DifferenceLine[] {
  const found = kernel.map((rule): ComparedRule => ({ rule, canonical: canonicalOf(rule) }));
  const wanted = inOrderOf(found, desired);
  if (wanted.length === found.length && wanted.every(({ canonical }, at) => canonical === found[at]?.canonical)) return [];
  const steps = sequenceDifference(wanted, found);
  const lines = steps.map(({ side, rule }): DifferenceLine => {
    if (side === 'kernel') return kernelLine(rule, text);
    return { side, text: text(rule.rule) };
  });
  const [removed, added] = (['desired', 'kernel'] as const).map(
    (side) => new Set(lines.filter((line) => line.side === side).map((line) => line.text)),
  );
  return lines.flatMap((line, at) => {
    if (line.side === 'both') {
      const isBeside = [lines[at - 1], lines[at + 1]].some((other) => other !== undefined && other.side !== 'both');
      return isBeside ? [line] : [];
    }
    const step = steps[at];
    // Two rules that differ, and that nft would print alike (in the registers they use, say): all of them is said.
    if (step !== undefined && removed?.has(line.text) === true && added?.has(line.text) === true && !isMoved(step, steps))
      return [{ ...line, text: expressionList(step.rule.rule) }];
    return [line];
  });
}

function isMoved({ side, rule }: Step, steps: readonly Step[]): boolean {
  return steps.some((other) => other.side !== side && other.side !== 'both' && other.rule.canonical === rule.canonical);
}

/** The desired rules as a sequence: those whose order has no meaning stand as the kernel has them, others where they stood at first. */
function inOrderOf(found: readonly ComparedRule[], { rules, tail }: DesiredTableChain): ComparedRule[] {
  const wanted = rules.map((rule, place) => ({ rule, canonical: canonicalOf(rule), place }));
  const left = new Map<string, (typeof wanted)[number][]>();
  for (const each of wanted) left.set(each.canonical, [...(left.get(each.canonical) ?? []), each]);
  const ordered: (typeof wanted)[number][] = [];
  for (const rule of found) {
    const same = left.get(rule.canonical)?.shift();
    if (same !== undefined) ordered.push(same);
  }
  for (const missing of [...left.values()].flat()) {
    const behind = ordered.findIndex(({ place }) => place > missing.place);
    ordered.splice(behind < 0 ? ordered.length : behind, 0, missing);
  }
  return [...ordered, ...tail.map((rule) => ({ rule, canonical: canonicalOf(rule) }))];
}

interface Step {
  readonly side: DifferenceLine['side'];
  readonly rule: ComparedRule;
}

/** Beyond so many pairs of rules nobody looks for what they have in common in between. */
const LARGEST_TABLE = 4_000_000;

/** The longest common subsequence says what stays. Of a group of changes what is desired comes first, as in a patch. */
function sequenceDifference(wanted: readonly ComparedRule[], found: readonly ComparedRule[]): Step[] {
  let start = 0;
  while (start < wanted.length && start < found.length && wanted[start]?.canonical === found[start]?.canonical) start++;
  let [wantedEnd, foundEnd] = [wanted.length, found.length];
  while (wantedEnd > start && foundEnd > start && wanted[wantedEnd - 1]?.canonical === found[foundEnd - 1]?.canonical) {
    wantedEnd--;
    foundEnd--;
  }
  const both = (rule: ComparedRule): Step => ({ side: 'both', rule });
  return [
    ...found.slice(0, start).map(both),
    ...middle(wanted.slice(start, wantedEnd), found.slice(start, foundEnd)),
    ...found.slice(foundEnd).map(both),
  ];
}

function middle(wanted: readonly ComparedRule[], found: readonly ComparedRule[]): Step[] {
  const onlyDesired = (rule: ComparedRule): Step => ({ side: 'desired', rule });
  const onlyKernel = (rule: ComparedRule): Step => ({ side: 'kernel', rule });
  if (wanted.length === 0 || found.length === 0 || wanted.length * found.length > LARGEST_TABLE)
    return [...wanted.map(onlyDesired), ...found.map(onlyKernel)];
  // lengths[i][j]: of the longest common subsequence of wanted from i and found from j on.
  const width = found.length + 1;
  const lengths = new Uint32Array((wanted.length + 1) * width);
  const at = (i: number, j: number): number => lengths[i * width + j] ?? 0;
  for (let i = wanted.length - 1; i >= 0; i--) {
    for (let j = found.length - 1; j >= 0; j--)
      lengths[i * width + j] = wanted[i]?.canonical === found[j]?.canonical ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  }
  const steps: Step[] = [];
  let [i, j] = [0, 0];
  let additions: Step[] = [];
  for (;;) {
    const [one, other] = [wanted[i], found[j]];
    if (one !== undefined && other !== undefined && one.canonical === other.canonical) {
      for (const addition of additions) steps.push(addition);
      steps.push({ side: 'both', rule: other });
      additions = [];
      i++;
      j++;
    } else if (one !== undefined && (other === undefined || at(i + 1, j) >= at(i, j + 1))) {
      steps.push(onlyDesired(one));
      i++;
    } else if (other !== undefined) {
      additions.push(onlyKernel(other));
      j++;
    } else return [...steps, ...additions];
  }
}

// --- sets

function compareSet({ set, elements }: PreparedSet, kernel: KernelSet | undefined): Difference | undefined {
  const { definition } = set;
  const object = definition.data === undefined ? 'set' : 'map';
  if (kernel === undefined) {
    const texts = [...setLines(definition), ...elementTexts(definition, elements.values())];
    return { object, name: definition.name, kernel: 'missing', lines: texts.map((text) => ({ side: 'desired', text })) };
  }
  const lines = [...definitionLines(definition, kernel), ...elementLines(definition, elements, kernel)];
  return lines.length === 0 ? undefined : { object, name: definition.name, kernel: 'different', lines };
}

function definitionLines(desired: PreparedSet['set']['definition'], { definition: found }: KernelSet): DifferenceLine[] {
  if (sameDefinition(desired, found)) return [];
  const [wanted, has] = [setLines(desired), setLines(found)];
  const lines: DifferenceLine[] = [
    ...wanted.flatMap((text) => (has.includes(text) ? [] : [{ side: 'desired', text } as const])),
    ...has.flatMap((text) => (wanted.includes(text) ? [] : [{ side: 'kernel', text } as const])),
  ];
  if (lines.length > 0) return lines;
  // Types that have no length of their own.
  return [
    { side: 'desired', text: `key of ${desired.keyBytes ?? '?'} bytes, data of ${desired.dataBytes ?? '?'}` },
    { side: 'kernel', text: `key of ${found.keyBytes ?? '?'} bytes, data of ${found.dataBytes ?? '?'}` },
  ];
}

function elementLines(
  definition: PreparedSet['set']['definition'],
  wanted: ReadonlyMap<string, Element>,
  { definition: foundDefinition, elements: found }: KernelSet,
): DifferenceLine[] {
  const extra: Element[] = [];
  const left = new Map(wanted);
  for (const element of found) if (!left.delete(elementKey(element))) extra.push(element);
  if (extra.length + left.size === 0) return [];
  // A range is two elements: only together they can be told.
  const isInterval = definition.flags.includes('interval') || foundDefinition.flags.includes('interval');
  const wantedTexts = elementTexts(definition, isInterval ? wanted.values() : left.values());
  const foundTexts = elementTexts(foundDefinition, isInterval ? found : extra);
  const [inWanted, inFound] = [new Set(wantedTexts), new Set(foundTexts)];
  return [
    ...wantedTexts.flatMap((text) => (inFound.has(text) ? [] : [{ side: 'desired', text } as const])),
    ...foundTexts.flatMap((text) => (inWanted.has(text) ? [] : [{ side: 'kernel', text } as const])),
  ];
}

function extraSet({ definition, elements }: KernelSet): Difference {
  return {
    object: definition.data === undefined ? 'set' : 'map',
    name: definition.name,
    kernel: 'extra',
    lines: [...setLines(definition), ...elementTexts(definition, elements)].map((text) => ({ side: 'kernel', text })),
  };
}

// --- bridges

/** What keeps packets between pods of one node from the hooks. A bridge that is not there is none. */
export function compareBridges(bridges: readonly BridgeState[]): Difference[] {
  return bridges.flatMap(({ name, filtering }): Difference[] => {
    const lines: DifferenceLine[] = [];
    if (filtering === null) lines.push({ side: 'desired', text: 'br_netfilter' });
    else {
      const flags = [
        ['nf_call_iptables', filtering.iptables],
        ['nf_call_ip6tables', filtering.ip6tables],
      ] as const;
      for (const [flag, isOn] of flags)
        if (!isOn) lines.push({ side: 'desired', text: `${flag} 1` }, { side: 'kernel', text: `${flag} 0` });
    }
    return lines.length === 0 ? [] : [{ object: 'bridge', name, kernel: 'different', lines }];
  });
}

/**
 * Which documents of a manifest file a question about a few pods can depend on, told from their text: parsing YAML takes a thousand times as
 * long as looking for a word in it. In doubt a document matters: what is passed over is a Pod, Node, Namespace or NetworkPolicy that is written
 * in the usual form and holds none of the words that it would have to hold, or an object of a kind that no verdict asks for.
 */
import { type Address, familyOf, formatAddress, parseAddress } from '../policy/address.ts';

/** What the pods of a question are called, and what they have; names are whole words of a manifest. */
export interface Words {
  readonly pods: ReadonlySet<string>;
  readonly namespaces: ReadonlySet<string>;
  readonly nodes: ReadonlySet<string>;
  readonly addresses: ReadonlySet<Address>;
}

/** The key of the document's own kind stands at the beginning of a line, unless the document is indented or in flow style. */
const KIND = /^kind:[ \t]*(["']?)([A-Za-z]+)\1[ \t]*(?:#.*)?\r?$/gmu;
/** A colon with what can only follow it in an address or the like: behind a key comes a blank. */
const IN_IPV6 = /:[0-9A-Fa-f:]/gu;
const IPV6_CHARACTER = /[0-9A-Fa-f:.]/u;

/** Whether a YAML document may matter to a question about these pods. */
export function mayMatter(text: string, words: Words): boolean {
  const kinds = [...text.matchAll(KIND)].map(([, , kind = '']) => kind);
  const [kind, second] = kinds;
  // An escape may stand for any word. (An alias stands for what is written elsewhere in the document.)
  if (kind === undefined || second !== undefined || kind.endsWith('List') || text.includes('\\')) return true;
  switch (kind) {
    case 'Pod':
      return holds(text, words.pods) || holdsAddress(text, words.addresses);
    case 'Node':
      return holds(text, words.nodes) || holdsAddress(text, words.addresses);
    case 'Namespace':
      return holds(text, words.namespaces);
    case 'NetworkPolicy':
      // One that names no namespace is in `default`.
      return holds(text, words.namespaces) || (words.namespaces.has('default') && !/^ +namespace:/mu.test(text));
    default:
      return false;
  }
}

function holds(text: string, words: ReadonlySet<string>): boolean {
  for (const word of words) if (text.includes(word)) return true;
  return false;
}

/** IPv4 has one text that can be read; IPv6 has many. */
function holdsAddress(text: string, addresses: ReadonlySet<Address>): boolean {
  let asksIPv6 = false;
  for (const address of addresses) {
    if (familyOf(address) === 6) asksIPv6 = true;
    else if (text.includes(formatAddress(address))) return true;
  }
  if (!asksIPv6) return false;
  let done = 0;
  for (const { index } of text.matchAll(IN_IPV6)) {
    // Another colon of what has been read.
    if (index < done) continue;
    let [first, end] = [index, index + 1];
    while (first > 0 && IPV6_CHARACTER.test(text.charAt(first - 1))) first--;
    while (end < text.length && IPV6_CHARACTER.test(text.charAt(end))) end++;
    done = end;
    const address = parseAddress(text.slice(first, end));
    if (address !== undefined && addresses.has(address)) return true;
  }
  return false;
}

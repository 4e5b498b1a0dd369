/**
 * `sluice __complete WORD… TO-COMPLETE`: what a word may be completed to. For shells and for kubectl (kubectl_complete-sluice); it never
 * fails and never asks for anything, and where it takes too long to find names it has none.
 */
import { Command, type Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import type { Inventory } from '../audit/inventory.ts';
import { isFields } from '../policy/problems.ts';
import type { InventoryFlags } from './inventory-options.ts';

/** A command by its name, as src/cli.ts lists them. */
export interface Completable {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<{ command(): Command }>;
}

export interface Candidate {
  readonly text: string;
  readonly description?: string;
}

/** `files`: names of files are wanted instead. */
export type Completion = { readonly files: true } | { readonly files: false; readonly candidates: readonly Candidate[] };

const NOTHING: Completion = { files: false, candidates: [] };
const FILES: Completion = { files: true };

/** What a completion may take: nobody waits longer for a tab. */
const PATIENCE_MS = 3_000;
/** More names than that help nobody. */
const NAMES_MAX = 500;

/** Names of the cluster, for completion. */
export interface ClusterNames {
  namespaces(): Promise<readonly string[]>;
  pods(namespace: string): Promise<readonly string[]>;
  nodes(): Promise<readonly string[]>;
}

export function completeCommand(commands: readonly Completable[]): Command {
  return new Command('__complete')
    .description('for shells')
    .helpOption(false)
    .allowUnknownOption()
    .allowExcessArguments()
    .argument('[words...]')
    .passThroughOptions()
    .action(async (words: readonly string[]) => {
      const timer = setTimeout(() => process.exit(0), PATIENCE_MS);
      const completion = await complete(words, commands, (flags) => namesOf(flags)).catch(() => NOTHING);
      clearTimeout(timer);
      const lines = completion.files
        ? []
        : completion.candidates.map(({ text, description }) => (description === undefined ? text : `${text}\t${description}`));
      process.stdout.write(`${[...lines, completion.files ? ':0' : ':4'].join('\n')}\n`);
    });
}

/** @param words those after the program's name; the last is the one that is being written, and may be empty */
export async function complete(
  words: readonly string[],
  commands: readonly Completable[],
  namesFor: (flags: InventoryFlags) => ClusterNames,
): Promise<Completion> {
  const word = words.at(-1) ?? '';
  const before = words.slice(0, -1);
  const position = before.findIndex((one) => !one.startsWith('-'));
  const called = position < 0 ? undefined : before[position];
  if (called === undefined || called === 'help') {
    const names = commands.map(({ name, summary }) => ({ text: name, description: summary }));
    return { files: false, candidates: beginning(called === undefined ? [...names, { text: 'help' }] : names, word) };
  }
  const entry = commands.find(({ name }) => name === called);
  if (entry === undefined) return NOTHING;
  let command = (await entry.load()).command();
  const { given, positional } = read(command, before.slice(position + 1));
  // Of a command with commands of its own (lab run) the next word says which.
  const below = command.commands.find((one) => one.name() === positional[0]);
  if (below !== undefined) {
    command = below;
    positional.shift();
  }
  const names = namesFor(given);
  const waiting = valueWaiting(command, before);
  if (waiting !== undefined) return await completeValue(waiting, word, given, names);
  const [, long, value] = /^(--[\w-]+)=(.*)$/u.exec(word) ?? [];
  if (long !== undefined && value !== undefined) {
    const option = command.options.find((one) => one.long === long);
    if (option === undefined) return NOTHING;
    const completion = await completeValue(option, value, given, names);
    if (completion.files) return completion;
    return { files: false, candidates: completion.candidates.map(({ text }) => ({ text: `${long}=${text}` })) };
  }
  if (word.startsWith('-')) {
    const options = [...command.options, ...(command.name() === '__complete' ? [] : [{ long: '--help', description: 'display help' }])];
    return {
      files: false,
      candidates: beginning(
        options.flatMap(({ long: text, description }) =>
          typeof text === 'string' ? [{ text, description: firstSentence(description) }] : [],
        ),
        word,
      ),
    };
  }
  if (below === undefined && positional.length === 0 && command.commands.length > 0) {
    const own = command.commands.map((one) => ({ text: one.name(), description: one.summary() || firstSentence(one.description()) }));
    return { files: false, candidates: beginning(own, word) };
  }
  const registered = command.registeredArguments;
  const argument = registered[positional.length] ?? (registered.at(-1)?.variadic === true ? registered.at(-1) : undefined);
  if (argument === undefined) return NOTHING;
  if (argument.argChoices !== undefined) return { files: false, candidates: beginning(texts(argument.argChoices), word) };
  if (argument.name() === 'source' || argument.name() === 'destination') return await completeEndpoint(word, given, names);
  return FILES;
}

/** The flags that say where names come from, and the words that are no flags. */
function read(
  command: Command,
  words: readonly string[],
): { readonly given: InventoryFlags & { namespace?: string }; positional: string[] } {
  const given: Record<string, string> = {};
  const positional: string[] = [];
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    const [, name = '', value] = /^(-[a-zA-Z]|--[\w-]+)(?:=(.*))?$/u.exec(word) ?? [];
    const option = optionOf(command, name);
    if (option === undefined) {
      if (!word.startsWith('-')) positional.push(word);
      continue;
    }
    if (option.required) given[option.attributeName()] = value ?? words[++index] ?? '';
  }
  return { given, positional };
}

function optionOf(command: Command, name: string): Option | undefined {
  for (const one of [command, ...command.commands]) {
    const option = one.options.find(({ short, long }) => name !== '' && (short === name || long === name));
    if (option !== undefined) return option;
  }
  return undefined;
}

/** The option whose value the word is. */
function valueWaiting(command: Command, before: readonly string[]): Option | undefined {
  const last = before.at(-1) ?? '';
  const option = last.includes('=') ? undefined : optionOf(command, last);
  return option?.required === true ? option : undefined;
}

async function completeValue(
  option: Option,
  word: string,
  given: InventoryFlags & { readonly namespace?: string },
  names: ClusterNames,
): Promise<Completion> {
  if (option.argChoices !== undefined) return { files: false, candidates: beginning(texts(option.argChoices), word) };
  switch (option.attributeName()) {
    case 'namespace':
      return { files: false, candidates: beginning(texts(await names.namespaces()), word) };
    case 'node':
      return { files: false, candidates: beginning(texts(await names.nodes()), word) };
    case 'pod':
    case 'from':
    case 'to':
      return await completeEndpoint(word, given, names);
    default:
      return /^<(?:file|dir|directory)/u.test(option.flags.slice(option.flags.indexOf('<'))) ? FILES : NOTHING;
  }
}

/** `namespace/pod`: first the namespaces, with the pods of the one that is given or of `default`; behind a slash its pods. */
async function completeEndpoint(word: string, { namespace }: { readonly namespace?: string }, names: ClusterNames): Promise<Completion> {
  const slash = word.indexOf('/');
  if (slash >= 0) {
    const of = word.slice(0, slash);
    const pods = await names.pods(of);
    return {
      files: false,
      candidates: beginning(
        pods.map((pod) => ({ text: `${of}/${pod}` })),
        word,
      ),
    };
  }
  const [pods, namespaces] = await Promise.all([names.pods(namespace ?? 'default'), names.namespaces()]);
  return { files: false, candidates: beginning([...texts(pods), ...namespaces.map((one) => ({ text: `${one}/` }))], word) };
}

function texts(of: readonly string[]): Candidate[] {
  return of.map((text) => ({ text }));
}

function beginning(candidates: readonly Candidate[], word: string): Candidate[] {
  return candidates.filter(({ text }) => text.startsWith(word)).slice(0, NAMES_MAX);
}

function firstSentence(text: string): string {
  return text.split(/[;\n]/u, 1)[0] ?? '';
}

/** From where the other words say. */
function namesOf({ source, bundle, kubeconfig, context }: InventoryFlags): ClusterNames {
  if (source !== undefined || bundle !== undefined) {
    let read: Promise<Inventory> | undefined;
    const inventory = (): Promise<Inventory> => (read ??= readFiles(source, bundle));
    const unique = (of: Iterable<string>): string[] => [...new Set(of)].sort();
    return {
      namespaces: async () => unique((await inventory()).pods.map((pod) => pod.namespace)),
      pods: async (namespace) => unique((await inventory()).pods.flatMap((pod) => (pod.namespace === namespace ? [pod.name] : []))),
      nodes: async () => unique((await inventory()).nodes.map(({ name }) => name)),
    };
  }
  const list = async (path: string): Promise<string[]> => {
    const { ApiClient } = await import('../kubernetes/api/client.ts');
    const client = await ApiClient.open({ file: kubeconfig, context, userAgent: `sluice/${packageJson.version}` });
    const { object } = await client.call({ method: 'GET', path, query: { limit: String(NAMES_MAX) }, accept: NAMES_ONLY });
    const items = isFields(object) && Array.isArray(object['items']) ? object['items'] : [];
    return items.flatMap((item: unknown) => {
      const metadata = isFields(item) ? item['metadata'] : undefined;
      const name = isFields(metadata) ? metadata['name'] : undefined;
      return typeof name === 'string' ? [name] : [];
    });
  };
  return {
    namespaces: () => list('/api/v1/namespaces'),
    pods: (namespace) => list(`/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`),
    nodes: () => list('/api/v1/nodes'),
  };
}

async function readFiles(source: string | undefined, bundle = ''): Promise<Inventory> {
  if (source !== undefined) return await (await import('../audit/manifest-inventory.ts')).readDirectory(source);
  return await (await import('../audit/bundle-inventory.ts')).openBundle(bundle);
}

/** https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources */
const NAMES_ONLY = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';

/**
 * Keeps the packets between pods of one node within reach of policy. They meet on a bridge, and pass through the inet hooks only
 * if br_netfilter is loaded and the bridge has both `nf_call_iptables` and `nf_call_ip6tables`. The flags are set on the bridge
 * itself, whenever it appears or somebody switches them off; where that cannot be done, it is said.
 */
import { NETLINK_ROUTE, NetlinkSocket, type Poller } from 'nftables-js';
import { bridgeFilteringAvailable, type Link, listLinks, setBridgeFiltering, watchLinks } from '../rtnetlink/links.ts';

const LOOK_AGAIN_MS = 1_000;

export interface BridgeFilterOptions {
  readonly poller: Poller;
  /** Names of the bridges that pods are attached to. One that is not there yet is waited for. */
  readonly bridges: readonly string[];
  /** Called at the start and after every change; empty: all that is there is filtered. */
  readonly onProblems: (problems: readonly string[]) => void;
  /** A flag had been switched off by somebody, and is on again. */
  readonly onRepair: (bridge: string) => void;
}

export class BridgeFilter {
  readonly #options: BridgeFilterOptions;
  readonly #requests = NetlinkSocket.open(NETLINK_ROUTE);
  readonly #events = NetlinkSocket.open(NETLINK_ROUTE, { receiveBytes: 1 << 20 });
  readonly #stop: () => void;
  readonly #problems = new Map<string, string>();
  /** Index of each bridge whose flags have been seen on. */
  readonly #filtered = new Map<string, number>();
  /** Undefined until the first report. */
  #reported: string | undefined;
  #lookAgain: NodeJS.Timeout | undefined;

  private constructor(options: BridgeFilterOptions) {
    this.#options = options;
    // Watch first and list then, so that nothing is missed in between.
    this.#stop = watchLinks(options.poller, this.#events, (event) => {
      if (event.event === 'overrun') this.#lookAtAll();
      else if (event.event === 'gone') this.#forget(event.name);
      else if (this.#look(event.link)) this.#report();
    });
  }

  /** Sets the flags of the bridges that are there, and watches over them until {@link close}. */
  static start(options: BridgeFilterOptions): BridgeFilter {
    const filter = new BridgeFilter(options);
    filter.#lookAtAll();
    return filter;
  }

  close(): void {
    clearTimeout(this.#lookAgain);
    this.#stop();
    this.#events.close();
    this.#requests.close();
  }

  #lookAtAll(): void {
    for (const link of listLinks(this.#requests)) this.#look(link);
    this.#report();
  }

  /** Whether something is to be reported anew. */
  #look(link: Link): boolean {
    if (link.kind !== 'bridge' || !this.#options.bridges.includes(link.name)) return false;
    const before = this.#problems.get(link.name);
    this.#problems.delete(link.name);
    if (link.bridge === undefined || !bridgeFilteringAvailable()) {
      this.#problems.set(
        link.name,
        `packets between pods on bridge ${link.name} bypass policy: br_netfilter is not loaded (modprobe br_netfilter)`,
      );
    } else if (link.bridge.iptables && link.bridge.ip6tables) {
      this.#filtered.set(link.name, link.index);
    } else {
      try {
        setBridgeFiltering(this.#requests, link, { iptables: true, ip6tables: true });
        if (this.#filtered.get(link.name) === link.index) this.#options.onRepair(link.name);
        this.#filtered.set(link.name, link.index);
      } catch (error) {
        this.#problems.set(
          link.name,
          `packets between pods on bridge ${link.name} bypass policy: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    }
    return before !== this.#problems.get(link.name);
  }

  #forget(name: string): void {
    this.#filtered.delete(name);
    if (this.#problems.delete(name)) this.#report();
  }

  #report(): void {
    const problems = [...this.#problems.values()];
    if (problems.join('\n') !== this.#reported) this.#options.onProblems(problems);
    this.#reported = problems.join('\n');
    clearTimeout(this.#lookAgain);
    // Of a module that is loaded, or an error that is over, no link tells.
    if (this.#problems.size > 0) this.#lookAgain = setTimeout(() => this.#lookAtAll(), LOOK_AGAIN_MS).unref();
  }
}

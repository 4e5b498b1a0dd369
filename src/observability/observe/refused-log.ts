/**
 * Reads the log group that refused packets are sent to. The kernel gives a group to one socket at a time, so that it is this agent's
 * or somebody else's (tcpdump, ulogd): then it is tried again until it is free, and nothing else waits for it.
 */
import { type LoggedPacket, PacketLog, type Poller } from 'nftables-js';

export interface RefusedLogOptions {
  readonly poller: Poller;
  readonly group: number;
  readonly onPacket: (packet: LoggedPacket) => void;
  /** So many were lost between the kernel and here. */
  readonly onLost: (count: number) => void;
  /** The group is somebody else's, or cannot be had at all. Told once, until it was had. */
  readonly onFault: (error: unknown) => void;
  /** It is read from now on. */
  readonly onReading: () => void;
}

const AGAIN_MS = 2_000;
/** The longest header chain that is met: IPv6, a few extension headers, the first bytes of TCP. */
const COPY_BYTES = 96;
/**
 * A packet waits for others so long at most: people do not notice, and a thousand packets a second cost a tenth of the wake-ups. The
 * kernel sends earlier when so many are there, or when its buffer of 4 KiB is full, which some fifteen fill.
 */
const FLUSH_MS = 50;
const PACKETS_TOGETHER = 64;
/** For a second of all that a node with 110 pods may log. */
const RECEIVE_BYTES = 2 << 20;

export class RefusedLog {
  readonly #options: RefusedLogOptions;
  #log: PacketLog | undefined;
  #again: NodeJS.Timeout | undefined;
  #isFaulty = false;

  constructor(options: RefusedLogOptions) {
    this.#options = options;
    this.#open();
  }

  get isReading(): boolean {
    return this.#log !== undefined;
  }

  close(): void {
    clearTimeout(this.#again);
    this.#log?.close();
    this.#log = undefined;
  }

  #open(): void {
    const { poller, group, onPacket, onLost, onFault, onReading } = this.#options;
    try {
      this.#log = PacketLog.open({
        poller,
        group,
        copyBytes: COPY_BYTES,
        queueThreshold: PACKETS_TOGETHER,
        flushMs: FLUSH_MS,
        receiveBytes: RECEIVE_BYTES,
        onEvent: (event) => {
          // An overrun is followed by the number of what was lost.
          if (event.event === 'packet') onPacket(event.packet);
          else if (event.event === 'lost') onLost(event.count);
        },
      });
      this.#isFaulty = false;
      onReading();
    } catch (error) {
      if (!this.#isFaulty) onFault(error);
      this.#isFaulty = true;
      this.#again = setTimeout(() => this.#open(), AGAIN_MS).unref();
    }
  }
}

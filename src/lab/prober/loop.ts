/**
 * The prober's event loop: epoll over sockets of many network namespaces, and timers. It has a thread of its own, so that servers
 * answer and streams keep their rate whatever the main thread is busy with.
 */
import { EINTR, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, checked, libc, syscallError } from '../libc.ts';

const EPOLL_CLOEXEC = 0x80000;
const EVENTS_MAX = 256;
/** struct epoll_event is packed on x86-64 only. */
const DATA_OFFSET = process.arch === 'x64' ? 4 : 8;
const EVENT_SIZE = process.arch === 'x64' ? 12 : 16;

export interface Timer {
  cancel(): void;
}

interface Task {
  due: number;
  readonly everyMs: number | undefined;
  readonly action: () => void;
}

export class Loop {
  readonly #epoll = checked(libc().epoll_create1(EPOLL_CLOEXEC), 'creating an epoll instance');
  readonly #handlers = new Map<number, (events: number) => void>();
  readonly #tasks = new Set<Task>();
  readonly #events = new Uint8Array(EVENTS_MAX * EVENT_SIZE);
  readonly #view = new DataView(this.#events.buffer);

  #control(operation: number, fd: number, events: number): void {
    const event = new Uint8Array(EVENT_SIZE);
    const view = new DataView(event.buffer);
    view.setUint32(0, events, true);
    view.setUint32(DATA_OFFSET, fd, true);
    checked(libc().epoll_ctl(this.#epoll, operation, fd, event), `watching socket ${fd}`);
  }

  /** Calls `handler` whenever one of `events` (EPOLLIN, EPOLLOUT) holds, and on errors always. */
  watch(fd: number, events: number, handler: (events: number) => void): void {
    this.#control(EPOLL_CTL_ADD, fd, events);
    this.#handlers.set(fd, handler);
  }

  change(fd: number, events: number): void {
    this.#control(EPOLL_CTL_MOD, fd, events);
  }

  /** Has to be called before the socket is closed. Nothing is called for it any more, not even what this turn has already collected. */
  unwatch(fd: number): void {
    if (this.#handlers.delete(fd)) this.#control(EPOLL_CTL_DEL, fd, 0);
  }

  after(ms: number, action: () => void): Timer {
    return this.#schedule({ due: performance.now() + ms, everyMs: undefined, action });
  }

  /** At a constant rate: what was missed is made up for. */
  every(ms: number, action: () => void): Timer {
    return this.#schedule({ due: performance.now() + ms, everyMs: ms, action });
  }

  #schedule(task: Task): Timer {
    this.#tasks.add(task);
    return { cancel: () => void this.#tasks.delete(task) };
  }

  /** Waits for the next events or the next timer, and handles what is due. */
  turn(waitMs = Number.POSITIVE_INFINITY): void {
    let until = performance.now() + waitMs;
    for (const task of this.#tasks) until = Math.min(until, task.due);
    const timeout = until === Number.POSITIVE_INFINITY ? -1 : Math.max(0, Math.ceil(until - performance.now()));
    const count = libc().epoll_wait(this.#epoll, this.#events, EVENTS_MAX, timeout);
    if (count < 0 && libc().errno() !== EINTR) throw syscallError('waiting for sockets');
    const ready: (readonly [fd: number, events: number])[] = [];
    for (let index = 0; index < count; index++) {
      const at = index * EVENT_SIZE;
      ready.push([this.#view.getUint32(at + DATA_OFFSET, true), this.#view.getUint32(at, true)]);
    }
    for (const [fd, events] of ready) this.#handlers.get(fd)?.(events);
    const now = performance.now();
    for (const task of this.#tasks) {
      if (task.due > now) continue;
      if (task.everyMs === undefined) {
        this.#tasks.delete(task);
        task.action();
        continue;
      }
      while (task.due <= now && this.#tasks.has(task)) {
        task.due += task.everyMs;
        task.action();
      }
    }
  }

  close(): void {
    libc().close(this.#epoll);
  }
}

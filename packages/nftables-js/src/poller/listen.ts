/**
 * Reads a multicast socket whenever it has something: the loop that all listeners share. It keeps two promises: one flood cannot
 * hold the main thread (it reads a bounded number of datagrams a turn), and nothing that was lost goes unnoticed.
 */
import { type Message, readMessages } from '../netlink/attributes.ts';
import { MalformedError, OverrunError } from '../netlink/errors.ts';
import type { NetlinkSocket } from '../netlink/socket.ts';
import type { Poller } from './poller.ts';

/** After so many datagrams other work gets its turn; a datagram is some 10–100 µs of it. */
const DATAGRAMS_PER_TURN = 64;

export interface MessageListener {
  /** The message's bytes are valid only during the call. */
  message(message: Message): void;
  /** Messages were lost (the receive buffer ran over), or one could not be read: what they told of is unknown. */
  lost(cause: OverrunError | MalformedError): void;
}

/** @returns ends the listening; the socket stays open. May be called from within the listener. */
export function listen(poller: Poller, socket: NetlinkSocket, listener: MessageListener): () => void {
  let stopped = false;
  const stopWatching = poller.watch(socket, () => {
    for (let count = 0; count < DATAGRAMS_PER_TURN; count++) {
      // The listener may have been stopped by the message before; then it hears no more.
      if (stopped) return;
      try {
        const datagram = socket.receive();
        if (datagram === undefined) break;
        for (const message of readMessages(datagram)) {
          if (stopped) return;
          listener.message(message);
        }
      } catch (error) {
        if (!(error instanceof OverrunError || error instanceof MalformedError)) throw error;
        listener.lost(error);
      }
    }
  });
  return () => {
    stopped = true;
    stopWatching();
  };
}

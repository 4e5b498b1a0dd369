/**
 * Generic netlink (linux/genetlink.h): families that modules of the kernel bring along, found by their names, and requests to them.
 * A family has a number only as long as its module is loaded.
 */
import { KernelError, MalformedError, type Message, type MessageWriter, type NetlinkSocket, readAttributes, required } from 'nftables-js';

/** linux/netlink.h: what such a socket is opened with. */
export const NETLINK_GENERIC = 16;

export interface GenericFamily {
  /** The type of its messages. */
  readonly id: number;
  readonly name: string;
  /** Of its protocol. */
  readonly version: number;
}

/** linux/genetlink.h */
const GENL_ID_CTRL = 16;
const CTRL_CMD_NEWFAMILY = 1;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;
const CTRL_ATTR_VERSION = 3;
const GENLMSGHDR_BYTES = 4;
/** The family of families has this version; the kernel does not look at it. */
const CTRL_VERSION = 1;

/** The controller itself: the one family whose number is fixed. */
const CONTROLLER: GenericFamily = { id: GENL_ID_CTRL, name: 'nlctrl', version: CTRL_VERSION };

/**
 * The family of this name; undefined where the kernel has none. To be asked for one makes the kernel load its module, where there is
 * one, whatever the caller may do else.
 */
export function findGenericFamily(socket: NetlinkSocket, name: string): GenericFamily | undefined {
  let found: GenericFamily | undefined;
  try {
    requestGeneric(socket, CONTROLLER, CTRL_CMD_GETFAMILY, {
      write: (writer) => writer.string(CTRL_ATTR_FAMILY_NAME, name),
      each: (command, payload) => {
        if (command === CTRL_CMD_NEWFAMILY) found = readFamily(payload);
      },
      doing: `asking for the generic netlink family ${name}`,
    });
  } catch (error) {
    if (error instanceof KernelError && error.code === 'ENOENT') return undefined;
    throw error;
  }
  return found;
}

function readFamily(payload: Uint8Array): GenericFamily {
  const attributes = readAttributes(payload);
  return {
    id: readU16(required(attributes, CTRL_ATTR_FAMILY_ID, 'the number of a generic netlink family').data),
    name: required(attributes, CTRL_ATTR_FAMILY_NAME, 'the name of a generic netlink family').string(),
    version: required(attributes, CTRL_ATTR_VERSION, 'the version of a generic netlink family').u32(),
  };
}

export interface GenericRequest {
  /** NLM_F_DUMP, where the command gives a table. */
  readonly flags?: number;
  /** The attributes. */
  readonly write: (writer: MessageWriter) => void;
  /** Each answer: its command, and its attributes, which are valid during the call alone. */
  readonly each?: (command: number, attributes: Uint8Array) => void;
  /** For errors, as in `reading WireGuard device wg0`. */
  readonly doing: string;
  /** The table changed meanwhile, and is read again from its start. */
  readonly restart?: () => void;
}

/** @throws KernelError the kernel's answer */
export function requestGeneric(socket: NetlinkSocket, family: GenericFamily, command: number, request: GenericRequest): void {
  const { flags = 0, write, each, doing, restart } = request;
  socket.request(
    family.id,
    flags,
    (writer) => {
      // struct genlmsghdr { u8 cmd; u8 version; u16 reserved; }
      writer.raw(Uint8Array.of(command, family.version, 0, 0));
      write(writer);
    },
    (message) => {
      if (message.type === family.id) each?.(...readGeneric(message));
    },
    doing,
    restart,
  );
}

/** The command of a message, and the attributes after its header. @throws MalformedError */
function readGeneric({ payload }: Message): [command: number, attributes: Uint8Array] {
  const [command] = payload;
  if (command === undefined || payload.length < GENLMSGHDR_BYTES)
    throw new MalformedError(`a generic netlink message of ${payload.length} bytes`);
  return [command, payload.subarray(GENLMSGHDR_BYTES)];
}

/** A number of 16 bits in host order: of these the messages of nfnetlink and rtnetlink have none. */
export function writeU16(writer: MessageWriter, type: number, value: number): void {
  writer.data(type, Uint8Array.of(value & 0xff, value >>> 8));
}

/** @throws MalformedError */
export function readU16(data: Uint8Array): number {
  if (data.length < 2) throw new MalformedError(`a number of 16 bits in ${data.length} bytes`);
  return new DataView(data.buffer, data.byteOffset).getUint16(0, true);
}

/** What is known of a connection and of each of its requests, as the records tell it. */
import { NEVER, type Ns } from "../../base/time.ts";
import { Limits } from "./limits.ts";
import { ReceiveFacts, type Step } from "./receive-facts.ts";
import { SendFacts } from "./send-facts.ts";

/** What happens to a handler. */
export type HandlerEventKind = "run" | "park" | "ready" | "end";

export interface HandlerEvent {
  atNs: Ns;
  kind: HandlerEventKind;
  /** `Parked` code of a park. */
  code: number;
}

/** What the next request on a connection needs to know of the one before. */
export interface Predecessor {
  id: number;
  /** Handler over and response in the kernel. */
  doneNs: Ns;
  /** Last response byte on the wire. */
  deviceNs: Ns;
}

export interface MarkFact {
  name: string;
  atNs: Ns;
  reason?: string;
  value?: number;
}

export interface SynFact {
  arrivedNs: Ns;
  polledNs: Ns;
  pollBeforeNs: Ns;
  atNs: Ns;
}

export class RequestFacts {
  readonly id: number;
  readonly connection: ConnectionFacts;
  readonly first: boolean;
  readonly previous: Predecessor | null;
  readonly self: Predecessor;
  /** Head [headLo,headHi), end of the body (NEVER while unknown). */
  readonly headLo: number;
  readonly headHi: number;
  bodyHi = NEVER;
  readonly headParsedNs: Ns;
  readonly steps: Step[];
  method = "";
  target = "";
  reason = "";
  routedNs: Ns = NEVER;
  pid = 0;
  gid = 0;
  beganNs: Ns = NEVER;
  handlerEndNs: Ns = NEVER;
  readonly events: HandlerEvent[] = [];
  /** Response [responseLo,responseHi); NEVER while unknown. */
  responseLo = NEVER;
  responseHi = NEVER;
  responseBeginNs: Ns = NEVER;
  status = 0;
  /** First acknowledgement of the whole response; or the end by other means. */
  ackedNs: Ns = NEVER;
  endNs: Ns = NEVER;
  coarse = false;
  finished = false;

  constructor(id: number, connection: ConnectionFacts, headLo: number, headHi: number, atNs: Ns, steps: Step[]) {
    this.id = id;
    this.connection = connection;
    this.headLo = headLo;
    this.headHi = headHi;
    this.headParsedNs = atNs;
    this.steps = steps;
    this.previous = connection.latest?.self ?? null;
    this.first = this.previous === null && headLo === 0;
    this.self = { id, doneNs: NEVER, deviceNs: NEVER };
  }

  /** Adds a step of the body's frontier; merges neighbours when there are too many. */
  addStep(step: Step): void {
    this.steps.push(step);
    if (this.steps.length <= Limits.steps) return;
    const kept: Step[] = [];
    for (let i = 0; i < this.steps.length; i += 2) {
      const first = this.steps[i] as Step;
      const second = this.steps[i + 1];
      if (second === undefined) kept.push(first);
      else kept.push({ ...second, offset: first.offset, frameCount: first.frameCount + second.frameCount });
    }
    this.steps.length = 0;
    this.steps.push(...kept);
    this.coarse = true;
  }

  addEvent(kind: HandlerEventKind, code: number, atNs: Ns): void {
    if (this.events.length < Limits.handlerEvents) this.events.push({ atNs, kind, code });
    else this.coarse = true;
  }

  /** Handler over (if it ever began) and the response handed to the kernel? Then later requests may go on. */
  noteDone(writtenHi: number, atNs: Ns): void {
    if (this.self.doneNs !== NEVER || this.responseHi === NEVER || writtenHi < this.responseHi) return;
    if (this.beganNs !== NEVER && this.handlerEndNs === NEVER) return;
    this.self.doneNs = atNs;
  }
}

export class ConnectionFacts {
  readonly id: number;
  local = "";
  remote = "";
  /** Initial sequence numbers; −1 unknown. */
  receiveIsn = -1;
  sendIsn = -1;
  /** Recording began after the connection: only requests whose arrival was seen can be told. */
  readonly partial: boolean;
  /** SYNs of this tuple that were dropped before there was a connection. */
  lostSynNs: Ns = NEVER;
  lostSyns = 0;
  readonly syns: SynFact[] = [];
  synAckNs: Ns = NEVER;
  synAcks = 0;
  handshakeHeldNs: Ns = NEVER;
  establishedNs: Ns = NEVER;
  acceptDepth = 0;
  acceptLimit = 0;
  acceptedNs: Ns = NEVER;
  pid = 0;
  receive: ReceiveFacts;
  send = new SendFacts();
  /** Steps of a head that is not whole yet. */
  headSteps: Step[] = [];
  /** Requests without an end, oldest first. */
  readonly requests: RequestFacts[] = [];
  /** The newest request, even if it has ended. */
  latest: RequestFacts | null = null;
  /** A request was completed since the parser last started. */
  parsedRequest = false;
  everRequested = false;
  ending = 0;
  closedNs: Ns = NEVER;
  startNs: Ns;
  readonly marks: MarkFact[] = [];
  drops = 0;
  /** Last drop already shown in a journey's count. */
  dropsTold = 0;

  constructor(id: number, partial: boolean, atNs: Ns) {
    this.id = id;
    this.partial = partial;
    this.startNs = atNs;
    this.receive = new ReceiveFacts(partial ? -1 : 0);
  }

  mark(mark: MarkFact): void {
    this.marks.push(mark);
    if (this.marks.length > Limits.marks * 4) this.marks.splice(0, Limits.marks);
  }

  /** No story to come begins before `atNs`. */
  forgetMarks(atNs: Ns): void {
    let count = 0;
    while (count < this.marks.length && (this.marks[count] as MarkFact).atNs < atNs) count++;
    if (count > 0) this.marks.splice(0, count);
  }

  /** When the story of this connection starts: its first SYN seen. */
  get firstSynNs(): Ns {
    return Math.min(this.lostSynNs, this.syns[0]?.arrivedNs ?? NEVER);
  }
}

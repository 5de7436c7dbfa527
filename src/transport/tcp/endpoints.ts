/**
 * All endpoints of a host, listeners and connections, in the order they were made: what `ss` walks. A list through the
 * endpoints themselves, since a connection that idles should cost nothing more.
 */
import type { Tcb } from "./tcb.ts";

export class EndpointList implements Iterable<Tcb> {
  size = 0;
  private first: Tcb | null = null;
  private last: Tcb | null = null;

  add(tcb: Tcb): void {
    tcb.prevEndpoint = this.last;
    if (this.last === null) this.first = tcb;
    else this.last.nextEndpoint = tcb;
    this.last = tcb;
    this.size++;
  }

  /** Takes out an endpoint that is in the list. */
  delete(tcb: Tcb): void {
    const { prevEndpoint: prev, nextEndpoint: next } = tcb;
    if (prev === null) this.first = next;
    else prev.nextEndpoint = next;
    if (next === null) this.last = prev;
    else next.prevEndpoint = prev;
    tcb.prevEndpoint = tcb.nextEndpoint = null;
    this.size--;
  }

  *[Symbol.iterator](): Generator<Tcb> {
    for (let tcb = this.first; tcb !== null; ) {
      const next: Tcb | null = tcb.nextEndpoint;
      yield tcb;
      tcb = next;
    }
  }
}

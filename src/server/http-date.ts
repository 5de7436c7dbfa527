/** Dates as HTTP writes them: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7, IMF-fixdate). */
import { latin1Bytes } from "../proto/http1/text.ts";

const DAYS = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"] as const;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"] as const;
const DAY_SECONDS = 86_400;

/** Formats seconds since 1970-01-01 UTC. */
export function httpDate(unixSeconds: number): string {
  const days = Math.floor(unixSeconds / DAY_SECONDS);
  const second = Math.floor(unixSeconds) - days * DAY_SECONDS;
  const { year, month, day } = civil(days);
  const time = `${two(Math.floor(second / 3600))}:${two(Math.floor(second / 60) % 60)}:${two(second % 60)}`;
  const weekday = DAYS[((days % 7) + 7) % 7];
  return `${weekday}, ${two(day)} ${MONTHS[month]} ${String(year).padStart(4, "0")} ${time} GMT`;
}

/**
 * Days since 1970 to a Gregorian date. Years are counted from March, so that the leap day is the last of a year: then
 * a month's first day is (153 m + 2) / 5 days after 1 March.
 */
function civil(days: number): { year: number; month: number; day: number } {
  const fromMarch0 = days + 719_468;
  const era = Math.floor(fromMarch0 / 146_097);
  const dayOfEra = fromMarch0 - era * 146_097;
  const leaps = Math.floor(dayOfEra / 1460) - Math.floor(dayOfEra / 36_524) + Math.floor(dayOfEra / 146_096);
  const yearOfEra = Math.floor((dayOfEra - leaps) / 365);
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const fromMarch = Math.floor((5 * dayOfYear + 2) / 153);
  const day = dayOfYear - Math.floor((153 * fromMarch + 2) / 5) + 1;
  const month = (fromMarch + 2) % 12;
  return { year: yearOfEra + era * 400 + (month < 2 ? 1 : 0), month, day };
}

function two(n: number): string {
  return n < 10 ? `0${n}` : String(n);
}

/** The Date field's line, made once a second. */
export class DateLine {
  private readonly originUnixSeconds: number;
  private second = Number.NaN;
  private line: Uint8Array = new Uint8Array(0);

  /** `originUnixNs`: wall-clock time at which the runtime's clock was 0. */
  constructor(originUnixNs: number | bigint) {
    this.originUnixSeconds = Number(originUnixNs) / 1e9;
  }

  /** "Date: …\r\n" at the runtime's `nowNs`; not to be written to. */
  at(nowNs: number): Uint8Array {
    const second = Math.floor(this.originUnixSeconds + nowNs / 1e9);
    if (second !== this.second) {
      this.second = second;
      this.line = latin1Bytes(`Date: ${httpDate(second)}\r\n`);
    }
    return this.line;
  }
}

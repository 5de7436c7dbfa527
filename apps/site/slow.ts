/** Two ways to take long: waiting without the CPU, and holding it. */
import { MILLISECOND } from "../../src/base/time.ts";
import type { Handler } from "../../src/server/index.ts";
import { wholeNumber } from "./parameters.ts";

const MS_MAX = 60_000;

/** `/slow?ms=1000`: sleeps; the process serves others meanwhile. The journey shows `handler`, reason `sleep`. */
export const slow: Handler = async (w, r) => {
  const ms = wholeNumber("ms", r.queryValue("ms"), MS_MAX, 1000);
  await r.sleep(ms * MILLISECOND);
  w.write(`Slept ${ms} ms\n`);
};

/** `/cpu?ms=100`: holds the process; others wait with reason `loop-busy` and this request as the one who did it. */
export const cpu: Handler = async (w, r) => {
  const ms = wholeNumber("ms", r.queryValue("ms"), MS_MAX, 100);
  await r.burn(ms * MILLISECOND);
  w.write(`Held the CPU for ${ms} ms\n`);
};

/**
 * The clients: goroutines in step style that cost as little as a client can, so that the figures are the stack's.
 */
import { latin1Bytes } from "../src/base/latin1.ts";

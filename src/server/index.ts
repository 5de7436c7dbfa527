/** The server floor's front door: Go's shape. */
export { Headers, LocalProtocolError } from "../proto/http1/headers.ts";
export type { RequestLimits } from "../proto/http1/limits.ts";
export { statusText } from "../proto/http1/status-text.ts";
export { escapeHtml } from "./html.ts";
export { httpDate } from "./http-date.ts";
export { type Handler, notFound, type Route, ServeMux } from "./mux.ts";
export { PatternError } from "./pattern.ts";
export { type ConnectionInfo, Request, RequestBody, RequestError } from "./request.ts";
export { ResponseWriter } from "./response-writer.ts";
export { DEFAULT_TIMEOUTS, listenAndServe, parseListenAddress, Server, type ServerOptions, serve } from "./server.ts";
export type { ServerStats, Timeouts } from "./server-core.ts";

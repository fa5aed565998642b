// The suite has no option for headers. Loaded before it, this gives every request of it the credential of
// CONFORMANCE_BEARER: those of Node's own fetch and http, and those of the undici that the suite brings along.

import http from "node:http";
import { createRequire } from "node:module";

const bearer = process.env.CONFORMANCE_BEARER;
const NAME = "authorization";

function withFetch(next) {
  return (input, init = {}) => {
    const headers = new Headers(init.headers ?? (input instanceof Request ? input.headers : undefined));
    if (!headers.has(NAME)) headers.set(NAME, `Bearer ${bearer}`);
    return next(input, { ...init, headers });
  };
}

function withDispatch(dispatch) {
  return (options, handler) => {
    const named = Object.entries(options.headers ?? {});
    const given = named.some(([name]) => name.toLowerCase() === NAME);
    const headers = given ? options.headers : { ...options.headers, [NAME]: `Bearer ${bearer}` };
    return dispatch({ ...options, headers }, handler);
  };
}

function withRequest(next) {
  return (...given) => {
    const request = next(...given);
    if (!request.hasHeader(NAME)) request.setHeader(NAME, `Bearer ${bearer}`);
    return request;
  };
}

if (bearer) {
  http.request = withRequest(http.request);
  globalThis.fetch = withFetch(globalThis.fetch);
  const { Agent, setGlobalDispatcher } = createRequire(process.argv[1])("undici");
  setGlobalDispatcher(new Agent().compose(withDispatch));
}

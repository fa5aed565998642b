// Loaded before a server that would listen on every interface, at a port that it was told: it listens on a free port of
// loopback instead, and says which on stdout.
"use strict";

const { Server } = require("node:net");

const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  this.once("listening", () => process.stdout.write(`${this.address().port}\n`));
  return listen.call(this, { port: 0, host: "127.0.0.1" }, rest.find((each) => typeof each === "function"));
};

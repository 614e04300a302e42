// The live streams of a browser as one connection for all of its tabs: a browser opens few connections to one server.
// It runs as a shared worker; where there is none, each page runs it for itself.
//
// A tab sends {on: URL} and {off: URL}. It receives {url, event, data} for the events of these streams, `lost` when the
// connection is lost, and `refused` with a status.
"use strict";
(() => {
  // Beside the folder of this script, whether it is a worker or part of a page.
  const shared = new URL("../live", self.document?.currentScript.src ?? self.location.href);
  const GATHER = 20, RETRY = 3000, SILENT = 45000;

  const hub = (csrf) => {
    /** URLs by the function that sends to their tab. */
    const tabs = new Map();
    /** By URL: the id of the last event, and the latest HTML of each part. */
    const streams = new Map();
    let connection = null, timer = 0, silence = 0;

    const notify = (url, event, data) => { for (const [send, urls] of tabs) if (urls.has(url)) send({ url, event, data }); };
    const notifyAll = (event, data) => { for (const url of streams.keys()) notify(url, event, data); };
    const soon = (wait) => { clearTimeout(timer); timer = setTimeout(open, wait); };
    // The server sends something every few seconds; a connection may be dead without an error.
    const listen = () => { clearTimeout(silence); silence = setTimeout(open, SILENT); };

    const receive = (text, urls) => {
      const fields = {};
      for (const line of text.split("\n")) {
        const at = line.indexOf(":");
        if (at > 0) fields[line.slice(0, at)] = line.slice(at + 1).replace(/^ /, "");
      }
      const url = urls[fields.of], stream = streams.get(url);
      if (!stream || !fields.event) return;
      if (fields.id) stream.last = fields.id;
      if (fields.event !== "parts") return notify(url, fields.event, fields.data);
      const parts = JSON.parse(fields.data);
      // A new connection sends every part; most are as they were.
      for (const [id, html] of Object.entries(parts)) if (stream.parts[id] === html) delete parts[id];
      Object.assign(stream.parts, parts);
      notify(url, "parts", parts);
    };

    const open = async () => {
      clearTimeout(timer);
      clearTimeout(silence);
      connection?.abort();
      connection = null;
      const desired = new Set([...tabs.values()].flatMap((urls) => [...urls]));
      for (const url of [...streams.keys()]) if (!desired.has(url)) streams.delete(url);
      if (desired.size === 0) return;
      const mine = connection = new AbortController();
      const urls = [...desired];
      let wait = RETRY;
      try {
        const answer = await fetch(shared, {
          method: "POST", signal: mine.signal, headers: { "content-type": "application/json", "x-csrf-token": csrf },
          body: JSON.stringify(urls.map((url) => ({ url, last: streams.get(url).last }))),
        });
        if (answer.ok) {
          const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
          let rest = "";
          for (let piece; listen(), !(piece = await reader.read()).done;) {
            const events = (rest + piece.value).split("\n\n");
            rest = events.pop();
            for (const event of events) receive(event, urls);
          }
          wait = 0;
        } else notifyAll("refused", String(answer.status));
      } catch { /* The connection was lost, or another takes its place. */ }
      if (mine !== connection) return;
      clearTimeout(silence);
      if (wait) notifyAll("lost");
      soon(wait);
    };

    return (send) => ({ on, off }) => {
      const urls = tabs.get(send) ?? new Set();
      if (off && urls.delete(off)) {
        if (urls.size === 0) tabs.delete(send);
        // What others do not show either ends with the connection; without any tab that is now.
        if (tabs.size === 0) open();
      }
      if (!on) return;
      tabs.set(send, urls.add(on));
      const stream = streams.get(on);
      if (stream && connection) return send({ url: on, event: "parts", data: stream.parts });
      streams.set(on, { last: "", parts: {} });
      soon(GATHER);
    };
  };

  if ("onconnect" in self) {
    const join = hub(self.name);
    self.onconnect = ({ ports: [port] }) => {
      const receive = join((message) => port.postMessage(message));
      port.onmessage = ({ data }) => receive(data);
    };
  } else self.deskgridLive = hub;
})();

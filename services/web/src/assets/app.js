// What every page of Deskgrid's web apps does: theme, ages, live parts, search in logs. No part of it is needed to read
// a page; all text comes escaped from the server.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const $ = (selector, from = document) => from.querySelector(selector);
  const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];

  // Theme: the server reads the cookie, so a page never flashes.
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  $("#theme")?.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    document.cookie = `deskgrid-theme=${root.dataset.theme}; Path=/; Max-Age=31536000; SameSite=Strict`;
  });

  // Ages: `<time class="ago">` counts by itself.
  const span = (seconds) => {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
  };
  const ages = (from = document) => {
    for (const time of $$("time.ago", from)) {
      const at = Date.parse(time.dateTime);
      if (Number.isNaN(at)) continue;
      const text = `${span((Date.now() - at) / 1000)} ago`;
      if (time.textContent !== text) time.textContent = text;
      time.title = new Date(at).toLocaleString();
    }
  };
  ages();
  setInterval(ages, 1000);

  // Puts new HTML in the place of old, touching only what differs: focus, selection, scroll and open menus stay.
  const morph = (from, to) => {
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || (from.id || "") !== (to.id || "")) {
      from.replaceWith(to);
      return;
    }
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    if (from.matches("time.ago") && from.dateTime === to.dateTime) return;
    const kept = from.matches("[data-log]") ? ["data-text"] : from.matches("details") ? ["open"] : from === document.activeElement ? ["value"] : [];
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !kept.includes(name)) from.removeAttribute(name);
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value && !kept.includes(name)) from.setAttribute(name, value);
    // What somebody types, and a log that writes itself.
    if (from.matches("textarea, select, [data-keep]") || (from.matches("[data-log]") && from.dataset.log === to.dataset.log)) return;
    children(from, to);
  };
  const children = (from, to) => {
    const keyed = new Map([...from.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = from.firstChild;
    for (const next of [...to.childNodes]) {
      const known = next.id && keyed.get(next.id);
      if (known) {
        if (known !== at) from.insertBefore(known, at); else at = at.nextSibling;
        morph(known, next);
      } else if (at && !(at.id && keyed.has(at.id)) && at.nodeType === next.nodeType && at.nodeName === next.nodeName) {
        const after = at.nextSibling;
        morph(at, next);
        at = after;
      } else from.insertBefore(next, at);
    }
    while (at) { const after = at.nextSibling; at.remove(); at = after; }
  };
  const put = (id, html) => {
    const element = document.getElementById(id);
    if (!element) return;
    const template = document.createElement("template");
    template.innerHTML = html;
    const follows = $$("[data-follow]", element).filter((log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 24);
    const next = element.cloneNode(false);
    next.append(template.content);
    children(element, next);
    ages(element);
    for (const log of follows) log.scrollTop = log.scrollHeight;
    element.dispatchEvent(new CustomEvent("deskgrid:part", { bubbles: true }));
  };

  // Live parts. A hidden page lets go of its connection: a browser has few for one server.
  const url = document.body.dataset.live;
  const badge = $("#live");
  const say = (state, text) => {
    if (!badge || badge.dataset.state === state) return;
    badge.dataset.state = state;
    badge.lastElementChild.textContent = text;
  };
  const trouble = (text) => {
    const note = $("#trouble");
    if (note && note.textContent !== text) { note.textContent = text; note.hidden = !text; }
  };
  let source = null, again = 0;
  const close = () => { clearTimeout(again); source?.close(); source = null; };
  const open = () => {
    close();
    source = new EventSource(url);
    source.addEventListener("parts", (event) => {
      say("live", "Live");
      trouble("");
      for (const [id, html] of Object.entries(JSON.parse(event.data))) put(id, html);
    });
    source.addEventListener("trouble", (event) => { say("live", "Live"); trouble(event.data); });
    source.addEventListener("error", () => {
      const refused = source?.readyState === EventSource.CLOSED;
      say("broken", refused ? "Not connected" : "Reconnecting");
      if (refused) again = setTimeout(check, 3000);
    });
  };
  // A stream that is refused says nothing more to a page; a plain request does.
  const check = async () => {
    try {
      const answer = await fetch(url, { headers: { accept: "text/event-stream" }, method: "HEAD" });
      if (answer.status === 401) { location.reload(); return; }
    } catch { /* The server is away; it comes back. */ }
    if (!document.hidden) open();
  };
  if (url) {
    document.addEventListener("visibilitychange", () => document.hidden ? close() : open());
    addEventListener("pagehide", close);
    addEventListener("pageshow", (event) => { if (event.persisted) open(); });
    if (!document.hidden) open();
  }

  // Search in a log: `<input data-search="ID">` marks what it finds, and hides other lines when asked.
  const search = (input) => {
    const log = document.getElementById(input.dataset.search);
    if (!log) return;
    const wanted = input.value.toLowerCase();
    const text = log.dataset.text ?? (log.dataset.text = log.textContent);
    const found = [];
    const lines = text.split("\n").filter((line) => !wanted || line.toLowerCase().includes(wanted));
    for (const line of lines) {
      let rest = line;
      for (let at; wanted && (at = rest.toLowerCase().indexOf(wanted)) >= 0;) {
        const mark = document.createElement("mark");
        mark.textContent = rest.slice(at, at + wanted.length);
        found.push(rest.slice(0, at), mark);
        rest = rest.slice(at + wanted.length);
      }
      found.push(`${rest}\n`);
    }
    log.replaceChildren(...found);
  };
  document.addEventListener("input", (event) => { if (event.target.matches?.("[data-search]")) search(event.target); });
  document.addEventListener("deskgrid:part", (event) => {
    for (const input of $$("[data-search]")) {
      const log = document.getElementById(input.dataset.search);
      if (log && event.target.contains(log)) { delete log.dataset.text; if (input.value) search(input); }
    }
  });
  for (const log of $$("[data-follow]")) log.scrollTop = log.scrollHeight;

  // A log as it is written: `<pre data-log="URL">`. The first lines of the stream are those that are shown already.
  let followed = null;
  const tail = () => {
    const log = $("[data-log]");
    if (followed && (!log || followed.url !== log.dataset.log || document.hidden)) { followed.source.close(); followed = null; }
    if (!log || followed || document.hidden) return;
    const state = { url: log.dataset.log, source: new EventSource(log.dataset.log), lines: [] };
    followed = state;
    state.source.addEventListener("lines", (event) => {
      state.lines.push(...JSON.parse(event.data));
      state.lines.splice(0, Math.max(0, state.lines.length - 5000));
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
      log.dataset.text = state.lines.join("\n");
      const input = $(`[data-search="${log.id}"]`);
      if (input?.value) search(input); else log.textContent = log.dataset.text;
      if (atEnd) log.scrollTop = log.scrollHeight;
    });
    state.source.addEventListener("end", () => state.source.close());
    // A log that cannot be followed is shown as it was; it comes again with the page's parts.
    state.source.addEventListener("error", () => state.source.close());
  };
  tail();
  document.addEventListener("deskgrid:part", tail);
  document.addEventListener("visibilitychange", tail);

  // Forms that filter send themselves; "/" goes to the search.
  document.addEventListener("change", (event) => { if (event.target.matches?.("form[data-auto] select")) event.target.form.requestSubmit(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    const field = $("[data-first]");
    if (event.key === "/" && !typing && field) { event.preventDefault(); field.focus(); }
  });
  document.addEventListener("click", (event) => { for (const menu of $$("details.who[open]")) if (!menu.contains(event.target)) menu.open = false; });
  document.addEventListener("submit", (event) => {
    // What is sent twice by a nervous finger is done twice.
    if (event.target.method === "post") for (const button of $$("button", event.target)) setTimeout(() => { button.disabled = true; });
  });
})();

// The script of every page: theme, ages, live parts, search in logs. Pages can be read without it; the server escapes
// all text.
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

  // Ages: `<time class="ago">` shows its age and counts on.
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

  // Replaces old HTML by new HTML where they differ: focus, selection, scroll and open menus stay.
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
    // Fields that a person edits, and a log that is followed, stay.
    if (from.matches("textarea, select, [data-keep]") || (from.matches("[data-log]") && from.dataset.log === to.dataset.log)) return;
    children(from, to);
  };
  const children = (from, to) => {
    const keyed = new Map([...from.children].filter((child) => child.id).map((child) => [child.id, child]));
    let at = from.firstChild;
    for (const next of [...to.childNodes]) {
      const existing = next.id && keyed.get(next.id);
      if (existing) {
        if (existing !== at) from.insertBefore(existing, at); else at = at.nextSibling;
        morph(existing, next);
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

  // Live parts, through the connection that the tabs of this browser share. A hidden page needs none.
  const { live: url, worker, csrf } = document.body.dataset;
  const badge = $("#live");
  const showState = (state, text) => {
    if (!badge || badge.dataset.state === state) return;
    badge.dataset.state = state;
    badge.lastElementChild.textContent = text;
  };
  const showError = (text) => {
    const note = $("#error");
    if (note && note.textContent !== text) { note.textContent = text; note.hidden = !text; }
  };
  /** What is done with the events of a stream, by its URL. */
  const receivers = new Map();
  const onMessage = (message) => receivers.get(message.url)?.(message);
  const join = () => {
    try {
      const { port } = new SharedWorker(worker, csrf);
      port.onmessage = ({ data }) => onMessage(data);
      return (message) => port.postMessage(message);
    } catch { return deskgridLive(csrf)(onMessage); }
  };
  const send = worker ? join() : () => {};
  const show = (address, receiver) => { receivers.set(address, receiver); send({ on: address }); };
  const leave = (address) => { if (receivers.delete(address)) send({ off: address }); };
  const receive = ({ event, data }) => {
    if (event === "parts") {
      showState("live", "Live");
      showError("");
      for (const [id, html] of Object.entries(data)) put(id, html);
    } else if (event === "failed") { showState("live", "Live"); showError(data); }
    else if (event === "lost") showState("broken", "Reconnecting");
    else if (event === "refused") {
      if (data === "401") return location.reload();
      showState("broken", "Not connected");
      if (data === "503") setTimeout(() => { if (!document.hidden) show(url, receive); }, 10000);
    }
  };
  if (url) {
    const toggle = () => document.hidden ? leave(url) : show(url, receive);
    document.addEventListener("visibilitychange", toggle);
    addEventListener("pageshow", (event) => { if (event.persisted) toggle(); });
    toggle();
  }
  addEventListener("pagehide", () => { for (const address of [...receivers.keys()]) leave(address); });

  // Search in a log: `<input data-search="ID">` marks the matches and hides the other lines.
  const search = (input) => {
    const log = document.getElementById(input.dataset.search);
    if (!log) return;
    const sought = input.value.toLowerCase();
    const text = log.dataset.text ?? (log.dataset.text = log.textContent);
    const found = [];
    const lines = text.split("\n").filter((line) => !sought || line.toLowerCase().includes(sought));
    for (const line of lines) {
      let rest = line;
      for (let at; sought && (at = rest.toLowerCase().indexOf(sought)) >= 0;) {
        const mark = document.createElement("mark");
        mark.textContent = rest.slice(at, at + sought.length);
        found.push(rest.slice(0, at), mark);
        rest = rest.slice(at + sought.length);
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

  // A log that is followed: `<pre data-log="URL">`. The stream begins with the lines that the page already shows. Each
  // tab has its own, since it goes on behind the line that this tab received last.
  let followed = null, turn = 0;
  const tab = Math.random().toString(36).slice(2);
  const tail = () => {
    const log = $("[data-log]");
    if (followed && (!log || followed.of !== log.dataset.log || document.hidden)) { leave(followed.address); followed = null; }
    if (!log || followed || document.hidden) return;
    const state = followed = { of: log.dataset.log, address: `${log.dataset.log}&tab=${tab}-${++turn}`, lines: [] };
    show(state.address, ({ event, data }) => {
      // A log that cannot be followed stays as it is; the page's parts update it.
      if (event === "end" || event === "refused") return leave(state.address);
      if (event !== "lines") return;
      state.lines.push(...JSON.parse(data));
      state.lines.splice(0, Math.max(0, state.lines.length - 5000));
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
      log.dataset.text = state.lines.join("\n");
      const input = $(`[data-search="${log.id}"]`);
      if (input?.value) search(input); else log.textContent = log.dataset.text;
      if (atEnd) log.scrollTop = log.scrollHeight;
    });
  };
  tail();
  document.addEventListener("deskgrid:part", tail);
  document.addEventListener("visibilitychange", tail);

  // A filter form submits itself; "/" moves to the search.
  document.addEventListener("change", (event) => { if (event.target.matches?.("form[data-auto] select")) event.target.form.requestSubmit(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    const field = $("[data-first]");
    if (event.key === "/" && !typing && field) { event.preventDefault(); field.focus(); }
  });
  document.addEventListener("click", (event) => { for (const menu of $$("details.who[open]")) if (!menu.contains(event.target)) menu.open = false; });
  document.addEventListener("submit", (event) => {
    // A second click must not submit the form again.
    if (event.target.method === "post") for (const button of $$("button", event.target)) setTimeout(() => { button.disabled = true; });
  });
})();

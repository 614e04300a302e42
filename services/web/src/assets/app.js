// The script of every page: theme, ages, live parts. Pages can be read without it; the server escapes
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

  // Clock: `<time class="clock">` is in UTC, as in the command line, or in the zone of this browser.
  let isLocal = localStorage.getItem("deskgrid-clock") === "local";
  const zone = (date) => !isLocal ? "UTC" : new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" })
    .formatToParts(date).find((part) => part.type === "timeZoneName").value;
  const clock = (at) => {
    const date = new Date(at), shift = isLocal ? date.getTimezoneOffset() * 60000 : 0;
    const text = new Date(at - shift).toISOString();
    return `${text.slice(0, 10)} ${text.slice(11, 23)} ${zone(date)}`;
  };
  const zoneButton = $("#clock");
  zoneButton?.addEventListener("click", () => {
    isLocal = !isLocal;
    localStorage.setItem("deskgrid-clock", isLocal ? "local" : "utc");
    ages();
  });

  // Ages: `<time class="ago">` shows its age, `<time class="elapsed">` how long something lasts; both count on.
  const span = (seconds) => {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s % 86400 / 3600)} h`;
  };
  const length = (seconds) => {
    const s = Math.max(0, Math.floor(seconds)), two = (number) => String(number).padStart(2, "0");
    if (s < 60) return `${s}s`;
    if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
    if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s % 3600 / 60))}m`;
    return `${Math.floor(s / 86400)}d${Math.floor(s % 86400 / 3600)}h`;
  };
  const ages = (from = document) => {
    const now = Date.now();
    if (zoneButton && zoneButton.textContent !== zone(new Date(now))) zoneButton.textContent = zone(new Date(now));
    for (const time of $$("time:is(.ago, .elapsed, .clock)", from)) {
      const at = Date.parse(time.dateTime);
      if (Number.isNaN(at)) continue;
      const kind = time.classList[0], spelled = clock(at);
      const text = { ago: `${span((now - at) / 1000)} ago`, elapsed: length((now - at) / 1000), clock: spelled }[kind];
      if (time.textContent !== text) time.textContent = text;
      if (kind !== "clock") time.title = kind === "elapsed" ? `since ${spelled}` : spelled;
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
    if (from.matches("time") && from.dateTime === to.dateTime && from.className === to.className) return;
    // What a script adds to a log stays until the server has another text for it.
    const kept = from.matches("pre.log") ? ["data-lines"] : from.matches("details") ? ["open"] : from === document.activeElement ? ["value"] : [];
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && !kept.includes(name)) from.removeAttribute(name);
    for (const { name, value } of to.attributes) if (from.getAttribute(name) !== value && !kept.includes(name)) from.setAttribute(name, value);
    // Fields that a person edits, and a log that is followed, stay.
    if (from.matches("textarea, select, [data-keep]") || (from.matches("[data-log]") && from.dataset.log === to.dataset.log) || (from.matches("pre.log") && from.text === to.textContent)) return;
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
    const next = element.cloneNode(false);
    next.append(template.content);
    children(element, next);
    ages(element);
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
      // A page whose contents would be lost keeps them.
      if (data === "401" && document.dispatchEvent(new CustomEvent("deskgrid:expired", { cancelable: true }))) return location.reload();
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
  self.deskgridStreams = { show, leave };
  addEventListener("pagehide", () => { for (const address of [...receivers.keys()]) leave(address); });

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
    if (event.target.method === "post") for (const field of event.target.elements) if (field.type === "submit") setTimeout(() => { field.disabled = true; });
  });

  // Copy buttons. Without TLS there is no clipboard, but a selection that the browser copies.
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest?.("[data-copy]");
    if (!button) return;
    try { await navigator.clipboard.writeText(button.dataset.copy); } catch {
      const field = document.createElement("textarea");
      field.value = button.dataset.copy;
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    button.dataset.copied = "";
    setTimeout(() => { delete button.dataset.copied; }, 1500);
  });

  // Selected rows: how many there are, and all of a page at once.
  const select = ({ target }) => {
    const boxes = $$("input[name=target]"), all = $("[data-select-all]");
    if (target === all) for (const box of boxes) box.checked = all.checked;
    const count = boxes.filter((box) => box.checked).length;
    if (all) [all.checked, all.indeterminate] = [count > 0 && count === boxes.length, count > 0 && count < boxes.length];
    for (const note of $$("[data-selected]")) note.textContent = count ? `${count} selected` : "";
    for (const button of $$("[data-of-selection]")) button.disabled = !count;
  };
  document.addEventListener("change", select);
  document.addEventListener("deskgrid:part", select);
  select({});
})();

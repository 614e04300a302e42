// Logs: `<pre class="log">` with colours, progress lines and a search; one with `data-log="URL"` is followed.
//
// Lines are in blocks. The browser lays out only the blocks that it shows, so a log may have any number of lines.
"use strict";
(() => {
  const BLOCK = 200, BUDGET = 12, MAX_MARKED = 5000;
  const $ = (selector) => document.querySelector(selector);
  const rest = () => new Promise((resolve) => setTimeout(resolve));

  // Text as a terminal shows it: what a carriage return overwrites is gone, colours are classes, other control
  // sequences are left out.
  const CONTROL = /\x1b(?:\[([0-9;:?]*)([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])/g;
  const shown = (line) => line.includes("\r") ? line.replace(/\r+$/, "").replace(/^.*\r/s, "") : line;
  const styled = (line) => {
    const pieces = [], style = new Set();
    let at = 0;
    const add = (text) => {
      if (!text) return;
      if (style.size === 0) return pieces.push(text);
      const span = document.createElement("span");
      span.className = [...style].join(" ");
      span.textContent = text;
      pieces.push(span);
    };
    for (const match of line.matchAll(CONTROL)) {
      add(line.slice(at, match.index));
      at = match.index + match[0].length;
      if (match[2] !== "m") continue;
      for (const code of match[1].split(/[;:]/).map(Number)) {
        const drop = (prefix) => { for (const name of style) if (name.startsWith(prefix)) style.delete(name); };
        if (code === 0) style.clear();
        else if (code === 1) style.add("a-bold");
        else if (code === 22) style.delete("a-bold");
        else if (code === 39) drop("a-c");
        else if (code >= 30 && code <= 37 || code >= 90 && code <= 97) { drop("a-c"); style.add(`a-c${code % 10}`); }
        // Of a colour with parameters the rest is no code.
        else if (code === 38 || code === 48) break;
      }
    }
    add(line.slice(at));
    return pieces;
  };

  /** The view of one log element. */
  const views = new WeakMap();
  const viewOf = (log) => {
    if (!views.has(log)) views.set(log, { log, waiting: [], at: 0, count: 0, isBusy: false, matches: [], found: [], blocks: 0, ended: 0, search: 0 });
    return views.get(log);
  };
  const isAtEnd = (log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 24;

  const append = async (view, lines) => {
    for (const line of lines) view.waiting.push(line);
    if (view.isBusy) return;
    view.isBusy = true;
    while (view.at < view.waiting.length) {
      const until = performance.now() + BUDGET, follows = isAtEnd(view.log);
      while (view.at < view.waiting.length && performance.now() < until) {
        let block = view.log.lastElementChild;
        if (view.count % BLOCK === 0 || !block) {
          block = document.createElement("div");
          block.className = "lines";
          view.log.append(block);
        }
        const room = BLOCK - view.count % BLOCK;
        const some = view.waiting.slice(view.at, view.at + room).map(shown);
        const isPlain = !some.some((line) => line.includes("\x1b"));
        block.append(...isPlain ? [`${some.join("\n")}\n`] : some.flatMap((line) => [...styled(line), "\n"]));
        view.at += some.length;
        view.count += some.length;
      }
      if (follows) view.log.scrollTop = view.log.scrollHeight;
      await rest();
    }
    view.waiting = [];
    view.at = 0;
    view.isBusy = false;
    view.log.dataset.lines = view.count;
    find(view, 0);
  };
  const clear = (view) => {
    view.log.replaceChildren();
    Object.assign(view, { waiting: [], at: 0, count: 0, matches: [], found: [], blocks: 0, ended: 0 });
  };

  // Search: all matches are counted, and those near the chosen one are marked.
  const field = (log) => $(`[data-search="${log.id}"]`);
  const rangeOf = ([block, start, end]) => {
    const range = new Range();
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    let at = 0;
    for (let node; (node = walker.nextNode()); at += node.length) {
      if (start >= at && start < at + node.length) range.setStart(node, start - at);
      if (end > at && end <= at + node.length) { range.setEnd(node, end - at); break; }
    }
    return range;
  };
  const mark = (view, chosen) => {
    CSS.highlights?.clear();
    const from = Math.max(0, chosen - MAX_MARKED / 2);
    const near = view.matches.slice(from, from + MAX_MARKED).map(rangeOf);
    view.chosen = chosen;
    const note = $(`[data-found="${view.log.id}"]`);
    const total = view.matches.length;
    if (note) note.textContent = !field(view.log)?.value ? "" : total ? `${chosen + 1} of ${total}` : "no match";
    if (!total || !self.Highlight) return;
    CSS.highlights.set("found", new Highlight(...near));
    CSS.highlights.set("chosen", new Highlight(near[chosen - from]));
  };
  const go = (view, step) => {
    const total = view.matches.length;
    if (!total) return;
    mark(view, (view.chosen + step + total) % total);
    const match = view.matches[view.chosen];
    match[0].scrollIntoView({ block: "nearest" });
    const place = rangeOf(match).getBoundingClientRect(), log = view.log.getBoundingClientRect();
    view.log.scrollTop += place.top - log.top - log.height / 2;
  };
  const find = async (view, pause) => {
    const turn = ++view.search;
    if (pause) await new Promise((resolve) => setTimeout(resolve, pause));
    const text = field(view.log)?.value ?? "";
    if (text !== view.sought) Object.assign(view, { sought: text, found: [], blocks: 0, ended: 0 });
    // The pattern has the text as it is; letters of any script match in either case.
    const pattern = text && new RegExp(text.replace(/[.*+?^${}()|[\]\\\/]/g, "\\$&"), "giu");
    // Blocks that are full were searched once.
    const { found, log: { children } } = view;
    found.length = view.ended;
    let until = performance.now() + BUDGET;
    for (let at = view.blocks; pattern && at < children.length; at++) {
      for (const match of children[at].textContent.matchAll(pattern)) found.push([children[at], match.index, match.index + match[0].length]);
      if ((at + 1) * BLOCK <= view.count) [view.blocks, view.ended] = [at + 1, found.length];
      if (performance.now() > until) { await rest(); until = performance.now() + BUDGET; }
      if (turn !== view.search) return;
    }
    if (turn !== view.search) return;
    view.matches = found.slice();
    mark(view, Math.min(view.chosen ?? 0, Math.max(0, found.length - 1)));
    if (pause && found.length) go(view, 0);
  };
  const searched = (target) => {
    const log = target.dataset?.search && document.getElementById(target.dataset.search);
    return log && viewOf(log);
  };
  document.addEventListener("input", ({ target }) => { const view = searched(target); if (view) { view.chosen = 0; find(view, 150); } });
  document.addEventListener("keydown", (event) => {
    const view = event.key === "Enter" && searched(event.target);
    if (view) { event.preventDefault(); go(view, event.shiftKey ? -1 : 1); }
  });
  document.addEventListener("click", ({ target }) => {
    const button = target.closest?.("[data-step]"), log = button && document.getElementById(button.dataset.of);
    if (log) go(viewOf(log), Number(button.dataset.step));
  });

  // The text that the server wrote becomes lines.
  const take = () => {
    for (const log of document.querySelectorAll("pre.log[id]")) {
      const text = [...log.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join("");
      if (!text.trim()) continue;
      const view = viewOf(log);
      log.text = log.textContent;
      clear(view);
      append(view, text.replace(/\n$/, "").split("\n"));
      log.scrollTop = log.scrollHeight;
    }
  };

  // A followed log. The stream begins with the lines that the page already shows. Each tab has its own, since it goes
  // on behind the line that this tab received last.
  const { show, leave } = self.deskgridStreams;
  const tab = Math.random().toString(36).slice(2);
  let followed = null, turn = 0;
  const tail = () => {
    const log = $("[data-log]");
    if (followed && (!log || followed.of !== log.dataset.log || document.hidden)) { leave(followed.address); followed = null; }
    if (!log || followed || document.hidden) return;
    const state = followed = { of: log.dataset.log, address: `${log.dataset.log}&tab=${tab}-${++turn}`, isNew: true };
    show(state.address, ({ event, data }) => {
      // A log that cannot be followed stays as it is; the page's parts update it.
      if (event === "end" || event === "refused") return leave(state.address);
      if (event !== "lines") return;
      const view = viewOf(log);
      if (state.isNew) { clear(view); state.isNew = false; }
      append(view, JSON.parse(data));
    });
  };
  take();
  tail();
  document.addEventListener("deskgrid:part", () => { take(); tail(); });
  document.addEventListener("visibilitychange", tail);
  /** For tests: adds lines to a log. */
  self.deskgridLog = (id, lines) => append(viewOf(document.getElementById(id)), lines);
})();

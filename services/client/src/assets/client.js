// The form to submit inputs: files are checked when they are chosen. Small ones are uploaded together, large ones alone,
// each with its progress.
// Without this script the browser submits the whole form.
"use strict";
(() => {
  const form = document.getElementById("submit");
  if (!form) return;
  document.documentElement.classList.add("scripted");
  const $ = (selector) => form.querySelector(selector);
  const { business, fresh, program } = form.dataset;
  const max = Number(form.dataset.max), checked = Number(form.dataset.checked);
  let csrf = $("input[name=csrf]").value;
  const queue = $("#queue"), message = $("#message"), send = $("#send"), field = $("#session");
  /** Requests at the same time. */
  const CHECKING = 6, SENDING = 3;
  /** Bytes of a small file; files and bytes of a request with many. */
  const SMALL = 128 << 10, TOGETHER = 50, TOGETHER_BYTES = 2 << 20;
  /** Files that are shown without folding the list, and names that a note has. */
  const UNFOLDED = 8, NAMED = 10;
  /** The files to submit, by name: {name, file, shared, state, element, problems}. */
  const items = new Map();
  let busy = false, sentTo = null;
  /** Files by their state, and how many are no shared data. */
  const tally = new Map();
  let inputs = 0;
  const count = (state) => tally.get(state) ?? 0;
  const mark = (item, state) => {
    if (item.state) tally.set(item.state, count(item.state) - 1);
    if (state) tally.set(state, count(state) + 1);
    item.state = state;
  };

  const make = (tag, text, name) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit++; }
    return `${unit && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
  };
  const address = (path, parameters) => `${path}?${new URLSearchParams(parameters)}`;
  const session = () => field.value.trim();
  const report = (text, isBad) => { message.textContent = text; message.classList.toggle("bad", Boolean(isBad)); };

  // A login that has expired: the person logs in beside this page, so that the chosen files stay.
  const logIn = () => {
    const link = make("a", "Log in again");
    link.href = "login?next=/sessions";
    link.target = "_blank";
    message.replaceChildren("Your login has expired. ", link, ", then submit.");
    message.classList.add("bad");
  };
  document.addEventListener("deskgrid:expired", (event) => { if (items.size) { event.preventDefault(); logIn(); } });
  // The proof of the new login; true when there is one.
  const renew = async () => {
    const answer = await fetch("sessions", { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    csrf = page.body.dataset.csrf ?? csrf;
    return Boolean(page.body.dataset.csrf);
  };

  // One line of the list.
  const show = (item, state, text) => {
    mark(item, state);
    const good = state === "good" || state === "sent", bad = ["wrong", "failed", "settled"].includes(state);
    item.element.className = `item ${good ? "good" : bad ? "bad" : ""}`;
    item.message.textContent = text;
    item.progress.hidden = state !== "sending" || !item.isAlone;
    item.remove.hidden = ["sending", "sent", "settled"].includes(state);
    // While it is checked once more, its problems stay: what is below must not move.
    if (state !== "checking") { item.problems.replaceChildren(); item.problems.hidden = true; }
    summary();
  };
  const problems = (item, list) => {
    item.problems.replaceChildren(...list.map((problem) => {
      const line = make("li");
      line.append(make("b", `${problem.source ? `${problem.source}, ` : ""}line ${problem.line}, column ${problem.column}`));
      if (problem.field) line.append(" ", make("code", problem.field));
      line.append(`: ${problem.message}`);
      if (problem.text) line.append(make("pre", problem.text));
      return line;
    }));
    item.problems.hidden = list.length === 0;
  };
  const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const summary = () => {
    queue.hidden = items.size === 0;
    folding.hidden = items.size <= UNFOLDED;
    if (!folding.hidden) {
      const bad = count("wrong") + count("failed") + count("settled");
      folding.firstElementChild.textContent = `${plural(items.size, "file")}${bad ? `, ${bad} with a problem` : ""}`;
    }
    queue.classList.toggle("folded", !folding.hidden && fold.getAttribute("aria-expanded") === "false");
    send.disabled = busy;
    send.lastElementChild.textContent = busy ? "Submitting" : inputs ? `Submit ${plural(inputs, "input")}` : "Submit";
    if (busy) return;
    const wrong = count("wrong"), failed = count("failed");
    if (count("checking")) report("Checking…");
    else if (wrong) report(`${wrong} cannot be submitted: correct or remove ${wrong === 1 ? "it" : "them"}.`, true);
    else if (failed) report(`${failed} could not be submitted. Submit again to retry.`, true);
    else if (items.size) report("Ready.");
    else report("");
  };
  const folding = $("#folding"), fold = $("#fold");
  fold.addEventListener("click", () => {
    const isOpen = fold.getAttribute("aria-expanded") === "false";
    fold.setAttribute("aria-expanded", isOpen);
    fold.firstElementChild.textContent = isOpen ? "Show those with a problem" : "Show all";
    summary();
  });

  // What was chosen and is not in the list, or replaced another.
  const notes = $("#notes");
  const note = (reasons) => {
    notes.replaceChildren(...[...reasons].map(([reason, names]) => {
      const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : "";
      return make("li", `${reason}: ${names.slice(0, NAMED).join(", ")}${more}`);
    }));
    notes.parentElement.hidden = reasons.size === 0;
  };
  const isHidden = (name) => name.split("/").some((part) => part.startsWith("."));
  /** Adds [file, name] pairs; names those that it leaves out. Hidden files of a folder are left out, as by the command line. */
  const addAll = (files, shared) => {
    const reasons = new Map();
    const because = (reason, name) => reasons.set(reason, [...reasons.get(reason) ?? [], name]);
    for (const [file, name] of files) {
      const key = `${shared ? "shared" : "input"}:${name}`, other = items.get(key);
      const isBad = other && ["wrong", "failed"].includes(other.state);
      if (name.includes("/") && isHidden(name)) because("Not added, since they are hidden", name);
      else if (other && !isBad && other.file.size === file.size && other.file.lastModified === file.lastModified) because("In the list already", name);
      else if (other && !isBad) because("Not added, since another file of this name is in the list; remove that one first, or rename this one", name);
      else { if (other) because("Replaced, since it had a problem", name); add(file, name, shared, key); }
    }
    note(reasons);
  };

  const remove = (item) => {
    items.delete(item.key);
    item.element.remove();
    mark(item, null);
    if (!item.shared) inputs--;
  };
  const add = (file, name, shared, key) => {
    if (busy) return;
    if (items.has(key)) remove(items.get(key));
    if (!shared) inputs++;
    const item = { key, name, file, shared, check: 0 };
    item.element = make("li");
    const head = make("div", "", "head");
    item.message = make("span", "", "message");
    item.remove = make("button", "", "quiet small");
    item.remove.type = "button";
    item.remove.append(make("span", "Remove"));
    item.remove.setAttribute("aria-label", `Remove ${name}`);
    item.remove.addEventListener("click", () => { remove(item); if (shared) recheck(); summary(); $("#inputs").focus(); });
    head.append(make("b", name), make("span", `${size(file.size)}${shared ? ", shared" : ""}`, "muted small"), item.message, item.remove);
    item.progress = make("progress");
    item.progress.max = 100;
    item.progress.setAttribute("aria-label", `Upload of ${name}`);
    item.problems = make("ol", "", "problems");
    item.element.append(head, item.progress, item.problems);
    items.set(key, item);
    queue.append(item.element);
    show(item, "checking", "");
    if (shared) { checkFile(item); recheck(); } else checkFile(item);
  };

  // Checks before anything is uploaded; the server checks every upload again.
  const market = () => {
    const shared = [...items.values()].filter((item) => item.shared);
    return (shared.find((item) => item.name.split("/").pop() === "market.json") ?? (shared.length === 1 ? shared[0] : undefined))?.file;
  };
  const recheck = () => { for (const item of items.values()) if (!item.shared && item.state !== "sent") checkFile(item); };
  // So many checks at the same time; `turn` is when all have ended.
  let turn = Promise.resolve(), running = 0;
  const waiting = [];
  const start = () => {
    while (running < CHECKING && waiting.length) { running++; waiting.shift()().finally(() => { running--; start(); }); }
  };
  const checkSoon = (task) => {
    turn = Promise.all([turn, new Promise((done) => waiting.push(() => task().finally(done)))]);
    start();
  };
  const checkFile = (item) => {
    const number = ++item.check;
    if (item.file.size > max) return show(item, "wrong", `larger than ${form.dataset.maxText}`);
    if (item.shared) return show(item, "good", "read by every input");
    if (program) return show(item, "unchecked", "your program reads it");
    if (item.file.size > checked) return show(item, "unchecked", "large: the engine checks it");
    show(item, "checking", "checking…");
    checkSoon(() => requestCheck(item, number).catch(() => {
      if (number === item.check && items.get(item.key) === item) show(item, "unchecked", "could not be checked; the server checks it when it is uploaded");
    }));
  };
  const requestCheck = async (item, number) => {
    if (number !== item.check || items.get(item.key) !== item) return;
    const body = new FormData();
    body.append("input", item.file);
    const beside = market();
    if (beside && beside.size <= checked) body.append("market", beside);
    const parameters = { business, job: item.name };
    if (session() && field.validity.valid && !beside) parameters.session = session();
    const post = () => fetch(address("api/v1/check", parameters), { method: "POST", body, headers: { "x-csrf-token": csrf } });
    let answer = await post();
    // After another login in another window, this page has an old proof.
    if ([401, 403].includes(answer.status) && await renew()) answer = await post();
    const found = await answer.json();
    if (number !== item.check || items.get(item.key) !== item) return;
    if (found.code === "bad-session") { blame(found); return show(item, "unchecked", "not checked"); }
    if (answer.status === 401) { show(item, "unchecked", "not checked"); return logIn(); }
    if (!answer.ok) return show(item, "wrong", [found.what, found.why].filter(Boolean).join(": "));
    show(item, { good: "good", unchecked: "unchecked", wrong: "wrong" }[found.verdict], found.summary);
    if (found.problems) problems(item, found.problems);
    else if (found.broken?.length) {
      item.problems.replaceChildren(...found.broken.map((text) => make("li", text)));
      item.problems.hidden = false;
    }
  };

  // Sending.
  const sent = (item, found) => {
    const isSent = !found.code;
    if (found.code === "bad-session") blame(found);
    const text = found.summary ?? [found.what, found.why, found.next].filter(Boolean).join(". ");
    show(item, isSent ? (found.fate === "settled" ? "settled" : "sent") : found.problems ? "wrong" : "failed", text);
    if (found.problems) problems(item, found.problems);
    return isSent;
  };
  const LOST = { code: "lost", what: "the connection was lost; it is not known whether it was submitted, and a second time does no harm" };
  const postAll = async (some, to) => {
    const body = new FormData(), parameters = { business, session: to };
    if ($("input[name=priority]")?.checked) parameters.priority = "true";
    for (const item of some) { body.append("inputs", item.file, item.name); show(item, "sending", "being sent…"); }
    let found;
    try {
      const answer = await fetch(address("api/v1/inputs", parameters), { method: "POST", body, headers: { "x-csrf-token": csrf } });
      found = await answer.json();
    } catch { found = LOST; }
    const results = new Map((found.inputs ?? []).map((result) => [result.job, result]));
    return some.map((item) => sent(item, results.get(item.name) ?? { ...LOST, ...found })).every(Boolean);
  };
  const put = (item, to) => new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const parameters = { business, session: to };
    if (item.shared) parameters.name = item.name; else parameters.job = item.name;
    if (!item.shared && $("input[name=priority]")?.checked) parameters.priority = "true";
    const rows = $("#rows")?.value;
    if (!item.shared && rows && item.name.toLowerCase().endsWith(".csv")) parameters["rows-per-item"] = rows;
    request.open("PUT", address(item.shared ? "api/v1/shared" : "api/v1/inputs", parameters));
    request.setRequestHeader("x-csrf-token", csrf);
    request.responseType = "json";
    let reported = 0;
    request.upload.addEventListener("progress", (event) => {
      const percent = event.lengthComputable && event.total ? Math.floor(event.loaded / event.total * 100) : 0;
      item.progress.value = percent;
      item.message.textContent = percent < 100 ? `${percent} %` : "being stored…";
      // A screen reader announces quarters, not every percent.
      if (item.file.size > 8 << 20 && percent >= reported + 25) { reported = percent; report(`${item.name}: ${percent} %`); }
    });
    request.addEventListener("load", () => {
      const refused = { code: "refused", what: `refused with status ${request.status}` };
      resolve(sent(item, request.response ?? refused));
    });
    request.addEventListener("error", () => resolve(sent(item, LOST)));
    item.isAlone = true;
    item.progress.value = 0;
    show(item, "sending", "0 %");
    request.send(item.file);
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    if (busy) return;
    payload();
    const todo = (shared) => [...items.values()].filter((item) => item.shared === shared && !["sent", "settled"].includes(item.state));
    if (inputs === 0) { report("Choose files or paste a payload first.", true); $("#inputs").focus(); return; }
    blame(null);
    await turn;
    const wrong = [...items.values()].find((item) => item.state === "wrong");
    if (wrong) { summary(); wrong.remove.focus(); wrong.element.scrollIntoView({ block: "nearest" }); return; }
    if (!await renew().catch(() => true)) return logIn();
    busy = true;
    summary();
    const to = session() || sentTo || fresh;
    sentTo = to;
    let good = true;
    for (const item of todo(true)) good = await put(item, to) && good;
    if (good) {
      const waiting = todo(false), groups = [];
      let total = waiting.length, done = 0, group = [], bytes = 0;
      for (const item of waiting) {
        const isTable = $("#rows")?.value && item.name.toLowerCase().endsWith(".csv");
        // A form does not tell a quote in a name from the text that stands for it.
        if (item.file.size > SMALL || isTable || /["%\\]/.test(item.name)) { groups.push([item]); continue; }
        if (group.length === 0 || group.length >= TOGETHER || bytes + item.file.size > TOGETHER_BYTES) { groups.push(group = []); bytes = 0; }
        group.push(item);
        bytes += item.file.size;
      }
      report(`Submitting ${total}…`);
      const lane = async () => {
        for (let some; (some = groups.shift());) {
          good = (some.length > 1 ? await postAll(some, to) : await put(some[0], to)) && good;
          done += some.length;
          if (total > 1) report(`${done} of ${total} sent`);
        }
      };
      await Promise.all(Array.from({ length: SENDING }, lane));
    }
    busy = false;
    summary();
    const link = address("session", { business, session: to });
    if (good && count("settled")) {
      const open = make("a", "Open the session");
      open.href = link;
      message.replaceChildren(`${plural(count("settled"), "input")} not sent: the session has outcomes of these names already. `, open, ", or choose another session.");
      message.classList.add("bad");
    } else if (good) { report("Submitted."); location.assign(link); }
  }, true);

  // Choosing, dropping, pasting.
  const take = (input, shared) => {
    addAll([...input.files].map((file) => [file, file.webkitRelativePath || file.name]), shared);
    input.value = "";
  };
  $("#inputs").addEventListener("change", (event) => take(event.target, false));
  $("#shared").addEventListener("change", (event) => take(event.target, true));
  $("#folder-input").addEventListener("change", (event) => take(event.target, false));
  $("#folder").addEventListener("click", () => $("#folder-input").click());
  field.addEventListener("change", () => {
    blame(field.validity.valid ? null : { what: field.title });
    for (const item of items.values()) if (item.state === "settled") mark(item, "unchecked");
    recheck();
  });
  // The field that is wrong shows why, also when it is in a part that is closed.
  const wrong = $("#session-error");
  const blame = (problem) => {
    wrong.textContent = problem ? [problem.what, problem.why].filter(Boolean).join(": ") : "";
    wrong.hidden = !problem;
    field.setAttribute("aria-invalid", Boolean(problem));
  };
  form.addEventListener("invalid", (event) => { const part = event.target.closest("details"); if (part) part.open = true; }, true);
  const payload = () => {
    const area = $("#payload"), text = area.value;
    if (!text.trim()) return;
    const begin = text.trimStart()[0];
    const guess = begin === "{" || begin === "[" ? "payload.json" : /^[^\n]*\b(id|kind|strike)\b[^\n]*,/.test(text.trimStart()) ? "payload.csv" : "payload.txt";
    const name = $("#payload-name").value.trim() || guess;
    addAll([[new File([text], "payload", { type: "" }), name]], false);
    if (items.get(`input:${name}`)) area.value = "";
  };
  $("#add-payload").addEventListener("click", payload);

  const drop = $("#drop");
  const walk = async (entry, path, found) => {
    if (entry.isFile) found.push([await new Promise((good, bad) => entry.file(good, bad)), path + entry.name]);
    else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (let some; (some = await new Promise((good, bad) => reader.readEntries(good, bad))).length;) {
        for (const inner of some) await walk(inner, `${path}${entry.name}/`, found);
      }
    }
  };
  // Anywhere on the page: a file that is dropped outside the box must not replace the page.
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      if (![...event.dataTransfer?.types ?? []].includes("Files")) return;
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name !== "drop") return;
      const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
      (async () => {
        const found = [];
        for (const entry of entries) await walk(entry, "", found);
        found.sort((one, another) => one[1].localeCompare(another[1]));
        addAll(found, false);
      })().catch(() => report("Some of what was dropped cannot be read.", true));
    });
  }
  // The button that was pressed is the one that is clicked, also when it moves meanwhile; the pointer may still leave it.
  let pressed = null;
  send.addEventListener("pointerdown", (event) => { pressed = event; send.setPointerCapture(event.pointerId); });
  send.addEventListener("pointermove", (event) => {
    const isAway = pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > 40;
    if (isAway && send.hasPointerCapture(event.pointerId)) send.releasePointerCapture(event.pointerId);
  });
  addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });
  summary();
})();

// A session: its end is shown in the title of the tab and, for those who ask for it, as a notification. A hidden page has
// no live parts, so the notification has a stream of its own.
(() => {
  const notify = document.getElementById("notify"), status = document.getElementById("status");
  if (!notify) return;
  const isDone = (from) => from.querySelector("[data-done]")?.dataset.done === "true";
  const title = document.title, name = document.querySelector("h1").textContent;
  const stream = `${document.body.dataset.live}&notify=1`;
  let wasDone = isDone(status);
  const end = (sentence) => {
    if (wasDone) return;
    wasDone = true;
    document.title = `✓ ${title}`;
    if (notify.getAttribute("aria-pressed") === "true") new Notification(`${name} is done`, { body: sentence, tag: `deskgrid-${name}` });
    notify.setAttribute("aria-pressed", "false");
    notify.hidden = true;
    deskgridStreams.leave(stream);
  };
  const check = (from) => {
    if (isDone(from)) return end(from.querySelector("#sentence").textContent);
    wasDone = false;
    document.title = title;
    notify.hidden = !("Notification" in self);
  };
  check(status);
  status.addEventListener("deskgrid:part", () => check(status));
  notify.addEventListener("click", async () => {
    const isOn = notify.getAttribute("aria-pressed") !== "true" && await Notification.requestPermission() === "granted";
    notify.setAttribute("aria-pressed", isOn);
    notify.lastElementChild.textContent = isOn ? "Notifies you" : Notification.permission === "denied" ? "Blocked by the browser" : "Notify me";
    if (!isOn) return deskgridStreams.leave(stream);
    deskgridStreams.show(stream, ({ event, data }) => {
      if (event === "parts" && data.status) check(new DOMParser().parseFromString(data.status, "text/html"));
    });
  });
})();

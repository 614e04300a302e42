// The form to submit inputs: files are checked when they are chosen and uploaded one by one, each with its progress.
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
  const SENDING = 3;
  /** The files to submit, by name: {name, file, shared, state, element, problems}. */
  const items = new Map();
  let busy = false, sentTo = null;

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
    link.href = "/login?next=/sessions";
    link.target = "_blank";
    message.replaceChildren("Your login has expired. ", link, ", then submit.");
    message.classList.add("bad");
  };
  document.addEventListener("deskgrid:expired", (event) => { if (items.size) { event.preventDefault(); logIn(); } });
  // The proof of the new login; true when there is one.
  const renew = async () => {
    const answer = await fetch("/sessions", { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    csrf = page.body.dataset.csrf ?? csrf;
    return Boolean(page.body.dataset.csrf);
  };

  // One line of the list.
  const show = (item, state, text) => {
    item.state = state;
    const good = state === "good" || state === "sent", bad = state === "wrong" || state === "failed";
    item.element.className = `item ${good ? "good" : bad ? "bad" : ""}`;
    item.message.textContent = text;
    item.progress.hidden = state !== "sending";
    item.remove.hidden = state === "sending" || state === "sent";
    item.problems.replaceChildren();
    item.problems.hidden = true;
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
  const summary = () => {
    const all = [...items.values()];
    queue.hidden = all.length === 0;
    const count = (state) => all.filter((item) => item.state === state).length;
    const inputs = all.filter((item) => !item.shared).length;
    send.disabled = busy;
    send.lastElementChild.textContent = busy ? "Submitting" : inputs ? `Submit ${inputs} input${inputs === 1 ? "" : "s"}` : "Submit";
    if (busy) return;
    const wrong = count("wrong"), failed = count("failed");
    if (count("checking")) report("Checking…");
    else if (wrong) report(`${wrong} cannot be computed: correct or remove ${wrong === 1 ? "it" : "them"}.`, true);
    else if (failed) report(`${failed} could not be submitted. Submit again to retry.`, true);
    else if (all.length) report("Ready.");
    else report("");
  };

  const add = (file, name, shared) => {
    if (busy) return;
    const key = `${shared ? "shared" : "input"}:${name}`;
    items.get(key)?.element.remove();
    const item = { key, name, file, shared, check: 0 };
    item.element = make("li");
    const head = make("div", "", "head");
    item.message = make("span", "", "message");
    item.remove = make("button", "", "quiet small");
    item.remove.type = "button";
    item.remove.append(make("span", "Remove"));
    item.remove.setAttribute("aria-label", `Remove ${name}`);
    item.remove.addEventListener("click", () => { items.delete(key); item.element.remove(); if (shared) recheck(); summary(); $("#inputs").focus(); });
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
  let turn = Promise.resolve();
  const checkFile = (item) => {
    const number = ++item.check;
    if (item.file.size > max) return show(item, "wrong", `larger than ${form.dataset.maxText}`);
    if (item.shared) return show(item, "good", "read by every input");
    if (program) return show(item, "unchecked", "your program reads it");
    if (item.file.size > checked) return show(item, "unchecked", "large: the engine checks it");
    show(item, "checking", "checking…");
    turn = turn.then(() => requestCheck(item, number)).catch(() => {
      if (number === item.check) show(item, "unchecked", "could not be checked; the server checks it when it is uploaded");
    });
  };
  const requestCheck = async (item, number) => {
    if (number !== item.check || items.get(item.key) !== item) return;
    const body = new FormData();
    body.append("input", item.file);
    const beside = market();
    if (beside && beside.size <= checked) body.append("market", beside);
    const parameters = { business, job: item.name };
    if (session() && !beside) parameters.session = session();
    const post = () => fetch(address("/api/v1/check", parameters), { method: "POST", body, headers: { "x-csrf-token": csrf } });
    let answer = await post();
    // After another login in another window, this page has an old proof.
    if ([401, 403].includes(answer.status) && await renew()) answer = await post();
    const found = await answer.json();
    if (number !== item.check) return;
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
  const put = (item, to) => new Promise((resolve) => {
    const request = new XMLHttpRequest();
    const parameters = { business, session: to };
    if (item.shared) parameters.name = item.name; else parameters.job = item.name;
    if (!item.shared && $("input[name=priority]")?.checked) parameters.priority = "true";
    const rows = $("#rows")?.value;
    if (!item.shared && rows && item.name.toLowerCase().endsWith(".csv")) parameters["rows-per-item"] = rows;
    request.open("PUT", address(item.shared ? "/api/v1/shared" : "/api/v1/inputs", parameters));
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
    const end = (state, text, list) => { show(item, state, text); if (list) problems(item, list); resolve(state === "sent"); };
    request.addEventListener("load", () => {
      const found = request.response ?? {};
      if (request.status === 201) return end("sent", found.summary);
      const text = [found.what, found.why, found.next].filter(Boolean).join(". ") || `refused with status ${request.status}`;
      end(found.problems ? "wrong" : "failed", text, found.problems);
    });
    request.addEventListener("error", () => end("failed", "the connection was lost; nothing was submitted"));
    item.progress.value = 0;
    show(item, "sending", "0 %");
    request.send(item.file);
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    if (busy) return;
    payload();
    const todo = (shared) => [...items.values()].filter((item) => item.shared === shared && item.state !== "sent");
    if (![...items.values()].some((item) => !item.shared)) { report("Choose files or paste a payload first.", true); $("#inputs").focus(); return; }
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
      const waiting = todo(false);
      const total = waiting.length;
      let done = 0;
      report(`Submitting ${total}…`);
      const lane = async () => {
        for (let item; (item = waiting.shift());) {
          good = await put(item, to) && good;
          done++;
          if (total > 1) report(`${done} of ${total} sent`);
        }
      };
      await Promise.all(Array.from({ length: SENDING }, lane));
    }
    busy = false;
    summary();
    if (good) { report("Submitted."); location.assign(address("/session", { business, session: to })); }
  }, true);

  // Choosing, dropping, pasting.
  const take = (input, shared) => {
    for (const file of input.files) add(file, file.webkitRelativePath || file.name, shared);
    input.value = "";
  };
  $("#inputs").addEventListener("change", (event) => take(event.target, false));
  $("#shared").addEventListener("change", (event) => take(event.target, true));
  $("#folder-input").addEventListener("change", (event) => take(event.target, false));
  $("#folder").addEventListener("click", () => $("#folder-input").click());
  field.addEventListener("change", recheck);
  const payload = () => {
    const area = $("#payload"), text = area.value;
    if (!text.trim()) return;
    const begin = text.trimStart()[0];
    const guess = begin === "{" || begin === "[" ? "payload.json" : /^[^\n]*\b(id|kind|strike)\b[^\n]*,/.test(text.trimStart()) ? "payload.csv" : "payload.txt";
    add(new File([text], "payload", { type: "" }), $("#payload-name").value.trim() || guess, false);
    area.value = "";
  };
  $("#add-payload").addEventListener("click", payload);

  const drop = $("#drop");
  const walk = async (entry, path, found) => {
    if (entry.isFile) found.push([await new Promise((good, bad) => entry.file(good, bad)), path + entry.name]);
    else if (entry.isDirectory) {
      const reader = entry.createReader();
      for (let some; (some = await new Promise((good, bad) => reader.readEntries(good, bad))).length;) {
        for (const inner of some) if (!inner.name.startsWith(".")) await walk(inner, `${path}${entry.name}/`, found);
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
        for (const [file, path] of found) add(file, path, false);
      })().catch(() => report("Some of what was dropped cannot be read.", true));
    });
  }
  addEventListener("beforeunload", (event) => { if (busy) event.preventDefault(); });
  summary();
})();
